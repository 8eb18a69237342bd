"""The inner loops, ``top_k``, ``top_k_many``, ``scores_at`` and ``decode``: compiled, or else in NumPy.

Both give the same results, to the last bit.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from spladelite.index.postings import decode
from spladelite.index.scoring import scores_at, top_k, top_k_many

KERNEL = "numpy"

if not TYPE_CHECKING and sys.byteorder == "little":
    try:
        from spladelite.index._kernels import decode, scores_at, top_k, top_k_many

        KERNEL = "compiled"
    except ImportError:
        pass

__all__ = ["KERNEL", "decode", "scores_at", "top_k", "top_k_many"]
