"""The byte format of posting lists.

A *segment* holds at most 65,536 passages, numbered 0, 1, 2, … inside it: a passage's *ordinal* fits uint16. One term's
posting list in one segment is one blob. All integers are little-endian. ::

    posting list := sparse | dense          n = passages of the segment, blocks = ceil(n / 256)
    sparse       := ordinal × count, impact × count                          when count <= 2 · blocks
    dense        := block_count × blocks, low × count, impact × count        otherwise
    ordinal      := uint16    strictly ascending, < n
    block_count  := uint16    postings whose ordinal lies in [256 · i, 256 · i + 256); their sum is count
    low          := uint8     ordinal mod 256
    impact       := uint8     1 to 255

The encoding follows from ``count`` and ``n``, both stored beside the blob, so a length that does not fit either is
damage. Dense lists hold nearly all postings and take 2 bytes each; sparse ones take 3.

In memory a list is kept in one of two shapes that the kernels add up fast, and of which no byte can lead them out of a
65,536-entry accumulator. Length and ``n`` tell which it is. ::

    in memory    := sparse | full
    sparse       := ordinal × count, impact × count                          3 · count bytes, when 8 · count < n
    full         := impact × n                                               otherwise; 0 where there is no posting
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_SEGMENT = 65_536
BLOCK = 256

Ordinals = NDArray[np.uint16]
Impacts = NDArray[np.uint8]


def is_dense(count: int, size: int) -> bool:
    """Whether a list of ``count`` postings in a segment of ``size`` passages is stored in the dense layout."""
    return count > 2 * -(-size // BLOCK)


def blob_length(count: int, size: int) -> int:
    """Bytes of a stored list of ``count`` postings in a segment of ``size`` passages."""
    return 2 * -(-size // BLOCK) + 2 * count if is_dense(count, size) else 3 * count


def encode(ordinals: Ordinals, impacts: Impacts, size: int) -> bytes:
    """The stored blob of one posting list. ``ordinals`` strictly ascending and below ``size``."""
    if not is_dense(len(ordinals), size):
        return ordinals.astype("<u2", copy=False).tobytes() + impacts.tobytes()
    block_counts = np.bincount(ordinals >> 8, minlength=-(-size // BLOCK)).astype("<u2")
    return block_counts.tobytes() + ordinals.astype(np.uint8).tobytes() + impacts.tobytes()


def decode(blob: bytes, count: int, size: int) -> bytes:
    """A stored blob as it is kept in memory, or :class:`ValueError` that says what contradicts the grammar."""
    if count < 1 or count > size:
        raise ValueError(f"{count} postings in a segment of {size} passages")
    blocks = -(-size // BLOCK)
    dense = is_dense(count, size)
    expected = blob_length(count, size)
    if len(blob) != expected:
        raise ValueError(f"{len(blob)} bytes where {count} postings take {expected}")
    if dense:
        block_counts = np.frombuffer(blob, "<u2", blocks)
        if int(block_counts.sum(dtype=np.int64)) != count:
            raise ValueError("block counts that do not add up to the number of postings")
        low = np.frombuffer(blob, np.uint8, count, 2 * blocks)
        high = np.repeat(np.arange(blocks, dtype=np.uint16) << np.uint16(8), block_counts)
        ordinals, impacts = high | low, np.frombuffer(blob, np.uint8, count, 2 * blocks + count)
    else:
        ordinals, impacts = np.frombuffer(blob, "<u2", count), np.frombuffer(blob, np.uint8, count, 2 * count)
    if ordinals[-1] >= size:
        raise ValueError(f"ordinal {ordinals[-1]} in a segment of {size} passages")
    if not (ordinals[1:] > ordinals[:-1]).all():
        raise ValueError("ordinals that do not ascend")
    if not impacts.all():
        raise ValueError("an impact of 0")
    return in_memory(ordinals, impacts, size)


def is_full(count: int, size: int) -> bool:
    """Whether a list is kept full in memory: from this share on, adding zeros up is faster than jumping."""
    return 8 * count >= size


def in_memory(ordinals: Ordinals, impacts: Impacts, size: int) -> bytes:
    """A valid list as the kernels take it; empty where there are no postings."""
    if not is_full(len(ordinals), size):
        return ordinals.astype("<u2", copy=False).tobytes() + impacts.tobytes()
    full = np.zeros(size, np.uint8)
    full[ordinals] = impacts
    return full.tobytes()


def split(postings: bytes, size: int) -> tuple[Ordinals, Impacts]:
    """Ordinals and impacts of a list in memory: two arrays of equal length."""
    if len(postings) == size:
        full = np.frombuffer(postings, np.uint8)
        ordinals = np.flatnonzero(full)
        return ordinals.astype(np.uint16), full[ordinals]
    count = len(postings) // 3
    return np.frombuffer(postings, "<u2", count), np.frombuffer(postings, np.uint8, count, 2 * count)


def invert(
    indptr: NDArray[np.int64], terms: NDArray[np.int32], impacts: Impacts
) -> Iterator[tuple[int, Ordinals, Impacts]]:
    """Turn the vectors of at most 65,536 passages into ``(term_id, ordinals, impacts)``, terms ascending."""
    if not len(terms):
        return
    ordinals = np.repeat(np.arange(len(indptr) - 1, dtype=np.uint16), np.diff(indptr))
    # NumPy sorts 16-bit keys by radix, wider ones by comparison.
    keys = terms.astype(np.uint16) if int(terms.max()) < MAX_SEGMENT else terms
    order = np.argsort(keys, kind="stable")
    terms, ordinals, impacts = terms[order], ordinals[order], impacts[order]
    starts = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1])))
    ends = np.append(starts[1:], len(terms))
    for term, start, end in zip(terms[starts].tolist(), starts.tolist(), ends.tolist(), strict=True):
        yield term, ordinals[start:end], impacts[start:end]


def concatenate(parts: Sequence[tuple[Ordinals, Impacts, NDArray[np.int32]]]) -> tuple[Ordinals, Impacts]:
    """Merge one term's lists from several segments, in order.

    Each part brings the new ordinal of every old one (int32, -1 for a passage that is gone).
    """
    renumbered = [new[ordinals] for ordinals, _, new in parts]
    ordinals = np.concatenate(renumbered)
    impacts = np.concatenate([part[1] for part in parts])
    kept = ordinals >= 0
    return ordinals[kept].astype(np.uint16), impacts[kept]
