"""What a forked child must not wait for: the threads of a pool that its parent has started.

A fork copies the pool's state and none of its threads. torch waits for them for ever; with one thread it computes in
the calling thread, and needs no pool. (Of ONNX Runtime a child opens a session of its own, see ``dense``.)
"""

from __future__ import annotations

import os
import sys

_in_use = False


def encoder_in_use() -> None:
    """A database of this process has an encoder, which may be one that computes with torch."""
    global _in_use
    _in_use = True


def _in_child() -> None:
    torch = sys.modules.get("torch")
    if _in_use and torch is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
