"""Keep a second copy of SQLite, and plain ``open()``, away from files that are open here.

The standard library's ``sqlite3`` is another copy of SQLite than apsw's. When it closes a file, POSIX drops the locks
that *this* process holds on it, apsw's included, and a commit can be lost silently (sqlite.org, "How To Corrupt An
SQLite Database File", 2.2). Python raises an audit event before each such call; the hook refuses it in time.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

from spladelite.errors import DatabaseError

_open_files: Counter[str] = Counter()
_names: frozenset[str] = frozenset()  # file names alone: what the hook looks at first, on every open() of the process
_lock = threading.Lock()
_installed = False


def protect(path: str) -> None:
    """Guard ``path`` until :func:`release` is called as often as this."""
    global _installed
    with _lock:
        _open_files[os.path.realpath(path)] += 1
        _refresh()
        if not _installed:
            sys.addaudithook(_hook)  # there is no way to take an audit hook out again, so there is one
            _installed = True


def release(path: str) -> None:
    """Undo one :func:`protect`."""
    with _lock:
        _open_files.subtract([os.path.realpath(path)])
        _refresh()


def _refresh() -> None:
    global _names
    for path in [path for path, count in _open_files.items() if count < 1]:
        del _open_files[path]
    _names = frozenset(os.path.basename(path) for path in _open_files)


def _hook(event: str, args: tuple[object, ...]) -> None:
    if not _names or event not in ("sqlite3.connect", "open") or not isinstance(args[0], str | bytes | os.PathLike):
        return
    path = os.fsdecode(args[0])
    if event == "sqlite3.connect" and path.startswith("file:"):
        path = unquote(urlsplit(path).path)
    if os.path.basename(path) not in _names or os.path.realpath(path) not in _open_files:
        return
    name = Path(path).name
    if event == "sqlite3.connect":
        raise DatabaseError(
            f"{path} is open in SpladeLite. A second copy of SQLite in the same process would drop its locks and can "
            f"lose data. Use db.sql(...) to query it, db.backup(...) for a copy, or close {name} first"
        )
    warnings.warn(
        f"{path} is open in SpladeLite; closing a plain file handle on it drops SQLite's locks. Use db.backup(...) for "
        f"a copy, or close {name} first",
        stacklevel=2,
    )
