"""The only module that opens a database file.

Pragmas, transactions, creation, migration, the check that a file is ours, and the guard against a second copy of SQLite
in the process. Everything else gets an ``apsw.Connection`` that is inside a transaction.

One connection a thread; a forked child opens its own (SQLite's locks do not survive a fork). While a file is open for
writing it is in WAL mode with ``synchronous=FULL``: readers never block the writer, and an acknowledged commit survives
a power cut. The last ``close()`` turns it back into one plain file that opens anywhere, read-only folders included.
"""

from __future__ import annotations

import os
import stat
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import (
    Busy,
    CorruptIndex,
    DatabaseError,
    Interrupted,
    InvalidInput,
    NotADatabase,
    ReadOnly,
    UnsupportedFormat,
)
from spladelite.guard import protect, release
from spladelite.migrations import migrations

APPLICATION_ID = 0x53504C44  # "SPLD"
BUSY_TIMEOUT_MS = 10_000
PROGRESS_STEPS = 20_000  # virtual-machine steps between two looks at signals: some 100 microseconds

_forked: list[object] = []  # a parent's connections in a forked child: never used, never closed


class Connections:
    """All connections of one open database: one a thread and process, made when first needed.

    Args:
        path: a file, or ``":memory:"``.
        read_only: never writes; the file must exist.
        prepare: called with each new connection, to register functions on it.
        create: called inside the creating transaction of a new file, after the tables are there.
        indexes: ``CREATE INDEX`` statements that the file may have besides the tables, given its connection.
    """

    def __init__(
        self,
        path: str,
        *,
        read_only: bool,
        prepare: Callable[[apsw.Connection], None],
        create: Callable[[apsw.Connection], None],
        indexes: Callable[[apsw.Connection], set[str]],
    ) -> None:
        self.path = path
        self.memory = path == ":memory:"
        self.read_only = read_only
        self.closed = False
        self._prepare = prepare
        self._create = create
        self._indexes = indexes
        self._local = threading.local()
        self._memory_lock = threading.RLock()
        self._memory_connection: apsw.Connection | None = None
        self._all: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        if not self.memory:
            _check_path(path, read_only)
            protect(path)

    def get(self) -> apsw.Connection:
        """This thread's connection."""
        if self.closed:
            raise DatabaseError(f"{self.path} is closed; open it again with SpladeLite({self.path!r})")
        if self.memory:
            if self._memory_connection is None:
                self._memory_connection = self._open()
            return self._memory_connection
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and self._local.process == os.getpid():
            return connection
        if connection is not None:
            _forked.append(connection)
        self._local.connection = connection = self._open()
        self._local.process = os.getpid()
        self._all.add(connection)
        return connection

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A read transaction: every statement inside sees the same state of the file."""
        with self._memory_lock if self.memory else nullcontext(), translated(self.path):
            connection = self.get()
            if connection.in_transaction:  # a read inside a write of the same thread
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[apsw.Connection]:
        """A write transaction: all of it or, after an exception, nothing of it."""
        if self.read_only:
            raise ReadOnly(f"{self.path} is open read-only; open it without read_only=True to change it")
        with self._memory_lock if self.memory else nullcontext(), translated(self.path):
            connection = self.get()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def outside_transaction(self) -> Iterator[apsw.Connection]:
        """The bare connection: for VACUUM and backup, which manage transactions themselves."""
        with self._memory_lock if self.memory else nullcontext(), translated(self.path):
            yield self.get()

    @contextmanager
    def querying(self) -> Iterator[apsw.Connection]:
        """For SQL that a user wrote: it may read everything, and attach other files, and change nothing."""
        with self.outside_transaction() as connection:
            connection.authorizer = _only_reading
            try:
                yield connection
            except apsw.AuthError as error:
                raise InvalidInput("db.sql() runs statements that read; use add, update or delete to write") from error
            except apsw.SQLError as error:
                raise InvalidInput(f"the SQL cannot be run: {error}") from error
            finally:
                connection.authorizer = None

    def close(self) -> None:
        """Close every connection; the last writer of a file leaves one plain file behind. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self.memory:
            if self._memory_connection is not None:
                self._memory_connection.close()
            return
        own: apsw.Connection | None = getattr(self._local, "connection", None)
        if own is not None and self._local.process != os.getpid():
            _forked.append(own)
            own = None
        for connection in list(self._all):
            if connection is not own and own is not None:
                connection.close(True)
        if own is not None:
            if not self.read_only:
                _leave_wal(own)
            own.close(True)
        release(self.path)

    def _open(self) -> apsw.Connection:
        if self.memory:
            connection = apsw.Connection(":memory:")
        elif self.read_only:
            connection = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READONLY)
        else:
            connection = apsw.Connection(self.path)
        try:
            _harden(connection)
            _create_or_check(connection, self.path, self._create, self._indexes)
            if not self.memory and not self.read_only:  # only now: a file that is not ours stays as it is
                _use_wal(connection, self.path)
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 1)  # ours: the schema is checked by now
            self._prepare(connection)
        except BaseException:
            connection.close(True)
            raise
        return connection


_READING = frozenset(
    (
        apsw.SQLITE_SELECT,
        apsw.SQLITE_READ,
        apsw.SQLITE_FUNCTION,
        apsw.SQLITE_RECURSIVE,
        apsw.SQLITE_ATTACH,
        apsw.SQLITE_DETACH,
    )
)
_READING_PRAGMAS = frozenset(
    ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "database_list", "compile_options")
)


def _only_reading(action: int, first: str | None, *_: str | None) -> int:
    allowed = action in _READING or (action == apsw.SQLITE_PRAGMA and first in _READING_PRAGMAS)
    return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def fetch(connection: apsw.Connection, sql: str, args: Any = None) -> list[Any]:
    """All rows of a statement of ours, whose columns' types we know and mypy does not."""
    return connection.execute(sql, args).fetchall()


def int_array(values: Sequence[int] | NDArray[np.int64]) -> Any:
    """Numbers for ``carray(?)`` in a statement; at least one."""
    return apsw.carray(np.ascontiguousarray(values, np.int64))


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn apsw's exceptions, and those that its bindings let through, into ours. The cause stays attached."""
    try:
        yield
    except apsw.BusyError as error:
        raise Busy(
            f"{path}: another process has been writing for over {BUSY_TIMEOUT_MS // 1000} s; try again later"
        ) from error
    except apsw.InterruptError as error:
        raise Interrupted(f"{path}: the statement was interrupted") from error
    except apsw.NotADBError as error:
        raise NotADatabase(
            f"{path} is not a SQLite database; give the path of a SpladeLite file or a new one"
        ) from error
    except apsw.CorruptError as error:
        raise CorruptIndex(f"{path} is damaged: {error}; restore a backup, or run check(repair=True)") from error
    except apsw.ReadOnlyError as error:
        raise ReadOnly(f"{path} cannot be written: {error}; open it with read_only=True") from error
    except apsw.CantOpenError as error:
        raise NotADatabase(f"{path} cannot be opened: {error}; does it exist, and may you read it?") from error
    except apsw.FullError as error:
        raise DatabaseError(f"{path}: no space left to write; nothing of this call was stored") from error
    except apsw.Error as error:
        raise DatabaseError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise CorruptIndex(f"{path} holds text that is not UTF-8: {error}") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(f"text that is not valid Unicode (a lone surrogate): {error}") from error
    except OverflowError as error:
        raise InvalidInput(f"a number that does not fit 64 bits: {error}") from error


def _check_path(path: str, read_only: bool) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if read_only:
            raise NotADatabase(f"{path} does not exist, and read_only=True never creates a file") from None
        folder = Path(path).resolve().parent
        if not folder.is_dir():
            raise NotADatabase(f"{path}: the folder {folder} does not exist; create it first") from None
        return
    except (OSError, ValueError) as error:
        raise NotADatabase(f"{path!r} cannot be opened: {error}") from error
    if stat.S_ISDIR(mode):
        raise NotADatabase(f"{path} is a directory; give the path of a file, such as {Path(path) / 'kb.db'}")
    if not stat.S_ISREG(mode):
        raise NotADatabase(f"{path} is not a regular file")


def _harden(connection: apsw.Connection) -> None:
    """Before the first row of a file is read: nothing in its schema may run."""
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    # Running any Python lets a pending Ctrl-C be raised; False lets the statement go on.
    connection.set_progress_handler(lambda: False, PROGRESS_STEPS)
    connection.execute("PRAGMA cell_size_check = 1")


def _use_wal(connection: apsw.Connection, path: str) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    try:
        mode = connection.pragma("journal_mode", "WAL")
    except apsw.IOError:
        mode = "refused"
    except apsw.BusyError:
        mode = connection.pragma("journal_mode")
        if mode != "wal":
            raise
    if mode != "wal":  # a network file system, as a rule: no shared memory
        connection.pragma("journal_mode", "TRUNCATE")
        warnings.warn(
            f"{path}: this file system cannot do write-ahead logging; readers will wait while a write commits",
            stacklevel=2,
        )


def _leave_wal(connection: apsw.Connection) -> None:
    try:
        connection.set_busy_timeout(0)
        connection.pragma("journal_mode", "DELETE")
    except apsw.Error:
        pass  # somebody else still has it open, and will do this when they close


def _create_or_check(
    connection: apsw.Connection,
    path: str,
    create: Callable[[apsw.Connection], None],
    indexes: Callable[[apsw.Connection], set[str]],
) -> None:
    steps = migrations()
    if _is_empty(connection):
        if connection.readonly("main"):
            raise NotADatabase(f"{path} is empty, not a SpladeLite database")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _is_empty(connection):  # nobody else was faster
                for step in steps:
                    connection.execute(step)
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", len(steps))
                create(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    if connection.pragma("application_id") != APPLICATION_ID:
        raise NotADatabase(
            f"{path} is a SQLite database, but not one of SpladeLite's; choose another path "
            f"(rows of an existing table go in through `spladelite add --table`)"
        )
    version = connection.pragma("user_version")
    if not 1 <= version <= len(steps):
        raise UnsupportedFormat(
            f"{path} has format {version}; this release reads formats 1 to {len(steps)}; update spladelite"
        )
    if version < len(steps):
        _migrate(connection, path, steps)
    _check_schema(connection, path, indexes)


def _is_empty(connection: apsw.Connection) -> bool:
    return connection.pragma("application_id") == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").get


def _migrate(connection: apsw.Connection, path: str, steps: tuple[str, ...]) -> None:
    if connection.readonly("main"):
        raise UnsupportedFormat(f"{path} has an older format; open it once without read_only=True to bring it up")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[connection.pragma("user_version") :]:
            connection.execute(step)
        connection.pragma("user_version", len(steps))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


@cache
def _expected_schema(version: int) -> frozenset[tuple[str, str, str]]:
    with apsw.Connection(":memory:") as model:
        for step in migrations()[:version]:
            model.execute(step)
        return frozenset(_schema(model))


def _schema(connection: apsw.Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'"
    )
    return {(kind, name, sql) for kind, name, sql in rows}


def _check_schema(connection: apsw.Connection, path: str, indexes: Callable[[apsw.Connection], set[str]]) -> None:
    """A file whose schema is not exactly ours could make our own statements do something else."""
    found, expected = _schema(connection), _expected_schema(connection.pragma("user_version"))
    missing, extra = expected - found, found - expected
    if not missing and extra:
        allowed = indexes(connection)
        extra = {row for row in extra if row[0] != "index" or row[2] not in allowed}
    if missing or extra:
        names = ", ".join(sorted(name for _, name, _ in missing | extra))
        raise NotADatabase(
            f"{path} does not have the schema of a SpladeLite database (differs in: {names}); "
            f"open it with another tool, or restore a backup"
        )


def backup(connection: apsw.Connection, target: str, progress: Callable[[int, int], None] | None = None) -> None:
    """Copy the live database page by page to the new file ``target``, while others may write.

    ``progress`` is called with pages done and pages in all.
    """
    with apsw.Connection(target) as copy, copy.backup("main", connection, "main") as running:
        while not running.done:
            try:
                running.step(4096)
            except apsw.BusyError:
                time.sleep(0.01)
            if progress is not None:
                progress(running.page_count - running.remaining, running.page_count)
        running.finish()
    # The copy carries the header of a WAL file; back to a plain one.
    finished = apsw.Connection(target)
    finished.pragma("journal_mode", "DELETE")
    finished.close()


@contextmanager
def replacing(target: str) -> Iterator[str]:
    """A temporary path beside ``target``; on success it is synced and takes ``target``'s place in one step."""
    temporary = f"{target}.{os.getpid()}.part"
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        folder = os.open(os.path.dirname(os.path.abspath(target)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        for leftover in (temporary, f"{temporary}-journal", f"{temporary}-wal", f"{temporary}-shm"):
            if os.path.exists(leftover):
                os.unlink(leftover)
