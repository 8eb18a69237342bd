"""Timeouts, Ctrl-C and exceptions at any point leave no lock and a handle that goes on."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import apsw
import pytest
from raw_sql import connections_of
from small_file import open_database, posix

from spladelite import SpladeLite
from spladelite.errors import (
    Interrupted,
)

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
        assert time.monotonic() - began < 30
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
            assert time.monotonic() - began < 30
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
