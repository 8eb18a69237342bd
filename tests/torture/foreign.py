"""Other copies of SQLite in the process, plain ``open()``, and ``kill -9``: what was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import apsw

from spladelite import SpladeLite
from spladelite.errors import DatabaseError
from spladelite.file import guard, sqlite
from spladelite.file.connection import Connections
from torture import Tally
from torture.words import WordModel

COPIES: list[ModuleType] = [sqlite3]
with suppress(ImportError):
    import pysqlite3

    COPIES.append(pysqlite3)

MODEL = WordModel()
STEPS = 14
PATIENCE_MS = 60  # Busy is an answer too
FOREIGN_SQL = (
    "SELECT count(*) FROM document",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA journal_mode = DELETE",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "CREATE TABLE IF NOT EXISTS mine (a)",
    "INSERT INTO mine VALUES (1)",
    "COMMIT",
    "ROLLBACK",
)


def open_database(path: Path) -> SpladeLite:
    return SpladeLite(path, MODEL, tail_size=4, segment_size=16)


class Worker:
    """A program that uses SpladeLite and other copies of SQLite on one file, until it is killed."""

    def __init__(self, path: Path, name: str, pipe: int, source: random.Random) -> None:
        self.path, self.name, self.pipe, self.random = path, name, pipe, source
        self.databases: list[SpladeLite] = []
        self.foreign: list[Any] = []
        self.count = 0

    def add(self) -> None:
        if not self.databases:
            self.open()
        if not self.databases:
            return
        db = self.random.choice(self.databases)
        self.count += 1
        id = f"{self.name}-{self.count}"
        work = threading.Thread(target=db.add, args=(f"w{self.count % 64} w3", id))
        try:
            if self.random.random() < 0.2:  # a connection of its own
                failed: list[object] = []
                threading.excepthook = failed.append
                work.start()
                work.join()
                if failed:
                    return
            else:
                db.add(f"w{self.count % 64} w3", ids=id)
        except DatabaseError:
            return  # it said so
        os.write(self.pipe, f"{id}\n".encode())

    def open(self) -> None:
        with suppress(DatabaseError):
            self.databases.append(open_database(self.path))

    def close(self) -> None:
        if self.databases:
            self.databases.pop(self.random.randrange(len(self.databases))).close()

    def open_foreign(self) -> None:
        with suppress(DatabaseError):  # sqlite3, where the file is open already
            connection = self.random.choice(COPIES).connect(self.path, timeout=0.01, check_same_thread=False)
            connection.isolation_level = None
            self.foreign.append(connection)
            self.ask_foreign()

    def ask_foreign(self) -> None:
        if self.foreign:
            connection = self.random.choice(self.foreign)
            with suppress(*(copy.Error for copy in COPIES)):
                connection.execute(self.random.choice(FOREIGN_SQL)).fetchall()

    def close_foreign(self) -> None:
        if self.foreign:
            self.foreign.pop(self.random.randrange(len(self.foreign))).close()

    def open_plainly(self) -> None:
        for name in (self.path, f"{self.path}-wal", f"{self.path}-shm"):
            with suppress(OSError), open(name, "rb") as file:
                file.read(100)

    def visit(self) -> None:
        self.open_foreign()
        self.ask_foreign()
        self.close_foreign()

    def run(self) -> None:
        steps: list[Callable[[], None]] = [self.open_foreign] * (self.random.random() < 0.4)
        steps += [self.open]
        often: list[Callable[[], None]] = [self.add] * 5 + [self.visit] * 2
        often += [self.ask_foreign, self.close_foreign, self.open_foreign, self.open_plainly, self.open, self.close]
        steps += self.random.choices(often, k=self.random.randrange(2, STEPS))
        steps += [self.add] * self.random.randrange(2)
        for step in steps:
            step()


def without_own_locks() -> None:
    """SQLite's own way with locks."""
    apsw.VFS("plain", "unix").xSetSystemCall(None, 0)
    vars(guard)["OWN_LOCKS"] = False


def without_anything() -> None:
    without_own_locks()
    vars_of: Any = Connections
    vars_of._log_is_there = lambda *_: True


def start(path: Path, name: str, seed: int, prepare: Callable[[], None], neighbour: bool) -> tuple[int, int]:
    """A child that works and then kills itself, or, as a neighbour, works until it is killed: its pid and pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            warnings.simplefilter("ignore")
            vars(sqlite)["BUSY_TIMEOUT_MS"] = PATIENCE_MS
            prepare()
            worker = Worker(path, name, writing, random.Random(seed))
            while neighbour:
                with suppress(DatabaseError), open_database(path) as db:
                    worker.databases = [db]
                    worker.add()
                time.sleep(0.001)
            worker.run()
            os.kill(os.getpid(), signal.SIGKILL)
        except BaseException as error:  # noqa: BLE001 - a child never returns
            os.write(writing, f"error {error!r}\n".encode())
        finally:
            os._exit(1)
    os.close(writing)
    return child, reading


def interleavings(folder: Path, amount: int, seed: int, prepare: Callable[[], None]) -> Tally:
    """So many, each ended by a kill; a third of them with another process that writes and closes."""
    tally = Tally()
    path, stored = folder / "0" / "kb.db", set[str]()
    for number in range(amount):
        if number % 20 == 0:
            path, stored = folder / str(number) / "kb.db", set()
            path.parent.mkdir(parents=True)
            open_database(path).close()
        children = [start(path, f"{number}", seed * 1_000_000 + number, prepare, False)]
        if number % 3 == 0:
            children.append(start(path, f"{number}n", number, prepare, True))
        for child, pipe in children:
            with open(pipe, "rb") as stream:
                if len(children) > 1 and child == children[1][0]:
                    os.kill(child, signal.SIGKILL)
                lines = stream.read().decode().split("\n")[:-1]
            os.waitpid(child, 0)
            tally.failures += [f"seed {seed}, interleaving {number}: {line}" for line in lines if "error" in line]
            stored |= {line for line in lines if "error" not in line}
        tally.tried += 1
        tally.notes["acknowledged"] = tally.notes.get("acknowledged", 0) + len(lines)
        try:
            with open_database(path) as db:
                lost = stored - set(db)
                if lost:
                    tally.failures.append(f"seed {seed}, interleaving {number}: {len(lost)} documents are lost")
                    tally.notes["lost"] = tally.notes.get("lost", 0) + len(lost)
                stored = set(db)
                tally.failures += [f"interleaving {number}: {finding}" for finding in db.check()[:3]]
        except DatabaseError as error:
            tally.failures.append(f"seed {seed}, interleaving {number}: {error!r}")
            path, stored = folder / f"after-{number}" / "kb.db", set()
            path.parent.mkdir(parents=True)
            open_database(path).close()
    return tally


def run(folder: Path, amount: int, seed: int) -> Tally:
    """As it is installed; then the control with SQLite's own locks and unwatched, which must lose documents."""
    tally = interleavings(folder / "own", amount, seed, lambda: None)
    for copy in COPIES:
        tally.note(f"{copy.__name__} {copy.sqlite_version}")
    control = interleavings(folder / "control", max(amount // 20, 20), seed, without_anything)
    tally.notes |= {f"control {what}": number for what, number in control.notes.items()}
    if not control.failures:
        tally.failures.append("the control lost nothing: this test does not bite")
    return tally
