"""Which file states open in which mode, and what stays beside a file."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw
import pytest
from raw_sql import connections_of
from small_file import MODEL, copy_outside, edit, in_threads, names, open_database, posix

from spladelite import SpladeLite
from spladelite.errors import (
    CorruptIndex,
    DatabaseError,
    InvalidInput,
    NotADatabase,
    ReadOnly,
    SpladeLiteError,
    UnsupportedFormat,
)


def test_a_closed_file_is_one_plain_file(file: Path) -> None:
    assert names(file) == ["kb.db"]
    assert file.read_bytes()[18:20] == b"\1\1"  # not the WAL format


def test_the_last_writer_closes_it_whichever_that_is(file: Path) -> None:
    first, second = open_database(file), open_database(file)
    second.add("w5", ids="e")
    first.close()
    second.close()
    assert names(file) == ["kb.db"]
    assert file.read_bytes()[18:20] == b"\1\1"


def test_handles_that_close_at_one_moment_leave_one_plain_file(file: Path) -> None:
    """Each sees the other, and neither is the last."""
    db = open_database(file)
    db.add("w5", ids="e")
    other = apsw.Connection(str(file))
    other.execute("SELECT * FROM document").fetchall()
    with patch("spladelite.file.sqlite.time.sleep", lambda _: other.close()):
        db.close()
    assert names(file) == ["kb.db"]
    assert file.read_bytes()[18:20] == b"\1\1"


def test_opening_a_closed_file_waits_for_whoever_opens_it_at_the_same_moment(file: Path) -> None:
    """To leave the rollback journal behind, SQLite needs the file for itself, and does not wait until it has it."""
    other = apsw.Connection(str(file))
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.2, other.execute, ["ROLLBACK"])
    end.start()
    with open_database(file) as db:
        assert not other.in_transaction
        db.add("w5", ids="e")
        other.close()
    end.join()
    assert names(file) == ["kb.db"]


def test_a_log_that_another_handle_ends_before_it_is_used_is_begun_again(file: Path) -> None:
    """Otherwise the writer goes on with a rollback journal, and with less syncing than that needs."""

    class Late(apsw.Connection):
        late = 0

        def pragma(self, name: str, *value: Any, **options: Any) -> Any:
            result = super().pragma(name, *value, **options)
            if value == ("WAL",) and not self.late:
                self.late = 1
                other = apsw.Connection(self.filename)
                assert other.pragma("journal_mode", "DELETE") == "delete"
                other.close()
            return result

    with patch("spladelite.file.sqlite.apsw.Connection", Late), open_database(file) as db:
        with connections_of(db).read() as connection:
            assert isinstance(connection, Late)
            assert connection.late
            assert connection.pragma("journal_mode") == "wal"
        assert "kb.db-wal" in names(file)


def test_a_writer_that_closes_before_a_reader_leaves_a_complete_file(file: Path) -> None:
    with open_database(file, read_only=True) as reader:
        assert len(reader) == 2
        with open_database(file) as db:
            db.add("w5", ids="e")
        assert not file.with_name("kb.db-wal").exists() or not file.with_name("kb.db-wal").stat().st_size
        assert len(reader) == 3


def test_a_thread_that_never_used_the_handle_may_close_it(file: Path) -> None:
    db = open_database(file)
    db.add("w5", ids="e")
    thread = threading.Thread(target=db.close)
    thread.start()
    thread.join()
    assert names(file) == ["kb.db"]


def test_a_handle_that_goes_without_close_leaves_one_plain_file(file: Path) -> None:
    db = open_database(file)
    db.add("w5", ids="e")
    del db
    gc.collect()
    assert names(file) == ["kb.db"]
    assert file.read_bytes()[18:20] == b"\1\1"


def test_a_failing_model_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpladeLiteError):
        SpladeLite(tmp_path / "new.db", tmp_path / "no such model")
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotADatabase, match="not one of SpladeLite's"):
        open_database(path)
    assert path.read_bytes() == before
    assert names(path) == ["theirs.db"]


def test_closing_twice_and_using_a_closed_handle(file: Path) -> None:
    db = open_database(file)
    db.close()
    db.close()
    with pytest.raises(DatabaseError, match="closed"):
        db.search("w1")


CHILD = """
import os, sys, warnings
warnings.simplefilter("ignore")
folder, name, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
from spladelite import SpladeLite
from torture.words import WordModel
model = WordModel()
if hasattr(os, "setuid") and os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
os.chdir("/")
try:
    with SpladeLite(os.path.join(folder, name), model, **options) as db:
        print(len(db.search({2: 1.0, 3: 1.0, 4: 1.0})), "hits")
except Exception as error:
    print(type(error).__name__)
"""


def as_nobody(path: Path, **options: Any) -> str:
    """What an ordinary user gets who opens the file: root may write everywhere."""
    python_path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path.parent), path.name, repr(options)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)
        os.chmod(folder, 0o777)


def placed(source: Path, folder: Path, file_mode: int, folder_mode: int) -> Path:
    for name in ("kb.db", "kb.db-wal"):
        if source.with_name(name).exists():
            (folder / name).write_bytes(source.with_name(name).read_bytes())
            os.chmod(folder / name, file_mode)
    os.chmod(folder, folder_mode)
    return folder / "kb.db"


@posix
@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "options", "expected"),
    [
        (0o666, 0o777, {}, "2 hits"),
        (0o444, 0o777, {}, "ReadOnly"),
        (0o666, 0o555, {}, "ReadOnly"),
        (0o444, 0o555, {}, "ReadOnly"),
        (0o444, 0o777, {"read_only": True}, "2 hits"),
        (0o444, 0o555, {"read_only": True}, "2 hits"),
        (0o444, 0o555, {"immutable": True}, "2 hits"),
        (0o000, 0o777, {"read_only": True}, "NotADatabase"),
    ],
)
def test_a_closed_file(
    file: Path, public: Path, file_mode: int, folder_mode: int, options: dict[str, Any], expected: str
) -> None:
    assert as_nobody(placed(file, public, file_mode, folder_mode), **options) == expected


@posix
@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "options", "expected"),
    [
        (0o666, 0o777, {}, "3 hits"),
        (0o666, 0o777, {"read_only": True}, "3 hits"),
        (0o444, 0o555, {"read_only": True}, "NotADatabase"),
        (0o444, 0o555, {"immutable": True}, "DatabaseError"),
    ],
)
def test_a_file_that_was_not_closed(
    unclosed: Path, public: Path, file_mode: int, folder_mode: int, options: dict[str, Any], expected: str
) -> None:
    assert as_nobody(placed(unclosed, public, file_mode, folder_mode), **options) == expected


@posix
def test_a_wal_file_without_its_log_opens_as_immutable(unclosed: Path, public: Path) -> None:
    """A copy of the main file alone, taken after a checkpoint, in a folder that cannot be written."""
    db = open_database(unclosed)
    with connections_of(db).outside_transaction() as connection:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    copy_outside(unclosed, public / "kb.db")
    db.close()
    os.chmod(public / "kb.db", 0o444)
    os.chmod(public, 0o555)
    assert as_nobody(public / "kb.db", read_only=True) == "ReadOnly"
    assert as_nobody(public / "kb.db", immutable=True) == "3 hits"


def test_paths_that_cannot_be_a_database(tmp_path: Path, file: Path) -> None:
    (tmp_path / "text.db").write_text("This is a text, and a rather long one, so that it could be a header." * 20)
    (tmp_path / "one byte.db").write_bytes(b"S")
    cases: list[tuple[object, dict[str, Any], type[Exception]]] = [
        (tmp_path, {}, NotADatabase),
        (tmp_path / "one byte.db", {}, NotADatabase),
        (tmp_path / "missing" / "kb.db", {}, NotADatabase),
        (tmp_path / "missing.db", {"read_only": True}, NotADatabase),
        (tmp_path / "missing.db", {"immutable": True}, NotADatabase),
        (tmp_path / "text.db", {}, NotADatabase),
        (tmp_path / "nul\0.db", {}, NotADatabase),
        (b"bytes.db", {}, TypeError),
        ("", {}, TypeError),
        (7, {}, TypeError),
        (file, {"durability": "none"}, InvalidInput),
    ]
    for path, options, error in cases:
        with pytest.raises(error):
            SpladeLite(path, MODEL, **options)  # type: ignore[arg-type]
    (tmp_path / "empty.db").touch()
    with pytest.raises(NotADatabase, match="empty"):
        open_database(tmp_path / "empty.db", read_only=True)
    open_database(tmp_path / "empty.db").close()  # as sqlite3 does, an empty file is a new one


@posix
def test_fifos_links_and_loops(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.db").symlink_to(file)
    (tmp_path / "loop.db").symlink_to(tmp_path / "loop.db")
    for name in ("fifo", "loop.db"):
        with pytest.raises(NotADatabase):
            open_database(tmp_path / name)
    with open_database(tmp_path / "link.db") as db:
        db.add("w9", ids="z")
        with open_database(file) as same:
            assert "z" in same
    assert names(file) == ["fifo", "kb.db", "link.db"] or "kb.db-wal" not in names(file)


@posix
def test_a_hard_link_is_only_read(tmp_path: Path, file: Path) -> None:
    os.link(file, tmp_path / "other.db")
    with pytest.raises(ReadOnly, match="hard links"):
        open_database(file)
    with open_database(file, read_only=True) as db:
        assert len(db) == 2


def test_writing_through_a_read_only_handle(file: Path) -> None:
    for options in ({"read_only": True}, {"immutable": True}):
        with open_database(file, **options) as db:
            calls: list[Callable[[], object]] = [
                partial(db.add, "w1"),
                partial(db.delete, "a"),
                partial(db.update, "a", "w2"),
                db.optimize,
                partial(db.create_metadata_index, "x"),
            ]
            for call in calls:
                with pytest.raises(ReadOnly):
                    call()
        assert names(file) == ["kb.db"]


def test_a_network_file_system_gets_a_rollback_journal_and_one_warning(file: Path) -> None:
    with patch("spladelite.file.connection.on_network", lambda _: True):
        with pytest.warns(UserWarning, match="write-ahead logging"):
            db = open_database(file)
        assert in_threads(2, lambda _: db.get("a")) == []  # once is enough: another warning would be an error
        with connections_of(db).outside_transaction() as connection:
            assert connection.pragma("journal_mode") == "truncate"
            assert connection.pragma("synchronous") == 3
        db.add("w5", ids="e")
        db.close()
    with open_database(file, read_only=True) as db:
        assert "e" in db


def test_closing_on_a_network_file_system_never_begins_a_log(file: Path) -> None:
    with patch("spladelite.file.connection.on_network", lambda _: True):
        with pytest.warns(UserWarning, match="write-ahead logging"):
            db = open_database(file)
        failing = patch("spladelite.file.connection.leave_wal", lambda _: False)
        with failing, patch("spladelite.file.connection.leave_wal_later") as later:
            db.close()
    assert not later.called


def test_durability_decides_what_a_commit_waits_for(file: Path) -> None:
    for durability, level in (("full", 2), ("fast", 1)):
        with open_database(file, durability=durability) as db, connections_of(db).outside_transaction() as connection:
            assert connection.pragma("synchronous") == level
            assert connection.pragma("journal_mode") == "wal"


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("PRAGMA user_version = 99", UnsupportedFormat),
        ("PRAGMA user_version = 0", CorruptIndex),
        ("PRAGMA user_version = -1", CorruptIndex),
        ("PRAGMA application_id = 1", NotADatabase),
    ],
)
def test_a_file_of_another_version_or_program(file: Path, statement: str, error: type[Exception]) -> None:
    edit(file, statement)
    for options in ({}, {"read_only": True}, {"immutable": True}):
        with pytest.raises(error):
            open_database(file, **options)


def test_an_older_format_is_migrated_by_a_writer_and_named_to_a_reader(file: Path) -> None:
    from torture.kill import MORE_FORMATS, use_formats

    from spladelite.file.migrations import migrations

    try:
        use_formats([*migrations(), *MORE_FORMATS])
        with pytest.raises(ReadOnly, match="older format"):
            open_database(file, read_only=True)
        with open_database(file) as db:
            assert db.check() == []
            assert db.stats().format == 2 + len(MORE_FORMATS)
            assert len(db.search({2: 1.0})) == 2
    finally:
        use_formats(migrations())
    with pytest.raises(UnsupportedFormat):
        open_database(file)
