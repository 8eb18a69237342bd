"""One file used by threads, forks and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from raw_sql import connections_of
from small_file import MODEL, in_threads, names, open_database, posix

from spladelite import SpladeLite
from spladelite.errors import (
    DatabaseError,
)


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
