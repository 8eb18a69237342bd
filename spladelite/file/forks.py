"""Tell open databases when the process forks: SQLite's locks, and its belief to hold them, must not be inherited."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forking(Protocol):
    """What an open database does around a fork."""

    def before_fork(self) -> None:
        """Close what a child must not inherit; let no other thread begin anything."""

    def after_fork_in_parent(self) -> None:
        """Let the others go on."""

    def after_fork_in_child(self) -> None:
        """Begin anew, as the only thread there is."""


_open: weakref.WeakSet[Forking] = weakref.WeakSet()
_one_fork = threading.Lock()
_told: list[Forking] = []


def watch(handle: Forking) -> None:
    """From now on, as long as it exists, the handle hears of forks."""
    _open.add(handle)


def _before() -> None:
    _one_fork.acquire()
    _told[:] = sorted(_open, key=id)  # in one order, since each of them takes a lock
    for handle in _told:
        handle.before_fork()


def _after_in_parent() -> None:
    for handle in _told:
        handle.after_fork_in_parent()
    _told.clear()
    _one_fork.release()


def _after_in_child() -> None:
    for handle in _told:
        handle.after_fork_in_child()
    _told.clear()
    _one_fork.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
