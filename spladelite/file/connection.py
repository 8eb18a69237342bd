"""The connections of one open database: transactions, exceptions, hardening.

One connection a thread, and another for the SQL that a user writes, which cannot write. While a file is open for
writing it is in WAL mode with ``synchronous=FULL``: readers never block the writer, and an acknowledged commit survives
a power cut. The last ``close()`` turns it back into one plain file that opens anywhere, read-only folders included.

SQLite's locks do not survive a fork: the parent's connections are closed before one, and both sides open new ones.
"""

from __future__ import annotations

import math
import os
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Literal

import apsw

from spladelite.errors import CorruptIndex, DatabaseError, InvalidInput, ReadOnly, SpladeLiteError
from spladelite.file import forks, schema
from spladelite.file.guard import FileKey, file_key, has_stale_log, protect, refuse_open_file, release
from spladelite.file.network import on_network
from spladelite.file.paths import check_path, immutable_uri, resolved
from spladelite.file.sqlite import (
    Clock,
    close,
    fetch,
    harden,
    leave_wal,
    leave_wal_later,
    only_reading,
    open_file,
    set_journal,
    translated,
)

PATIENCE = 10.0  # seconds that close() and fork wait for calls in other threads
LOG_LIMIT = 64 << 20  # bytes that the WAL file keeps after a checkpoint

Durability = Literal["full", "fast"]

# What code of ours may run into when a row is not what the schema says.
_STRANGE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, struct.error)


_WHO_DELETES = (
    "Only SQLite may delete it; another copy of SQLite in this process does, when it closes the file: "
    "use db.sql() instead, or another process"
)


class _ThreadConnections:
    """A thread's connections. When the thread is gone, the next new one takes them over."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.connection: apsw.Connection | None = None
        self.log: FileKey | None = None  # the log that `connection` writes to
        self.user: apsw.Connection | None = None  # runs the SQL that the user wrote
        self.clock = Clock()
        self.depth = 0  # calls that use it, one inside the other


class Connections:
    """All connections of one open database.

    Args:
        path: a file, or ``":memory:"``.
        read_only: never writes; the file must exist.
        immutable: nobody writes: no locks, and no log is looked for. Implies ``read_only``.
        durability: ``"full"``: what was acknowledged survives a power cut; ``"fast"``: the latest calls may be lost.
        prepare: called with each new connection, to register functions on it.
        upgrade: brings the rows of an older format up.
        create: called inside the creating transaction of a new file, after the tables are there.
        indexes: ``CREATE INDEX`` statements that the file may have besides the tables, given its connection.
    """

    def __init__(
        self,
        path: str,
        *,
        read_only: bool,
        immutable: bool = False,
        durability: Durability = "full",
        prepare: Callable[[apsw.Connection], None],
        create: Callable[[apsw.Connection], None],
        upgrade: schema.Upgrade,
        indexes: Callable[[apsw.Connection], set[str]],
    ) -> None:
        self.memory = path == ":memory:"
        # Once and for all: threads open it later, when the process may be in another folder, or a link lead elsewhere.
        self.path = path if self.memory else resolved(path)
        self.read_only = read_only or immutable
        self.frozen = ""  # why the file, although it could be written, must not be
        self.closed = False
        self._immutable = immutable
        self._durability = durability
        self._prepare = prepare
        self._create = create
        self._upgrade = upgrade
        self._indexes = indexes
        self._network = False
        self._warned = False
        self._torn = False  # the process was forked in the middle of a call
        self._key: FileKey | None = None  # which file was opened
        self._threads: list[_ThreadConnections] = []
        self._local = threading.local()
        self._new_locks()
        if not self.memory:
            check_path(self.path, self.read_only, immutable)
        forks.watch(self)

    # --- transactions ------------------------------------------------------------------------------------------------

    @contextmanager
    def read(self, timeout: float | None = None) -> Iterator[apsw.Connection]:
        """A read transaction: every statement inside sees the same state of the file.

        After ``timeout`` seconds a statement that runs is ended by :class:`Interrupted`.
        """
        with self._call(timeout) as (own, connection):
            if own.depth > 1 and connection.in_transaction:  # a read inside a transaction of the same thread
                yield connection
                return
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                self._roll_back(own)

    @contextmanager
    def write(self) -> Iterator[apsw.Connection]:
        """A write transaction: all of it or, after an exception, nothing of it."""
        self.require_writable()
        with self._call() as (own, _):
            try:
                connection = self._begin_immediate(own)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(own)
                raise
            self.require_same_file()
            if not self._log_is_there(own):
                self._abandon(own)
                raise DatabaseError(
                    f"the file {self.path}-wal was deleted while this call wrote to it, and what it wrote may be lost: "
                    f"repeat the call. {_WHO_DELETES}"
                )

    def _begin_immediate(self, own: _ThreadConnections) -> apsw.Connection:
        """Begin to write, to the log that others read too: where ours was deleted, a new connection finds the other."""
        for _ in range(3):
            if own.connection is None:
                own.connection = self._open(own)
            own.connection.execute("BEGIN IMMEDIATE")
            self.require_same_file()
            if self._log_is_there(own):
                return own.connection
            self._abandon(own)
        raise DatabaseError(f"the file {self.path}-wal is deleted again and again. {_WHO_DELETES}")

    def _log_is_there(self, own: _ThreadConnections) -> bool:
        """Whether the log that the connection writes to is the one that the next to open the file will read."""
        return self.memory or file_key(f"{self.path}-wal") == own.log

    def _abandon(self, own: _ThreadConnections) -> None:
        """Close the connections whose log was deleted; what others wrote since must not be overwritten from it."""
        with self._state:
            for stale in self._threads:
                if stale is own or not stale.depth:
                    if stale.connection is not None:
                        stale.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                    self._drop(stale)

    @contextmanager
    def outside_transaction(self) -> Iterator[apsw.Connection]:
        """The bare connection: for VACUUM, which manages its transaction itself."""
        with self._call() as (_, connection):
            yield connection

    def require_writable(self) -> None:
        """:class:`ReadOnly` if nothing may be changed."""
        if self.read_only:
            raise ReadOnly(f"{self.path} is open read-only; open it without read_only=True to change it")
        if self.frozen:
            raise ReadOnly(f"{self.path} cannot be changed: {self.frozen}")

    def locked_in_memory(self) -> AbstractContextManager[object]:
        """Keeps other threads out of a database in memory, over several transactions; does nothing for a file."""
        return self._one_at_a_time

    @contextmanager
    def querying(self, timeout: float | None = None) -> Iterator[apsw.Connection]:
        """For SQL that a user wrote: it may read everything, and attach other files, and change nothing.

        It has a connection of its own, opened read-only, so that what it attaches takes no part in our transactions.
        """
        with self._call(timeout) as (own, connection):
            if not self.memory:
                connection = own.user = own.user or self._open(own, user=True)
            connection.authorizer = only_reading
            try:
                yield connection
            except apsw.AuthError as error:
                raise InvalidInput("db.sql() runs statements that read; use add, update or delete to write") from error
            except (apsw.SQLError, apsw.BindingsError, apsw.MismatchError, apsw.TooBigError) as error:
                raise InvalidInput(f"the SQL cannot be run: {error}") from error
            finally:
                connection.authorizer = None

    @contextmanager
    def _call(self, timeout: float | None = None) -> Iterator[tuple[_ThreadConnections, apsw.Connection]]:
        with self._one_at_a_time, translated(self.path):
            own = self._take_connections()
            try:
                if timeout is not None:
                    own.clock.deadline = time.monotonic() + timeout
                if own.connection is None:
                    own.connection = self._open(own)
                elif own.depth == 1 and own.connection.in_transaction:  # left by a call that Ctrl-C tore apart
                    self._roll_back(own)
                yield own, own.connection
            except (apsw.IOError, apsw.FullError):
                self._drop(own)  # what it remembers of the file may be wrong
                raise
            except _STRANGE as error:
                self._blame_file(own, error)
                raise
            finally:
                with self._state:
                    own.depth -= 1
                    if not own.depth:
                        own.clock.deadline = math.inf
                        self._state.notify_all()

    def _blame_file(self, own: _ThreadConnections, error: Exception) -> None:
        """Raise :class:`CorruptIndex` if what confused us is a file whose rows are not of the types of its schema."""
        if isinstance(error, SpladeLiteError) or own.connection is None:
            return
        problems = fetch(own.connection, "PRAGMA quick_check(1)")
        if problems != [("ok",)]:
            raise CorruptIndex(
                f"{self.path} is damaged: {problems[0][0]}; restore a backup, or run check(repair=True)"
            ) from error

    def _take_connections(self) -> _ThreadConnections:
        with self._state:
            if self.closed:
                raise DatabaseError(f"{self.path} is closed; open it again with SpladeLite({self.path!r})")
            if self._torn:
                raise DatabaseError(
                    f"this process was forked while {self.path} was in use, and its locks did not come along; "
                    f"fork when no call runs, or start the process with multiprocessing's 'spawn'"
                )
            own: _ThreadConnections | None = getattr(self._local, "own", None)
            if own is None:
                if self.memory:
                    free = self._threads[:1]
                else:
                    free = [each for each in self._threads if not each.thread.is_alive()][:1]
                if free:
                    own = free[0]
                    own.thread = threading.current_thread()
                else:
                    own = _ThreadConnections()
                    self._threads.append(own)
                self._local.own = own
            own.depth += 1
            return own

    def _roll_back(self, own: _ThreadConnections) -> None:
        """End a transaction. If even that fails, the connection goes: SQLite rolls back when it is opened again."""
        connection = own.connection
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            self._drop(own)

    def _drop(self, own: _ThreadConnections) -> None:
        """Close a connection that has seen an error of the disk; the next call opens another."""
        if not self.memory:
            for connection in (own.user, own.connection):
                if connection is not None:
                    close(connection)
            own.user = own.connection = None

    # --- opening and closing -----------------------------------------------------------------------------------------

    def _open(self, own: _ThreadConnections, user: bool = False) -> apsw.Connection:
        clock, writes = own.clock, not (self.read_only or user)
        self.require_same_file()
        flags = apsw.SQLITE_OPEN_READWRITE if writes else apsw.SQLITE_OPEN_READONLY
        if writes and self._key is None:
            flags |= apsw.SQLITE_OPEN_CREATE
        if self._key is None and writes and not self.memory:
            refuse_open_file(self.path)
        if self._immutable:
            connection = open_file(immutable_uri(self.path), flags | apsw.SQLITE_OPEN_URI)
        else:
            connection = open_file(self.path, flags)
        try:
            if writes and not self.memory and has_stale_log(self.path):
                raise DatabaseError(
                    f"another copy of SQLite in this process (sqlite3, pysqlite3) has {self.path} open, and goes on "
                    f"with a log of it that was deleted: what is written now could be lost. Close its connections "
                    f"first; use db.sql() in their place"
                )
            if self._key is None and not self.memory:
                self._warn_of_missing_log(connection)
                self._key = file_key(self.path) if self._immutable else protect(self.path)
            harden(connection, clock)
            if writes:
                self._make_writable(connection, clock)
                own.log = file_key(f"{self.path}-wal")
            elif not schema.is_current(connection, self.path):
                raise ReadOnly(f"{self.path} has an older format; open it once without read_only=True to bring it up")
            schema.check_schema(connection, self.path, self._indexes)
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 1)  # ours: the schema is checked by now
            self._prepare(connection)
        except BaseException:
            close(connection)
            raise
        return connection

    def _warn_of_missing_log(self, connection: apsw.Connection) -> None:
        """What a copy of an open file's main part alone looks like; also a file whose last user was another program."""
        log = f"{self.path}-wal"
        if os.path.exists(log):
            return
        for _ in range(5):  # another handle that opens or closes at this moment is done at once
            complete, versions = connection.read("main", 0, 18, 2)
            if not complete or versions != b"\2\2" or os.path.exists(log):
                return
            time.sleep(0.01)
        else:
            warnings.warn(
                f"{self.path} says that it is open or was not closed, and its log {log} is not there. If it was copied "
                f"while a program had it open, what was stored last is missing, perhaps all: copy it with "
                f"`spladelite backup`, or close it first. If not, nothing is missing",
                stacklevel=2,
            )

    def require_same_file(self) -> None:
        """What the path names must stay the file that the first connection opened."""
        if self._key is not None and self._key != file_key(self.path):
            raise DatabaseError(
                f"{self.path} is no longer the file that was opened: it was moved or deleted, or another was put in "
                f"its place; close this handle, and open the file that you mean"
            )

    def _make_writable(self, connection: apsw.Connection, clock: Clock) -> None:
        """Create or migrate; nothing is changed in a file that is not ours."""
        fresh = schema.is_empty(connection)
        current = not fresh and schema.is_current(connection, self.path)
        if not fresh:  # before anything is changed
            schema.check_schema(connection, self.path, self._indexes)
        if not self.memory:
            self._use_journal(connection, clock)
        if current:
            return
        older = not fresh and connection.pragma("user_version") < self._upgrade.format
        if older:
            self._upgrade.prepare(connection, self.path)
        connection.execute("BEGIN IMMEDIATE")
        try:  # another process may have been faster
            if schema.is_empty(connection):
                schema.create(connection, self._create)
            elif not schema.is_current(connection, self.path):
                schema.migrate(connection, self.path, self._upgrade)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(apsw.Error):
                connection.execute("ROLLBACK")
            raise
        if older:
            self._upgrade.finish(self.path)

    def _use_journal(self, connection: apsw.Connection, clock: Clock) -> None:
        """Write-ahead log, or where there is no shared memory for it, a rollback journal that is truncated."""
        connection.pragma("journal_size_limit", LOG_LIMIT)
        mode = "delete"
        self._network = on_network(self.path)
        if not self._network:
            with suppress(apsw.IOError):
                mode = set_journal(connection, "WAL", clock)
        if mode == "wal":
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'full' else 'NORMAL'}")
            return
        set_journal(connection, "TRUNCATE", clock)
        connection.execute("PRAGMA synchronous = EXTRA")
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.path}: this file system cannot do write-ahead logging; readers will wait while a write commits",
                stacklevel=2,
            )

    def close(self) -> None:
        """Close every connection; the last writer of a file leaves one plain file behind. Idempotent.

        Calls in other threads are waited for, and interrupted after a while.
        """
        with self._one_at_a_time, self._state:
            if self.closed:
                return
            self.closed = True
            try:
                if not self._wait_for_others():
                    for other in self._threads:
                        for connection in (other.connection, other.user):
                            if connection is not None and other.depth and other is not self._of_this_thread():
                                connection.interrupt()
                    self._wait_for_others()
            except BaseException:
                self.closed = False
                raise
            if not self._close_connections() and not self._network:
                leave_wal_later(self.path)
        if not self._immutable:
            release(self._key)

    def _of_this_thread(self) -> _ThreadConnections | None:
        return getattr(self._local, "own", None)

    def _others_busy(self) -> bool:
        own = self._of_this_thread()
        return any(other.depth for other in self._threads if other is not own)

    def _wait_for_others(self) -> bool:
        return self._state.wait_for(lambda: not self._others_busy(), PATIENCE)

    def _close_connections(self) -> bool:
        """Whether that leaves one plain file, or there is none that this handle may write."""
        plain = True
        gone = self._key is not None and self._key != file_key(self.path)
        own = self._of_this_thread()
        idle = [each for each in self._threads if each is own or not each.depth]
        for user in [each.user for each in idle if each.user is not None]:
            close(user)
        connections = [each.connection for each in idle if each.connection is not None]
        for i, connection in enumerate(connections):
            if gone:  # what was moved away is completed; what has its name now, and that one's log, are left alone
                with suppress(apsw.Error):
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            elif i == len(connections) - 1 and not self.read_only and not self.memory:
                plain = leave_wal(connection)
            close(connection)
        for each in idle:
            each.connection = each.user = None
        return plain

    # --- forking -----------------------------------------------------------------------------------------------------

    def _new_locks(self) -> None:
        self._state = threading.Condition(threading.RLock())  # guards the threads' connections and their depth
        self._one_at_a_time: AbstractContextManager[object] = threading.RLock() if self.memory else nullcontext()

    def before_fork(self) -> None:
        """Close what a child must not inherit; what a running call holds is left to it, and lost to the child."""
        self._state.acquire()
        own = self._of_this_thread()
        self._torn = not self._wait_for_others() or (own is not None and own.depth > 0)
        if not self._torn and not self.memory:
            self._close_connections()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._torn = False
        self._state.release()

    def after_fork_in_child(self) -> None:
        """Start anew. A connection that was in use can be neither used nor closed here: it is kept, for ever."""
        self._new_locks()
        if self._torn:
            import ctypes

            for each in self._threads:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))
        if not self.memory:
            self._threads = []
            self._local = threading.local()
