"""A database of two documents and a model of numbered words, and what tests do to such a file from outside."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from torture.words import WordModel

from spladelite import SpladeLite

MODEL = WordModel()
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions, signals, links or forks")


def open_database(path: Path | str, **options: Any) -> SpladeLite:
    return SpladeLite(path, MODEL, **options)


def copy_outside(source: Path, target: Path) -> None:
    """Copy in another process: closing the file in this one would drop SQLite's locks."""
    copying = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", copying, str(source), str(target)], check=True)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())


def edit(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def raw(path: Path, sql: str, *args: Any) -> list[Any]:
    """Run a statement that may change the schema's text."""
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute("PRAGMA writable_schema = ON")
    rows = connection.execute(sql, args).fetchall()
    connection.close()
    return rows


def in_threads(count: int, work: Callable[[int], object]) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - reported by the caller
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
