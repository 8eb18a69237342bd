"""A file of format 1 whose migration is killed: opened again, it is what it would have become without that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from spladelite import SpladeLite
from spladelite.index.settings import sign

GOLDEN = Path(__file__).parent / "golden" / "format1.db"
KILLED = """
import os, signal, sys
from spladelite import SpladeLite
from spladelite.documents import format2

path, name, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
place = format2.Upgrade if hasattr(format2.Upgrade, name) else format2
original = getattr(place, name)

def killing(*arguments):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

setattr(place, name, killing)
SpladeLite(path).close()
"""
COUNTED = """
import sys
from spladelite import SpladeLite
from spladelite.documents import format2

original, calls = format2.group_words, []
format2.group_words = lambda *arguments: calls.append(arguments) or original(*arguments)
SpladeLite(sys.argv[1]).close()
print(len(calls))
"""


def content(path: Path) -> list[str]:
    """All rows, and the schema, read from a copy: to open a file that was not closed changes it."""
    copy = path.with_name("copy")
    copy.mkdir()
    for file in path.parent.glob("kb.db*"):
        shutil.copy(file, copy)
    connection = apsw.Connection(str(copy / "kb.db"))  # SQLite before 3.43 cannot read the table of FTS5
    try:
        schema = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = [(name, *row) for name in sorted(tables) for row in connection.execute(f"SELECT * FROM {name}")]
        return [str(connection.pragma("user_version")), *map(str, schema), *map(str, rows)]
    finally:
        connection.close()
        shutil.rmtree(copy)


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = Path(shutil.copy(GOLDEN, tmp_path_factory.mktemp("whole") / "kb.db"))
    SpladeLite(path).close()
    assert not list(path.parent.glob("*.migration*"))
    return content(path)


@pytest.mark.skipif(os.name != "posix", reason="kills a process with a signal")
@pytest.mark.parametrize(
    ("function", "call", "prepared"),
    [  # the file has two segments and a tail
        ("prepare", 1, 0),
        ("write_words", 1, 0),
        ("group_words", 2, 1),
        ("write_words", 2, 1),
        ("apply", 1, 2),
        ("read_old_segment", 4, 2),
        ("record_size", 1, 2),
        ("append_words", 1, 2),
        ("add_unread", 1, 2),
    ],
)
def test_a_migration_that_is_killed_goes_on(
    tmp_path: Path, migrated: list[str], function: str, call: int, prepared: int
) -> None:
    path = Path(shutil.copy(GOLDEN, tmp_path / "kb.db"))
    before = content(path)
    assert run(KILLED, path, function, call).returncode == -signal.SIGKILL
    assert content(path) == before
    again = run(COUNTED, path)
    assert again.stderr == ""
    assert int(again.stdout) == 2 - prepared  # segments whose words were made before are not read again
    assert content(path) == migrated
    assert sorted(os.listdir(tmp_path)) == ["kb.db"]
    with SpladeLite(path) as db:
        assert db.check() == []
        assert db.stats().unread == 1


@pytest.mark.skipif(os.name != "posix", reason="kills a process with a signal")
def test_one_that_is_killed_after_its_commit_is_complete(tmp_path: Path, migrated: list[str]) -> None:
    path = Path(shutil.copy(GOLDEN, tmp_path / "kb.db"))
    assert run(KILLED, path, "finish", 1).returncode == -signal.SIGKILL
    SpladeLite(path).close()
    assert content(path) == migrated


def test_a_file_without_words_gets_marks_of_what_its_model_cannot_read(tmp_path: Path) -> None:
    path = Path(shutil.copy(GOLDEN, tmp_path / "kb.db"))
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM document_text; UPDATE meta SET value = '0' WHERE key = 'bm25'")
    sign(connection)
    connection.close()
    with SpladeLite(path) as db:
        assert db.stats().language is None
        assert db.stats().unread == 1
        assert db.check() == []
