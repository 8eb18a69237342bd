"""How many processors this process may use: one answer for encoding, ranking and training."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """Processors that the scheduler gives this process; where it does not tell, all of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
