"""Keep other copies of SQLite in this process, and plain ``open()``, from undoing our locks.

The standard library's ``sqlite3`` is another copy of SQLite than apsw's. When it closes a file, POSIX drops the locks
that *this* process holds on it, apsw's included, and a commit can be lost silently (sqlite.org, "How To Corrupt An
SQLite Database File", 2.2).

Two things are done. apsw's copy is given locks that nobody else in the process can drop (:func:`own_locks`), so that
every other copy is to it what another process is. And Python raises an audit event before ``sqlite3.connect`` and
``open``: where the file is open here, a hook refuses the one and warns of the other, which also helps where there are
no such locks. A file is known by device and inode, so links and relative paths lead to it too.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import Counter
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import apsw

from spladelite.errors import DatabaseError

FileKey = tuple[int, int]

_open_files: Counter[FileKey] = Counter()
_lock = threading.RLock()  # a collected handle may release its file while this thread protects another
_installed = False


def own_locks() -> bool:
    """Give SQLite locks of open file descriptions in place of locks of the process; whether the system has them."""
    try:
        from spladelite.file._locks import calls as addresses
    except ImportError:  # Windows, where locks belong to handles anyway, or an installation without a compiler
        return False
    calls: dict[str, int] = addresses()
    if calls:
        vfs = apsw.VFS("spladelite-locks", "unix")
        for name, address in calls.items():
            vfs.xSetSystemCall(name, address)
        vfs.unregister()
    return bool(calls)


OWN_LOCKS = own_locks()


def others_have_open(path: str) -> bool:
    """Whether another copy of SQLite in this process, or a plain ``open()``, has the file open, as far as told.

    Its locks do not tell: a third copy, or a plain ``open()`` and ``close()``, may have dropped them.
    """
    if not OWN_LOCKS:
        return False
    from spladelite.file._locks import others

    return bool(others(path))


def refuse_open_file(path: str) -> None:
    """Without locks of our own, what another copy of SQLite has open already cannot be guarded.

    Raises:
        DatabaseError: something in this process has the file open.
    """
    key = file_key(path)
    if OWN_LOCKS or os.name == "nt" or key is None or key in _open_files:
        return
    with suppress(OSError):
        for number in os.listdir("/dev/fd"):
            if file_key(f"/dev/fd/{number}") == key:
                raise DatabaseError(
                    f"{path} is open in this process already, by another copy of SQLite or open(): closing that would "
                    f"drop SpladeLite's locks and can lose data; close it first"
                )


def has_stale_log(path: str) -> bool:
    """Whether another copy of SQLite in this process goes on with a log of the file that was deleted, as far as told.

    To the log that has the name now it would do anything: all its connections share one index, that of the deleted.
    """
    gone = {f"{path}-wal (deleted)", f"{path}-shm (deleted)"}
    with suppress(OSError):
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{number}") in gone:
                    return others_have_open(path)
    return False


def protect(path: str) -> FileKey | None:
    """Guard an existing file until :func:`release` is called with the result as often as this."""
    global _installed
    key = file_key(path)
    if key is not None:
        with _lock:
            _open_files[key] += 1
            if not _installed:
                sys.addaudithook(_hook)  # there is no way to take an audit hook out again, so there is one
                _installed = True
    return key


def release(key: FileKey | None) -> None:
    """Undo one :func:`protect`."""
    if key is not None:
        with _lock:
            _open_files[key] -= 1
            if _open_files[key] < 1:
                del _open_files[key]


def is_protected(path: str) -> bool:
    """Whether the file is open in SpladeLite, in this process."""
    return file_key(path) in _open_files


def file_key(path: str | bytes) -> FileKey | None:
    """Which file the path names now; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _hook(event: str, args: tuple[object, ...]) -> None:
    if not _open_files or event not in ("sqlite3.connect", "open"):
        return
    if not isinstance(args[0], str | bytes | os.PathLike):
        return
    path = os.fsdecode(args[0])
    if event == "sqlite3.connect" and path.startswith("file:"):
        path = unquote(urlsplit(path).path)
        if os.name == "nt" and path[2:3] == ":":
            path = path[1:]  # /C:/kb.db
    if file_key(path) not in _open_files:
        return
    if event == "sqlite3.connect":
        raise DatabaseError(
            f"{path} is open in SpladeLite. A second copy of SQLite in the same process would drop its locks and can "
            f"lose data. Use db.sql(...) to query it, db.backup(...) for a copy, or close it first"
        )
    warnings.warn(
        f"{path} is open in SpladeLite; closing a plain file handle on it drops SQLite's locks. Use db.backup(...) for "
        f"a copy, or close the database first",
        stacklevel=2,
    )
