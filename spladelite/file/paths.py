"""Paths: what may be opened as a database, and how a finished copy replaces a file."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from spladelite.errors import DatabaseError, InvalidInput, NotADatabase, ReadOnly
from spladelite.file.guard import is_protected
from spladelite.renaming import rename


def resolved(path: str) -> str:
    """The absolute path of the file itself, wherever the process goes and whatever becomes of links."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise NotADatabase(f"{path!r} cannot be opened: {error}") from error


def check_path(path: str, read_only: bool, immutable: bool) -> None:
    """Refuse what cannot be a database, in words that SQLite does not have."""
    try:
        folder = Path(os.path.realpath(path)).parent
        found = os.stat(path)
    except FileNotFoundError:
        if read_only:
            raise NotADatabase(f"{path} does not exist, and read_only=True never creates a file") from None
        if not folder.is_dir():
            raise NotADatabase(f"{path}: the folder {folder} does not exist; create it first") from None
        if not os.access(folder, os.W_OK):
            raise ReadOnly(f"{path} does not exist, and the folder {folder} cannot be written") from None
        return
    except (OSError, ValueError) as error:
        raise NotADatabase(f"{path!r} cannot be opened: {error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise NotADatabase(f"{path} is a directory; give the path of a file, such as {Path(path) / 'kb.db'}")
    if not stat.S_ISREG(found.st_mode):
        raise NotADatabase(f"{path} is not a regular file")
    if found.st_size == 1:
        raise NotADatabase(f"{path} has one byte, which SQLite would take for an empty file and overwrite")
    if not read_only:
        _check_writable(path, folder, found.st_nlink)
    if immutable and (left := _unfinished(path)):
        raise DatabaseError(
            f"{path} cannot be opened with immutable=True: {left} beside it holds changes that would be ignored. "
            f"Open and close {path} once without it"
        )


def _check_writable(path: str, folder: Path, links: int) -> None:
    if not os.access(path, os.W_OK):
        raise ReadOnly(f"{path} cannot be written; open it with read_only=True")
    if not os.access(folder, os.W_OK):
        raise ReadOnly(
            f"the folder {folder} cannot be written, and SQLite keeps its log there; open {path} with read_only=True"
        )
    if links > 1:
        raise ReadOnly(
            f"{path} has {links} hard links. SQLite finds a file's log by its name, so writing through two names loses "
            f"data; make it a copy of its own, or open it with read_only=True"
        )


def is_new(path: str) -> bool:
    """Whether opening ``path`` will create a database."""
    return path == ":memory:" or not os.path.exists(path) or os.path.getsize(path) == 0


def immutable_uri(path: str) -> str:
    """A name under which SQLite takes no lock and looks for no log: the file must not change while it is open."""
    absolute = os.path.abspath(path).replace(os.sep, "/")
    return f"file://{'' if absolute.startswith('/') else '/'}{quote(absolute)}?immutable=1"


@contextmanager
def replacing(target: str, overwrite: bool = False) -> Iterator[str]:
    """A temporary path beside ``target``; on success it is synced and takes ``target``'s place in one step.

    A symbolic link is followed: the file that it names is replaced. An empty file counts as none.

    Raises:
        InvalidInput: there is a file, and not ``overwrite``; or somebody has it open.
    """
    target = os.path.realpath(target)
    if not overwrite:
        _refuse_existing(target)
    if is_protected(target):
        raise InvalidInput(f"{target} is open in SpladeLite; close it, or give another path")
    if left := _unfinished(target):
        raise InvalidInput(
            f"{target} is in use, or was not closed: {left} lies beside it, and SQLite would apply it to the new file; "
            f"close it, or give another path"
        )
    temporary = f"{target}.{secrets.token_hex(4)}.part"
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if not overwrite:
            _refuse_existing(target)
        rename(temporary, target)
        sync_folder(target)
    finally:
        for leftover in (temporary, f"{temporary}-journal", f"{temporary}-wal", f"{temporary}-shm"):
            with suppress(OSError):
                os.unlink(leftover)


def _refuse_existing(target: str) -> None:
    if os.path.exists(target) and os.path.getsize(target):
        raise InvalidInput(
            f"{target} exists already; give another path, or overwrite=True (--force on the command line) to replace it"
        )


def sync_folder(path: str) -> None:
    """Make a new name survive a power cut, where folders can be synced."""
    with suppress(OSError):
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _unfinished(path: str) -> str:
    """The name of a log beside the file that holds changes, or an empty string."""
    for name in (f"{path}-wal", f"{path}-journal"):
        if os.path.exists(name) and os.path.getsize(name):
            return name
    return ""
