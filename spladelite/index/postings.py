"""The byte format of posting lists.

A *segment* holds at most 65,536 passages, numbered 0, 1, 2, … inside it: a passage's *ordinal* fits uint16. One term's
posting list in one segment is one blob. ::

    posting list := numbers, impact × count      n = passages of the segment
    numbers      := the count ordinals as in ``spladelite/index/ascending.py``, blocks = ceil(n / 256); each < n
    impact       := uint8                        1 to 255

``count`` and ``n`` are stored beside the blob, so a length that does not fit them is damage. A posting takes 2⅛ bytes,
and each list 32 for a whole segment.

In memory a list is kept in one of two shapes that the kernels add up fast, and of which no byte can lead them out of a
65,536-entry accumulator. Length and ``n`` tell which it is; integers are little-endian. ::

    in memory    := sparse | full
    sparse       := ordinal × count, impact × count      uint16 and uint8, 3 · count bytes, when 8 · count < n
    full         := impact × n                           otherwise; 0 where there is no posting
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladelite.index import ascending

MAX_SEGMENT = 65_536

Ordinals = NDArray[np.uint16]
Impacts = NDArray[np.uint8]


class Lists(NamedTuple):
    """Posting lists one after another: those of ``terms[i]`` lie from ``indptr[i]`` to ``indptr[i + 1]``."""

    terms: list[int]
    indptr: NDArray[np.int64]
    ordinals: Ordinals
    impacts: Impacts

    def of(self, i: int) -> tuple[Ordinals, Impacts]:
        """The list of ``terms[i]``."""
        span = slice(self.indptr[i], self.indptr[i + 1])
        return self.ordinals[span], self.impacts[span]


def blob_length(count: int, size: int) -> int:
    """Bytes of a stored list of ``count`` postings in a segment of ``size`` passages."""
    return 2 * count + ascending.upper_length(count, ascending.blocks_of(size))


def encode(lists: Lists, size: int) -> list[bytes]:
    """The stored blobs of posting lists. Ordinals strictly ascending in each and below ``size``."""
    impacts = lists.impacts.tobytes()
    bounds = lists.indptr.tolist()
    numbers = ascending.encode(lists.ordinals, lists.indptr, ascending.blocks_of(size))
    return [blob + impacts[a:b] for blob, a, b in zip(numbers, bounds, bounds[1:], strict=False)]


def decode(blob: bytes, count: int, size: int) -> bytes:
    """A stored blob as it is kept in memory, or :class:`ValueError` that says what contradicts the grammar."""
    if count < 1 or count > size or size > MAX_SEGMENT:
        raise ValueError(f"{count} postings in a segment of {size} passages")
    expected = blob_length(count, size)
    if len(blob) != expected:
        raise ValueError(f"{len(blob)} bytes where {count} postings take {expected}")
    ordinals = ascending.decode([blob[:-count]], np.array([0, count]), ascending.blocks_of(size))
    impacts = np.frombuffer(blob, np.uint8, count, len(blob) - count)
    if ordinals[-1] >= size:
        raise ValueError(f"ordinal {ordinals[-1]} in a segment of {size} passages")
    if not (ordinals[1:] > ordinals[:-1]).all():
        raise ValueError("ordinals that do not ascend")
    if not impacts.all():
        raise ValueError("an impact of 0")
    return in_memory(ordinals.astype(np.uint16), impacts, size)


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


def order_by_term(terms: NDArray[np.int32]) -> NDArray[np.intp]:
    """The stable order that sorts term ids: NumPy sorts 16-bit keys by radix, wider ones by comparison."""
    keys = terms.astype(np.uint16) if int(terms.max(initial=0)) < 1 << 16 else terms
    return np.argsort(keys, kind="stable")


def invert(indptr: NDArray[np.int64], terms: NDArray[np.int32], impacts: Impacts) -> Lists:
    """The posting lists of the vectors of at most 65,536 passages, terms ascending."""
    ordinals = np.repeat(np.arange(len(indptr) - 1, dtype=np.uint16), np.diff(indptr))
    order = order_by_term(terms)
    terms = terms[order]
    starts = np.append(0, np.flatnonzero(terms[1:] != terms[:-1]) + 1)[: len(terms)]
    return Lists(terms[starts].tolist(), np.append(starts, len(terms)), ordinals[order], impacts[order])
