"""The schema of every format version, one SQL file a step: ``0001_initial.sql``, ``0002_…``.

A file holds complete SQL statements. ``PRAGMA user_version`` of a database says how many steps it has had.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def migrations() -> tuple[str, ...]:
    """The SQL text of each step, in order; its position + 1 is the format version that it leads to."""
    return tuple(path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.sql")))
