"""What is asked of SQLite itself: limits, hardening, waiting, the end of write-ahead logging, exceptions, copies."""

from __future__ import annotations

import errno
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
)
from spladelite.file.guard import others_have_open

if not hasattr(apsw, "carray"):  # an apsw of a Linux distribution takes the system's SQLite
    raise ImportError(
        f"apsw {apsw.apsw_version()} here uses a SQLite without carray (SQLITE_ENABLE_CARRAY), which SpladeLite needs;"
        " PyPI's brings its own: pip install --force-reinstall apsw"
    )

BUSY_TIMEOUT_MS = 30_000
PROGRESS_STEPS = 20_000  # virtual-machine steps between two looks at signals: some 100 microseconds

_LIMITS = {
    apsw.SQLITE_LIMIT_SQL_LENGTH: 1_000_000,
    apsw.SQLITE_LIMIT_ATTACHED: 10,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class Clock:
    """What SQLite calls between steps, and while it waits for a lock: lets Ctrl-C in, and ends a call that is late."""

    def __init__(self) -> None:
        self.deadline = math.inf
        self._waiting_since = 0.0

    def progress(self) -> bool:
        """Whether to interrupt the statement. That Python runs at all lets a pending Ctrl-C be raised."""
        return time.monotonic() > self.deadline

    def busy(self, tries: int) -> bool:
        """Sleep a little and try again, or give up."""
        now = time.monotonic()
        if not tries:
            self._waiting_since = now
        if now > min(self.deadline, self._waiting_since + BUSY_TIMEOUT_MS / 1000):
            return False
        time.sleep(min(1 + 2 * tries, 25) / 1000)
        return True


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
    (
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "database_list",
        "compile_options",
        "data_version",
    )
)


def only_reading(action: int, first: str | None, *_: str | None) -> int:
    """An authorizer for SQL that a user wrote: it may read everything, and attach other files."""
    allowed = action in _READING or (action == apsw.SQLITE_PRAGMA and first in _READING_PRAGMAS)
    return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def fetch(connection: apsw.Connection, sql: str, args: Any = None) -> list[Any]:
    """All rows of a statement of ours, whose columns' types we know and mypy does not."""
    return connection.execute(sql, args).fetchall()


def quoted(name: str) -> str:
    """A name of the schema, as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def int_array(values: Sequence[int] | NDArray[np.int64]) -> Any:
    """Numbers for ``carray(?)`` in a statement; at least one."""
    return apsw.carray(np.ascontiguousarray(values, np.int64))


_TOUCH = "SELECT 1 FROM sqlite_schema LIMIT 1"  # the least that begins a read transaction

_NOT_CLOSED = (
    "A file that was not closed needs a folder that can be written, even to be read; where nobody else uses it, "
    "immutable=True opens it"
)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn apsw's exceptions, and those that its bindings let through, into ours. The cause stays attached."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise Busy(
            f"{path}: somebody else wrote for {BUSY_TIMEOUT_MS // 1000} s, or up to the timeout; try again later"
        ) from error
    except apsw.InterruptError as error:
        raise Interrupted(f"{path}: the statement was interrupted; give it a longer timeout=") from error
    except apsw.NotADBError as error:
        raise NotADatabase(
            f"{path} is not a SQLite database; give the path of a SpladeLite file or a new one"
        ) from error
    except apsw.CorruptError as error:
        raise CorruptIndex(f"{path} is damaged: {error}; restore a backup, or run check(repair=True)") from error
    except apsw.ReadOnlyError as error:
        raise ReadOnly(f"{path} cannot be written: {error}; {_NOT_CLOSED}") from error
    except apsw.CantOpenError as error:
        if not os.access(path, os.R_OK):
            raise NotADatabase(f"{path} cannot be opened: {error}; may you read it? {_NOT_CLOSED}") from error
        if _out_of_descriptors():
            raise _too_many_files(path) from error
        raise NotADatabase(
            f"{path} cannot be opened: {error}; is its folder there, can it be written, and are few enough files open? "
            f"{_NOT_CLOSED}"
        ) from error
    except apsw.FullError as error:
        raise DatabaseError(f"{path}: no space left to write; nothing of this call was stored") from error
    except apsw.TooBigError as error:
        raise InvalidInput(f"{path}: a text or vector of over 1 GB cannot be stored: {error}") from error
    except apsw.NoMemError as error:
        raise DatabaseError(
            f"{path}: SQLite ran out of memory; if there is enough, a damaged row claims too much: run check()"
        ) from error
    except apsw.Error as error:
        if isinstance(error, apsw.IOError) and _out_of_descriptors():
            raise _too_many_files(path) from error
        raise DatabaseError(f"{path}: {error}") from error
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise _too_many_files(path) from error
        raise
    except UnicodeDecodeError as error:
        raise CorruptIndex(f"{path} holds text that is not UTF-8: {error}") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(f"text that is not valid Unicode (a lone surrogate): {error}") from error
    except OverflowError as error:
        raise InvalidInput(f"a number that does not fit 64 bits: {error}") from error


def _out_of_descriptors() -> bool:
    """Whether this process can open one more file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def _too_many_files(path: str) -> DatabaseError:
    return DatabaseError(
        f"{path}: too many open files: the process has no file descriptor left. Each thread that uses a database needs "
        f"two, a database two more; close some, or raise the limit (ulimit -n)"
    )


def harden(connection: apsw.Connection, clock: Clock) -> None:
    """Before the first row of a file is read: nothing in its schema may run."""
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    for limit, value in _LIMITS.items():
        connection.limit(limit, value)
    connection.set_busy_handler(clock.busy)
    connection.set_progress_handler(clock.progress, PROGRESS_STEPS)
    connection.execute("PRAGMA cell_size_check = 1")


def set_journal(connection: apsw.Connection, mode: str, clock: Clock) -> str:
    """Set the journal mode and begin to use it; returns the one that now is.

    A change upgrades a read lock, and there SQLite does not call its busy handler: of two that open a closed file at
    one moment, one would fail at once. So the waiting is done here.
    """
    give_up = min(clock.deadline, time.monotonic() + BUSY_TIMEOUT_MS / 1000)
    while True:
        try:
            given = str(connection.pragma("journal_mode", mode))
            fetch(connection, _TOUCH)  # only now does this connection hold on to the log
            found = str(connection.pragma("journal_mode"))
            if found == given or time.monotonic() > give_up:
                return found
            # In between somebody else's close() has ended the log, and we would go on without one.
        except apsw.BusyError:
            if time.monotonic() > give_up:
                raise
        time.sleep(0.002)


def open_file(path: str, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) -> apsw.Connection:
    """A bare connection, without our settings: the only place where a database file is opened.

    ``":memory:"`` and ``""``, a temporary file without a name, are opened here too.
    """
    return apsw.Connection(path, flags=flags)


def close(connection: apsw.Connection) -> None:
    """Close; the last to do so deletes the log, unless it is in use by another copy of SQLite in this process.

    Which may have lost its locks, so that ours does not see that it is there.
    """
    if others_have_open(f"{connection.filename}-shm"):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close(True)


def leave_wal(connection: apsw.Connection) -> bool:
    """One plain file again, and True; False if somebody else has it open, or it cannot be written."""
    connection.set_busy_handler(None)
    if not others_have_open(f"{connection.filename}-shm"):  # see close()
        with suppress(apsw.Error):
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.pragma("journal_mode", "DELETE")
            return True
    with suppress(apsw.Error):  # at least the file itself is then complete
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return False


def leave_wal_later(path: str) -> None:
    """For a file that is closed here, but was in use when :func:`leave_wal` looked.

    Two that close at one moment each see the other, and neither would be the last.
    """
    for _ in range(3):
        time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - only so that they do not meet again
        with suppress(apsw.Error):
            connection = open_file(path, apsw.SQLITE_OPEN_READWRITE)
            try:
                harden(connection, Clock())
                connection.set_busy_handler(None)
                connection.pragma("journal_mode", "WAL")  # take over what the other may have left beside the file
                fetch(connection, _TOUCH)
                if leave_wal(connection):
                    return
            finally:
                close(connection)


def backup(connection: apsw.Connection, target: str, progress: Callable[[int, int], None] | None = None) -> None:
    """Copy the database page by page to the new file ``target``, as the connection's transaction sees it.

    Others may write meanwhile. ``progress`` is called with pages done and pages in all.
    """
    fetch(connection, _TOUCH)  # from now on this state stays: no copying twice
    with open_file(target) as copy, copy.backup("main", connection, "main") as running:
        while not running.done:
            running.step(4096)
            if progress is not None:
                progress(running.page_count - running.remaining, running.page_count)
        running.finish()
    # The copy carries the header of a WAL file; back to a plain one.
    finished = open_file(target)
    finished.pragma("journal_mode", "DELETE")
    finished.close()
