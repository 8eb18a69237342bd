"""Other copies of SQLite in the process, plain `open()`, and files that move or vanish under an open handle."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import apsw
import pytest
from raw_sql import connections_of
from small_file import MODEL, in_threads, names, open_database, posix

from spladelite.errors import (
    DatabaseError,
)
from spladelite.file import guard


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
