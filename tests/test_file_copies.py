"""Copies of a file, its export, its pickling, and a process that has no descriptor left."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from small_file import copy_outside, names, open_database, posix

from spladelite.errors import (
    InvalidInput,
    NotADatabase,
)


def test_a_copy_of_an_open_files_main_part_says_that_its_log_is_missing(tmp_path: Path) -> None:
    source, copy = tmp_path / "kb.db", tmp_path / "copy.db"
    with open_database(source) as db:
        db.add("w1", ids="a")
        copy_outside(source, copy)
        for options in ({"read_only": True}, {}):
            with suppress(NotADatabase), pytest.warns(UserWarning, match="copy.db-wal is not there"):
                open_database(copy, **options).close()
        open_database(source).close()  # its log is there
    open_database(copy).close()  # closed in good order since


def test_copies_replace_a_file_only_where_that_is_asked_for(tmp_path: Path, file: Path) -> None:
    target = tmp_path / "theirs.db"
    with open_database(file) as db:
        copies: list[Callable[..., None]] = [db.backup, db.export, partial(db.export, slim=True), db.export_rows]
        for write in copies:
            target.write_bytes(b"the only copy of something")
            with pytest.raises(InvalidInput, match="exists already"):
                write(target)
            assert target.read_bytes() == b"the only copy of something"
            write(target, overwrite=True)
            assert target.read_bytes()[:6] == b"SQLite"
            target.write_bytes(b"")
            write(target)  # as tempfile makes it: nothing is lost
        with (
            pytest.raises(InvalidInput, match="another program"),
            patch("spladelite.file.paths.os.replace", side_effect=PermissionError(13, "Access is denied")),
        ):
            db.export(target, overwrite=True)  # Windows, where another process has it open


NO_DESCRIPTORS = """
import os, resource, sys, threading
from spladelite import DatabaseError, SpladeLite
from torture.words import WordModel
db = SpladeLite(sys.argv[1], WordModel())
db.search("w1")
db.add("w3")  # whatever is imported late is there by now
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
spare = []
try:
    while True:
        spare.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
def ask(call):
    try:
        call()
    except DatabaseError as error:
        print("too many open files" in str(error), flush=True)
    except BaseException as error:
        print(repr(error), flush=True)
calls = [lambda: db.search("w1"), lambda: db.add("w2"), lambda: db.sql("SELECT 1")]
for free in range(4):
    for call in calls:
        thread = threading.Thread(target=ask, args=(call,))
        thread.start()
        thread.join()
    ask(lambda: SpladeLite(sys.argv[1], WordModel()).close())
    os.close(spare.pop())
for fd in spare:
    os.close(fd)
db.add("w7", ids="at last")
print(db.check(), "at last" in db)
"""


@posix
def test_without_a_free_descriptor_the_error_says_so_and_nothing_is_lost(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NO_DESCRIPTORS, str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        timeout=60,
    )
    *lines, last = done.stdout.splitlines()
    assert last == "[] True", done.stdout + done.stderr
    assert "True" in lines
    assert set(lines) == {"True"}, lines


def test_a_handle_that_is_pickled_says_what_to_do_instead(file: Path) -> None:
    with open_database(file) as db:
        for copying in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="open it there"):
                copying(db)


def test_a_copy_never_takes_the_place_of_a_file_that_is_in_use(tmp_path: Path, file: Path, unclosed: Path) -> None:
    with open_database(file) as db:
        other = open_database(tmp_path / "other.db")
        for target in (tmp_path / "other.db", unclosed, file):
            for copy in (db.export, db.backup):
                with pytest.raises(InvalidInput):
                    copy(target)
        other.close()
        db.export(tmp_path / "other.db", overwrite=True)
        with open_database(tmp_path / "other.db") as copied:
            assert len(copied) == 3
    assert not [name for name in names(file) if name.endswith(".part")]


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path, file: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_bytes(b"old")

    def refuse(_: int, __: int) -> None:
        raise RuntimeError("enough")

    with open_database(file) as db, pytest.raises(RuntimeError, match="enough"):
        db.backup(target, progress=refuse, overwrite=True)
    assert target.read_bytes() == b"old"
    assert not [name for name in names(target) if name.endswith(".part")]
