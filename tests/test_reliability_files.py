"""Which file states open in which mode, and what stays beside a file."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw
import pytest
from raw_sql import connections_of
from torture.words import WordModel

from spladelite import SpladeLite
from spladelite.documents.table import document_checksum
from spladelite.errors import (
    CorruptIndex,
    DatabaseError,
    Interrupted,
    InvalidInput,
    NotADatabase,
    ReadOnly,
    SpladeLiteError,
    UnsupportedFormat,
)
from spladelite.file import guard

MODEL = WordModel()
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions, signals, links or forks")


def open_database(path: Path | str, **options: Any) -> SpladeLite:
    return SpladeLite(path, MODEL, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kb.db"
    with open_database(path) as db:
        db.add(["w1 w2", "w2 w3"], ids=["a", "b"])
    return path


@pytest.fixture
def unclosed(tmp_path: Path, file: Path) -> Path:
    """What a killed process leaves: a file in WAL format, and its log."""
    folder = tmp_path / "unclosed"
    folder.mkdir()
    db = open_database(file)
    db.add("w3 w4", ids="c")
    for name in ("kb.db", "kb.db-wal"):
        subprocess.run([sys.executable, "-c", COPY, str(file.parent / name), str(folder / name)], check=True)
    db.close()
    return folder / "kb.db"


COPY = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())


# --- at rest ---------------------------------------------------------------------------------------------------------


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


# --- the table of file states ----------------------------------------------------------------------------------------

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
    subprocess.run([sys.executable, "-c", COPY, str(unclosed), str(public / "kb.db")], check=True)
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


# --- versions --------------------------------------------------------------------------------------------------------


def edit(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


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


# --- a second SQLite in the process ----------------------------------------------------------------------------------


@posix
def test_sqlite3_and_open_are_kept_from_an_open_file_under_all_its_names(tmp_path: Path, file: Path) -> None:
    import sqlite3

    (tmp_path / "alias.db").symlink_to(file)
    relative = os.path.relpath(file)
    db = open_database(file)
    for name in (str(file), tmp_path / "alias.db", relative, f"file:{file}?mode=ro"):
        with pytest.raises(DatabaseError, match="second copy"):
            sqlite3.connect(name, uri=str(name).startswith("file:"))
    with pytest.warns(UserWarning, match="plain file handle"), open(tmp_path / "alias.db", "rb"):
        pass
    db.close()
    sqlite3.connect(file).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file.read_bytes()


LOSING = """
import os, sys, warnings
warnings.simplefilter("ignore")
kind, path, own_locks = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
import sqlite3
try:
    import pysqlite3
except ImportError:
    pysqlite3 = None
QUERY = "SELECT count(*) FROM document"
if kind == "before":
    foreign = sqlite3.connect(path)
    foreign.execute(QUERY).fetchone()
from spladelite import DatabaseError, SpladeLite
from torture.foreign import without_own_locks
from torture.words import WordModel
if not own_locks:
    without_own_locks()
try:
    db = SpladeLite(path, WordModel())
except DatabaseError as error:
    print("refused:", "open in this process already" in str(error))
    sys.exit()
db.add("w1", ids="one")
if kind == "before":
    foreign.execute(QUERY).fetchone()
    foreign.close()
elif kind == "plain":
    for name in (path, path + "-wal", path + "-shm"):
        open(name, "rb").close()
elif pysqlite3:
    foreign = pysqlite3.connect(path)
    foreign.execute(QUERY).fetchone()
    foreign.close()
try:
    db.add("w2", ids="two")
    print("stored", "one" in db and "two" in db)
except Exception as error:
    print(error)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


@posix
@pytest.mark.parametrize("own_locks", [True, False])
@pytest.mark.parametrize("kind", ["before", "after", "plain"])
def test_what_another_copy_of_sqlite_closes_is_not_lost(file: Path, kind: str, own_locks: bool) -> None:
    """The standard library's that opened the file before us, pysqlite3 after us, and a file that is read plainly."""
    done = subprocess.run(
        [sys.executable, "-c", LOSING, kind, str(file), str(own_locks)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        timeout=60,
    )
    if kind == "before" and not own_locks:
        assert done.stdout == "refused: True\n", done.stdout + done.stderr
        return
    assert done.stdout == "stored True\n", done.stdout + done.stderr
    with open_database(file) as db:
        assert {"one", "two"} <= set(db)
        assert db.check() == []


NEIGHBOUR = """
import sys
from spladelite import SpladeLite
from torture.words import WordModel
with SpladeLite(sys.argv[1], WordModel()) as db:
    db.add("w3", ids="neighbour")
"""

STALE = """
import os, subprocess, sys, warnings
warnings.simplefilter("ignore")
neighbour, kind, path, copy = sys.argv[1:]
theirs = __import__(copy)
from spladelite import DatabaseError, SpladeLite
from torture.words import WordModel
foreign, second = theirs.connect(path), theirs.connect(path)
foreign.execute("SELECT count(*) FROM document").fetchone()
with SpladeLite(path, WordModel()):
    foreign.execute("BEGIN" if kind == "busy" else "SELECT 1")
    foreign.execute("SELECT count(*) FROM document").fetchone()  # of the log, which must not be deleted now
SpladeLite(path, WordModel()).close()
if kind == "lost":
    for name in (path, path + "-shm"):
        open(name, "rb").close()  # the other copy's locks are gone
    subprocess.run([sys.executable, "-c", neighbour, path], check=True, timeout=60)
    try:
        SpladeLite(path, WordModel()).add("w1", ids="one")
    except DatabaseError as error:
        print("deleted" in str(error))
    foreign.close()
    second.close()
elif kind == "neighbour":
    subprocess.run([sys.executable, "-c", neighbour, path], check=True, timeout=60)
db = SpladeLite(path, WordModel())
db.add("w1", ids="one")
if kind != "lost":
    foreign.execute("ROLLBACK" if kind == "busy" else "SELECT 1")
    second.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # finds the file by its name, the index by the first
    foreign.close()
    second.close()
db.add("w2", ids="two")
if sys.platform == "linux":  # nothing that had to stay open does so for ever
    assert sum(os.path.realpath(f"/proc/self/fd/{n}") == path for n in os.listdir("/proc/self/fd")) == 2
print("stored", "one" in db and "two" in db)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not guard.OWN_LOCKS, reason="needs locks of open file descriptions")
@pytest.mark.parametrize("copy", ["sqlite3", "pysqlite3"])
@pytest.mark.parametrize("kind", ["idle", "busy", "neighbour", "lost"])
def test_no_log_is_deleted_under_another_copy_of_sqlite(file: Path, kind: str, copy: str) -> None:
    """Which would go on with it, and would do to the next one what it has in mind for the old one: cut it off."""
    pytest.importorskip(copy)
    done = subprocess.run(
        [sys.executable, "-c", STALE, NEIGHBOUR, kind, str(file), copy],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        timeout=120,
    )
    assert done.stdout == ("True\n" if kind == "lost" else "") + "stored True\n", done.stdout + done.stderr
    with open_database(file) as db:
        assert {"one", "two"} <= set(db)
        assert ("neighbour" in db) == (kind in ("neighbour", "lost"))
        assert db.check() == []


@posix
def test_a_log_that_is_deleted_during_a_call_is_an_error(file: Path) -> None:
    with open_database(file) as db:
        db.add("w5", ids="e")

        def write() -> None:
            with connections_of(db).write() as connection:
                connection.execute("DELETE FROM document")
                os.unlink(f"{file}-wal")

        with pytest.raises(DatabaseError, match="repeat the call"):
            write()
        db.add("w6", ids="f")
        assert "f" in db


@posix
def test_a_log_that_is_deleted_between_calls_is_begun_again(file: Path) -> None:
    with open_database(file) as db:
        with connections_of(db).outside_transaction() as connection:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        os.unlink(f"{file}-wal")
        os.unlink(f"{file}-shm")
        db.add("w5", ids="e")
        other = "import sys, apsw; print(apsw.Connection(sys.argv[1]).execute('SELECT count(*) FROM document').get)"
        assert subprocess.run([sys.executable, "-c", other, str(file)], capture_output=True).stdout == b"3\n"


@posix
@pytest.mark.parametrize("change", ["replaced", "moved", "deleted"])
def test_a_file_that_is_no_longer_there_takes_no_writes(tmp_path: Path, file: Path, change: str) -> None:
    with open_database(tmp_path / "new.db") as new:
        new.add("w9", ids="new")
    with open_database(file) as db:
        db.add("w5", ids="e")
        if change == "replaced":
            os.replace(tmp_path / "new.db", file)
        elif change == "moved":
            os.rename(file, tmp_path / "elsewhere.db")
        else:
            os.unlink(file)
        with pytest.raises(DatabaseError, match="no longer the file"):
            db.add("w6", ids="f")
        (error,) = in_threads(1, lambda _: list(db))  # rather than a mixture of two files
        assert "no longer the file" in str(error)
    if change == "moved":
        os.rename(f"{file}-wal", tmp_path / "not needed")
        with pytest.warns(UserWarning, match="its log"), open_database(tmp_path / "elsewhere.db") as moved:
            assert list(moved) == ["a", "b", "e"]


def test_an_immutable_file_may_be_read_by_other_copies(file: Path) -> None:
    import sqlite3

    with open_database(file, immutable=True) as db:
        connection = sqlite3.connect(file)
        assert connection.execute("SELECT count(*) FROM document").fetchone() == (2,)
        connection.close()
        assert len(db) == 2


@posix
def test_the_process_may_go_elsewhere_and_links_may_lead_elsewhere(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    other = tmp_path / "there" / "kb.db"
    open_database(other).close()
    link = tmp_path / "link.db"
    link.symlink_to(file)
    monkeypatch.chdir(tmp_path / "here")
    with open_database(os.path.join("..", "kb.db")) as db, open_database(link) as linked:
        monkeypatch.chdir(tmp_path / "there")
        link.unlink()
        link.symlink_to(other)
        for handle, id in ((db, "first"), (linked, "second")):
            assert in_threads(1, partial(lambda db, name, _: db.add("w5", ids=name), handle, id)) == []
            assert handle.sql("SELECT count(*) FROM document WHERE id = ?", [id]) == [(1,)]
        db.reencode(MODEL, progress=False)
        db.check(repair=True)
        assert names(other) == ["kb.db"]
        db.export("copy.db")  # what is named now is meant from here
        assert names(other) == ["copy.db", "kb.db"]
    with open_database(other) as untouched:
        assert len(untouched) == 0


def test_a_copy_of_an_open_files_main_part_says_that_its_log_is_missing(tmp_path: Path) -> None:
    source, copy = tmp_path / "kb.db", tmp_path / "copy.db"
    with open_database(source) as db:
        db.add("w1", ids="a")
        subprocess.run([sys.executable, "-c", COPY, str(source), str(copy)], check=True)
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


# --- hostile SQL and schemas -----------------------------------------------------------------------------------------

HOSTILE = {
    "trigger": "CREATE TRIGGER evil AFTER INSERT ON document BEGIN DELETE FROM document; END",
    "temp-like name": "CREATE TRIGGER sqliteXstat1 AFTER INSERT ON document BEGIN DELETE FROM passage; END",
    "view in the place of a function": "CREATE VIEW json_each AS SELECT 1 AS key, 2 AS value",
    "table in the place of a function": "CREATE TABLE Carray (value)",
    "index": "CREATE INDEX evil ON document (upper(text))",
    "virtual table": "CREATE VIRTUAL TABLE evil USING fts5(a)",
    "generated column": "ALTER TABLE document ADD COLUMN evil TEXT AS (upper(text))",
    "default": "ALTER TABLE passage ADD COLUMN evil INTEGER DEFAULT 7",
    "missing index": "ALTER TABLE tombstone RENAME TO grave",
    "missing view": "DROP VIEW document_term",
    "view for a table": "DROP TABLE term; CREATE VIEW term AS SELECT 1 AS term_id, 'a' AS term",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_schema_that_is_not_exactly_ours_is_refused_before_a_row_is_read(file: Path, kind: str) -> None:
    edit(file, HOSTILE[kind])
    for options in ({}, {"read_only": True}, {"immutable": True}):
        with pytest.raises(NotADatabase, match="schema"):
            open_database(file, **options)
    assert file.read_bytes()[18:20] == b"\1\1"  # nothing was changed


OWN = """
CREATE TABLE note (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT REFERENCES document (id), "my text" TEXT NOT NULL);
CREATE TABLE tag (name PRIMARY KEY, weight REAL CHECK (weight > 0), twice AS (2 * weight)) WITHOUT ROWID;
CREATE TABLE loose (rowid, a UNIQUE);
CREATE INDEX by_id ON note (id);
CREATE VIEW noted AS SELECT d.id, n."my text" FROM document d JOIN note n USING (id);
CREATE TRIGGER counted AFTER INSERT ON tag BEGIN INSERT INTO note (id, "my text") VALUES ('a', new.name); END;
INSERT INTO note (id, "my text") VALUES ('a', 'first'), ('b', 'second');
DELETE FROM note WHERE number = 2;
INSERT INTO tag VALUES ('x', 1.5);
INSERT INTO loose VALUES (7, 1), (7, 2);
DELETE FROM loose WHERE a = 1;
"""


def test_tables_of_the_users_own_stand_beside_ours_and_stay(file: Path, tmp_path: Path) -> None:
    edit(file, OWN)
    questions = (
        "SELECT * FROM noted ORDER BY 1, 2",
        "SELECT number, id FROM note",
        "SELECT * FROM tag",
        "SELECT _rowid_, * FROM loose",
        "SELECT name, sql FROM sqlite_schema WHERE tbl_name IN ('note', 'tag', 'loose', 'noted') ORDER BY name",
        "SELECT seq FROM sqlite_sequence WHERE name = 'note'",
    )

    def answers(db: SpladeLite) -> list[Any]:
        return [db.sql(question) for question in questions]

    with open_database(file) as db:
        before = answers(db)
        assert before[0] == [("a", "first"), ("a", "x")]
        db.add("w5", ids="e")
        db.optimize()
        assert answers(db) == before
        assert db.stats().sizes["your own"] > 0
        db.reencode(MODEL, progress=False)
        db.reencode(MODEL, progress=False)
        assert answers(db) == before
        with connections_of(db).write() as connection:
            connection.execute("DELETE FROM passage WHERE passage_id = 1")
        db.check(repair=True)
        assert answers(db) == before
        assert db.check() == []
        db.export(tmp_path / "slim.db", slim=True)
        db.export_rows(tmp_path / "rows.db")
    for options in ({}, {"read_only": True}, {"immutable": True}):
        with open_database(file, **options) as db:
            assert answers(db) == before
    with open_database(tmp_path / "slim.db") as slim:
        assert answers(slim) == before


def test_what_a_users_own_table_breaks_of_its_own_rules_is_no_damage(file: Path) -> None:
    edit(file, "CREATE TABLE mine (a INTEGER CHECK (a > 0), b)")
    edit(file, "PRAGMA ignore_check_constraints = 1; INSERT INTO mine SELECT -value, 0 FROM json_each('[1, 2, 3]')")
    with open_database(file) as db:
        assert db.check() == []
    raw(
        file,
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE mine (a INTEGER CHECK (a > 0), b NOT NULL)' WHERE name = 'mine'",
    )
    with open_database(file) as db:
        assert db.check() == []
        with connections_of(db).write() as connection:
            connection.execute("DELETE FROM passage")
        assert db.check() != []


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("passage", "UPDATE passage SET impacts = 'text'"),
        ("passage", "UPDATE passage SET scale = x'00', doc_id = 'x'"),
        ("segment", "UPDATE segment SET size = x'00'"),
        ("segment", "UPDATE segment SET last_passage_id = 'x'"),
        ("posting", "UPDATE posting SET count = 'x'"),
        ("document", "UPDATE document SET text = x'FF'"),
        ("document", "UPDATE document SET metadata = 7.5, passages = 'x'"),
    ],
)
def test_values_that_strict_tables_do_not_allow_are_damage(tmp_path: Path, table: str, statement: str) -> None:
    path = tmp_path / "kb.db"
    questions: list[Callable[[SpladeLite], object]] = [lambda db: db.search({2: 1.0}), lambda db: db.get("a"), list]
    with open_database(path, tail_size=1) as db:
        db.add(["w1 w2", "w2 w3"], ids=["a", "b"])
        answers = [question(db) for question in questions]
    (strict,) = [row[0] for row in raw(path, "SELECT sql FROM sqlite_schema WHERE name = ?", table)]
    loose = strict.replace(" STRICT,", "").replace(" STRICT", "")
    for schema, change in ((loose, statement), (strict, None)):
        raw(path, "UPDATE sqlite_schema SET sql = ? WHERE name = ?", schema, table)
        if change:
            raw(path, change)
    with open_database(path, read_only=True) as db:
        for question, answer in zip(questions, answers, strict=True):
            with suppress(SpladeLiteError):
                assert question(db) == answer
        assert db.check() != []


def test_a_metadata_index_that_lost_an_entry_is_noticed_before_a_filter_uses_it(file: Path) -> None:
    with open_database(file) as db:
        db.create_metadata_index("year")
        db.add([f"w1 w{i}" for i in range(20)], ids=[str(i) for i in range(20)], metadata=[{"year": 2020}] * 20)
        assert len(db.search({2: 1.0}, 50, where={"year": 2020})) == 20
        with connections_of(db).read() as connection:
            row = connection.execute("SELECT * FROM document WHERE id = '7'").get
            index = connection.execute("SELECT * FROM sqlite_schema WHERE name LIKE 'metadata year%'").get
    raw(file, "DELETE FROM document WHERE id = '7'")
    raw(file, "DELETE FROM sqlite_schema WHERE name = ?", index[1])
    raw(file, "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?)", *row)  # the index does not learn of it
    raw(file, "INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", *index)
    with open_database(file) as db:
        for question in ("w1", {2: 1.0}):
            for mode in ("splade", "bm25"):
                if mode == "splade" or question == "w1":
                    with pytest.raises(CorruptIndex, match="entries"):
                        db.search(question, 200, where={"year": 2020}, mode=mode)
        assert db.check() != []
        db.check(repair=True)
        assert len(db.search({2: 1.0}, 50, where={"year": 2020})) == 20
        assert db.check() == []


def test_an_id_that_leads_to_another_document_is_damage(file: Path) -> None:
    """Two documents, undamaged in themselves, have exchanged their ids; the index on ids has not followed."""
    index = raw(file, "SELECT * FROM sqlite_schema WHERE name = 'sqlite_autoindex_document_1'")[0]
    with open_database(file) as db, connections_of(db).read() as connection:
        rows = connection.execute("SELECT doc_id, id, text, metadata, passages, content_hash FROM document").fetchall()
    (strict,) = raw(file, "SELECT sql FROM sqlite_schema WHERE name = 'document'")[0]
    without = "DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_document_1'"
    raw(file, f"UPDATE sqlite_schema SET sql = ? WHERE name = 'document'; {without}", strict.replace(" UNIQUE", ""))
    columns: list[Any] = list(zip(rows, reversed(rows), strict=True))
    for (doc_id, _, *rest), (_, other, *_) in columns:
        checksum = document_checksum(doc_id, other, *rest)
        raw(file, "UPDATE document SET id = ?, checksum = ? WHERE doc_id = ?", other, checksum, doc_id)
    restored = "INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)"
    raw(file, f"UPDATE sqlite_schema SET sql = ? WHERE name = 'document'; {restored}", strict, *index)
    with open_database(file) as db:
        for id in ("a", "b"):
            with pytest.raises(CorruptIndex, match="checksum"):
                db.get(id)
        assert db.check() != []


def raw(path: Path, sql: str, *args: Any) -> list[Any]:
    """Run a statement that may change the schema's text."""
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute("PRAGMA writable_schema = ON")
    rows = connection.execute(sql, args).fetchall()
    connection.close()
    return rows


REFUSED = [
    "INSERT INTO document VALUES (1, 'x', 'x', '{}', 1, x'', 0)",
    "DELETE FROM document",
    "UPDATE meta SET value = ''",
    "DROP TABLE document",
    "CREATE TEMP TABLE t (a)",
    "CREATE TABLE t (a)",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA query_only = 0",
    "BEGIN IMMEDIATE",
    "VACUUM",
    "VACUUM INTO 'stolen.db'",
    "REINDEX",
    "ANALYZE",
    "SELECT load_extension('evil')",
    "SELECT writefile('a', 'b')",
    "SELECT topk(1, 2, 3, 4, 5)",
    "ATTACH 'missing.db' AS missing",
    "SELECT 1; DELETE FROM document",
    "nonsense",
    "SELECT * FROM no_such_table",
    "SELECT zeroblob(2000000000)",
    "",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_user_sql_reads_and_nothing_else(
    file: Path, tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_database(file) as db:
        with suppress(InvalidInput, DatabaseError):
            assert db.sql(statement) == []
        assert list(db) == ["a", "b"]
        db.add("w5", ids="e")
        assert db.check() == []
    assert names(file) == ["kb.db"]


def test_an_attached_file_takes_no_part_in_our_transactions(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    edit(other, "CREATE TABLE t (a)", "INSERT INTO t VALUES (7)", "CREATE VIEW v AS SELECT splade_score(1, 'w1') AS s")
    with open_database(file) as db:
        db.sql("ATTACH ? AS other", [str(other)])
        assert db.sql("SELECT a FROM other.t") == [(7,)]
        with pytest.raises(InvalidInput):
            db.sql("SELECT s FROM other.v")  # a stranger's view may not call our functions
        with pytest.raises(InvalidInput):
            db.sql("INSERT INTO other.t VALUES (8)")
        writer = apsw.Connection(str(other))
        writer.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (9)")
        db.add("w5", ids="e")  # not held up by the other file's lock
        writer.execute("COMMIT")
        writer.close()
        db.sql("ATTACH ? AS myself", [str(file)])
        assert db.sql("SELECT count(*) FROM myself.document") == [(3,)]
    with open_database(file) as db:
        assert db.check() == []


# --- interruption ----------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_timeout_ends_a_statement_and_the_handle_goes_on(file: Path) -> None:
    with open_database(file) as db:
        began = time.monotonic()
        with pytest.raises(Interrupted):
            db.sql(ENDLESS, timeout=0.1)
        slow = "(SELECT count(*) FROM json_each(?) a, json_each(?) b) < 0"
        numbers = json.dumps(list(range(3000)))
        with pytest.raises(Interrupted):
            db.search({2: 1.0}, where=slow, where_args=[numbers, numbers], timeout=0.05)
        assert time.monotonic() - began < 5
        assert len(db.search({2: 1.0}, timeout=60)) == 2
        for wrong in (0, -1, "1", True):
            with pytest.raises((ValueError, TypeError)):
                db.search({2: 1.0}, timeout=wrong)  # type: ignore[arg-type]


@posix
def test_ctrl_c_ends_a_statement(file: Path) -> None:
    with open_database(file) as db:
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            db.sql(ENDLESS)
        timer.join()
        assert len(db.search({2: 1.0})) == 2


@posix
def test_ctrl_c_ends_waiting_for_a_lock(file: Path) -> None:
    with open_database(file) as db, open_database(file) as other:
        with connections_of(other).write():
            timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
            timer.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                db.add("w5", ids="e")
            timer.join()
            assert time.monotonic() - began < 5
        db.add("w5", ids="e")
        assert "e" in other


def test_an_exception_at_any_point_of_a_transaction_leaves_no_lock(file: Path) -> None:
    with open_database(file) as db, open_database(file) as other:
        real = apsw.Connection.execute
        for statement in ("BEGIN IMMEDIATE", "COMMIT"):
            for late in (False, True):
                with pytest.raises(KeyboardInterrupt), interrupting(db, statement, late):
                    db.delete("nobody")
                other.upsert("w7", ids="g")
        assert apsw.Connection.execute is real
        assert db.check() == []


class interrupting:  # noqa: N801
    """Ctrl-C just before or just after a statement of the handle's connection."""

    def __init__(self, db: SpladeLite, statement: str, late: bool) -> None:
        with connections_of(db).outside_transaction() as connection:
            self._connection = connection
        self._statement, self._late = statement, late

    def __enter__(self) -> None:
        def trace(_: object, sql: str, __: object) -> bool:
            if sql == self._statement:
                if self._late:
                    signal.raise_signal(signal.SIGINT)
                else:
                    raise KeyboardInterrupt
            return True

        self._connection.exec_trace = trace

    def __exit__(self, *_: object) -> None:
        self._connection.exec_trace = None


def test_an_error_in_rollback_does_not_hide_the_first(file: Path) -> None:
    with open_database(file) as db:

        def fail(*_: object) -> bool:
            raise apsw.IOError("the second")

        def work() -> None:
            with connections_of(db).write() as connection:
                connection.execute("DELETE FROM document")
                connection.exec_trace = fail
                raise RuntimeError("the first")

        with pytest.raises(RuntimeError, match="the first"):
            work()
        assert len(db) == 2
        db.add("w5", ids="e")


# --- threads and processes -------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("place", ["file", "memory"])
def test_sixteen_threads_on_one_handle(tmp_path: Path, place: str) -> None:
    path = ":memory:" if place == "memory" else str(tmp_path / "threads.db")
    with SpladeLite(path, MODEL, tail_size=8, segment_size=32) as db:

        def work(number: int) -> None:
            for i in range(12):
                db.add(f"w{number} w{i}", ids=f"{number}-{i}")
                assert f"{number}-{i}" in {hit.id for hit in db.search({number: 1.0}, 1000)}
                if i % 3 == 2:
                    assert db.delete(f"{number}-{i}") == 1
                assert db.sql("SELECT count(*) FROM document")[0][0] > 0

        assert in_threads(16, work) == []
        assert len(db) == 16 * 8
        assert db.check() == []


def test_threads_that_come_and_go_share_connections(file: Path) -> None:
    with open_database(file) as db:
        for _ in range(30):
            assert in_threads(1, lambda _: db.search("w2")) == []
        assert len(connections_of(db)._threads) <= 3


def test_close_waits_for_calls_in_other_threads(file: Path) -> None:
    for _ in range(5):
        db = open_database(file)
        began = threading.Event()
        outcomes: list[object] = []

        def work(db: SpladeLite = db, began: threading.Event = began, outcomes: list[object] = outcomes) -> None:
            try:
                for i in range(1000):
                    db.upsert(f"w{i % 9}", ids=f"t{i % 5}")
                    outcomes.append(i)
                    began.set()
            except DatabaseError as error:
                outcomes.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        began.wait()
        db.close()
        thread.join()
        assert isinstance(outcomes[-1], DatabaseError)
        assert names(file) == ["kb.db"]
        with open_database(file) as again:
            assert again.check() == []


@posix
def test_a_forked_child_has_connections_and_locks_of_its_own(file: Path) -> None:
    """With its parent's connections it believes to hold their locks, and takes none: the parent's close() ends the log
    that the child writes to, and the child changes pages that the parent has changed since.
    """
    db = open_database(file)
    db.add("w5", ids="parent")
    db.search("w5")
    from_child, to_parent = os.pipe()
    from_parent, to_child = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(from_parent, 1)
            db.add("w6", ids="child 1")
            os.write(to_parent, b"1")
            os.read(from_parent, 1)
            db.add("w6", ids="child 2")
            db.close()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent sees the status
            os._exit(1)
    os.close(to_parent)  # should the child die, nobody waits for it
    db.add("w7", ids="parent 2")
    os.write(to_child, b"1")
    os.read(from_child, 1)
    db.close()  # as the last one that this process knows of
    with open_database(file) as again:
        again.add(["w8", *(f"w{i}" for i in range(20))], ids=["parent 3", *(f"p{i}" for i in range(20))])
    os.write(to_child, b"1")
    assert os.waitpid(child, 0)[1] == 0
    with open_database(file) as again:
        assert {"parent", "child 1", "child 2", "parent 2", "parent 3"} <= set(again)
        assert again.check() == []
    assert names(file) == ["kb.db"]


@posix
def test_a_fork_in_the_middle_of_a_call_is_refused_in_the_child(file: Path) -> None:
    db = open_database(file)
    with connections_of(db).write() as connection:
        connection.execute("UPDATE document SET text = 'half'")
        child = os.fork()
        if child == 0:
            try:
                db.search("w1")
            except DatabaseError as error:
                os._exit(0 if "forked" in str(error) else 2)
            except BaseException:  # noqa: BLE001 - the parent sees the status
                os._exit(3)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        connection.execute("UPDATE document SET text = 'half'")
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
    assert db.check() == []
    db.close()


def test_a_spawned_process_shares_the_file(file: Path) -> None:
    with open_database(file) as db:
        code = (
            "import sys; from spladelite import SpladeLite; from torture.words import WordModel\n"
            "with SpladeLite(sys.argv[1], WordModel()) as db: db.add('w9', ids='spawned')"
        )
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        subprocess.run([sys.executable, "-c", code, str(file)], check=True, env=env)
        assert "spawned" in db


def test_names_in_the_schema_that_are_no_text(file: Path) -> None:
    raw(file, "UPDATE sqlite_schema SET name = x'FF' WHERE name = 'term_document'")
    raw(file, "UPDATE sqlite_schema SET tbl_name = 7 WHERE name = 'document_term'")
    with pytest.raises(SpladeLiteError):
        open_database(file)
