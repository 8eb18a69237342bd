"""The inner loops, ``top_k``, ``top_k_many``, ``scores_at`` and ``decode``: compiled, or else in NumPy.

Both give the same results, to the last bit.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from spladelite.index.postings import decode
from spladelite.index.scoring import scores_at, top_k, top_k_many

KERNEL = "numpy"
MANY = 50_000
"""Passages from which on the difference is felt."""

if not TYPE_CHECKING and sys.byteorder == "little":
    try:
        from spladelite.index._kernels import decode, scores_at, top_k, top_k_many

        KERNEL = "compiled"
    except ImportError:
        pass

__all__ = ["KERNEL", "decode", "scores_at", "top_k", "top_k_many", "warn_if_slow"]

_warned = False


def warn_if_slow(passages: int) -> None:
    """Tell once a process that so many passages are searched without the compiled kernel."""
    global _warned
    if KERNEL == "numpy" and passages >= MANY and not _warned:
        _warned = True
        warnings.warn(
            f"SpladeLite runs without its compiled kernel, up to 28 times as slow for the {passages:,} passages of this"
            " database; install a wheel that was made for this platform, or a C++ compiler and SpladeLite again",
            stacklevel=2,
        )
