"""The schema of every format version: the folder ``migrations`` at the top, installed as ``spladelite.migrations``."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path


@cache
def migrations() -> tuple[str, ...]:
    """The SQL text of each step, in order; its position + 1 is the format version that it leads to."""
    folder = Path(import_module("spladelite.migrations").__path__[0])
    return tuple(path.read_text("utf-8") for path in sorted(folder.glob("*.sql")))
