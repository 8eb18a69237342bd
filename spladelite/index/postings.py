"""The byte format of posting lists.

A *segment* holds at most 65,536 passages, numbered 0, 1, 2, … inside it: a passage's *ordinal* fits uint16. One term's
posting list in one segment is one blob. ::

    posting list := ordinals, impact × count     n = passages of the segment
    ordinals     := short | long                 strictly ascending, each < n
    short        := uint16 × count               little-endian; where that is no longer than long
    long         := numbers                      as in ``spladelite/index/ascending.py``, blocks = ceil(n / 256)
    impact       := uint8                        1 to 255; of a word: how often it is in the document

``count`` and ``n`` are stored beside the blob, so a length that does not fit them is damage. A posting takes 2⅛ bytes,
and a long list 32 more in a whole segment; a short one, of up to 37 postings there, takes 3 bytes a posting.

In memory a list is kept in one of two shapes that the kernels add up fast, and of which no byte can lead them out of a
65,536-entry accumulator. Length and ``n`` tell which it is; integers are little-endian. ::

    in memory    := sparse | full
    sparse       := ordinal × count, impact × count      uint16 and uint8, 3 · count bytes, when 8 · count < n
    full         := impact × n                           otherwise; 0 where there is no posting
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladelite.index import ascending

MAX_SEGMENT = 65_536

Ordinals = NDArray[np.uint16]
Impacts = NDArray[np.uint8]


class Lists(NamedTuple):
    """Posting lists one after another: those of ``terms[i]`` lie from ``indptr[i]`` to ``indptr[i + 1]``."""

    terms: list[int]  # ascending
    indptr: NDArray[np.int64]
    ordinals: Ordinals
    impacts: Impacts

    def of(self, i: int) -> tuple[Ordinals, Impacts]:
        """The list of ``terms[i]``."""
        span = slice(self.indptr[i], self.indptr[i + 1])
        return self.ordinals[span], self.impacts[span]

    def take(self, rows: NDArray[np.intp]) -> Lists:
        """Some of the lists, in the given order."""
        counts = np.diff(self.indptr)[rows]
        indptr = np.concatenate(([0], np.cumsum(counts)))
        entries = np.repeat(self.indptr[:-1][rows] - indptr[:-1], counts) + np.arange(indptr[-1])
        return Lists([self.terms[i] for i in rows.tolist()], indptr, self.ordinals[entries], self.impacts[entries])


def is_short(count: int, size: int) -> bool:
    """Whether the ordinals of ``count`` postings in a segment of ``size`` passages are written in two bytes each."""
    return count <= ascending.upper_length(count, ascending.blocks_of(size))


def blob_length(count: int, size: int) -> int:
    """Bytes of a stored list of ``count`` postings in a segment of ``size`` passages."""
    return 2 * count + min(count, ascending.upper_length(count, ascending.blocks_of(size)))


def encode(lists: Lists, size: int) -> list[bytes]:
    """The stored blobs of posting lists. Ordinals strictly ascending in each and below ``size``."""
    impacts = lists.impacts.tobytes()
    bounds = lists.indptr.tolist()
    short = [is_short(b - a, size) for a, b in pairwise(bounds)]
    ordinals = lists.ordinals.astype("<u2", copy=False).tobytes()
    is_long = ~np.array(short, bool)
    long = lists.take(np.flatnonzero(is_long)) if is_long.any() else None
    numbers = iter(ascending.encode(long.ordinals, long.indptr, ascending.blocks_of(size)) if long else ())
    return [
        (ordinals[2 * a : 2 * b] if is_pair else next(numbers)) + impacts[a:b]
        for is_pair, (a, b) in zip(short, pairwise(bounds), strict=True)
    ]


def decode(blob: bytes, count: int, size: int) -> bytes:
    """A stored blob as it is kept in memory, or :class:`ValueError` that says what contradicts the grammar."""
    if count < 1 or count > size or size > MAX_SEGMENT:
        raise ValueError(f"{count} postings in a segment of {size} passages")
    expected = blob_length(count, size)
    if len(blob) != expected:
        raise ValueError(f"{len(blob)} bytes where {count} postings take {expected}")
    if is_short(count, size):
        ordinals = np.frombuffer(blob, "<u2", count).astype(np.int32)
    else:
        ordinals = ascending.decode([blob[:-count]], np.array([0, count]), ascending.blocks_of(size))
    impacts = np.frombuffer(blob, np.uint8, count, len(blob) - count)
    if ordinals[-1] >= size:
        raise ValueError(f"ordinal {ordinals[-1]} in a segment of {size} passages")
    if not (ordinals[1:] > ordinals[:-1]).all():
        raise ValueError("ordinals that do not ascend")
    if not impacts.all():
        raise ValueError("an impact of 0")
    return in_memory(ordinals.astype(np.uint16), impacts, size)


def decode_many(terms: Sequence[int], counts: Sequence[int], blobs: Sequence[bytes], size: int) -> Lists:
    """Many stored blobs of one segment; :class:`ValueError` as :func:`decode`."""
    for count, blob in zip(counts, blobs, strict=True):
        if count < 1 or count > size or len(blob) != blob_length(count, size):
            raise ValueError(f"{len(blob)} bytes for {count} postings in a segment of {size} passages")
    indptr = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    ordinals = np.empty(indptr[-1], np.int32)
    short = np.array([is_short(count, size) for count in counts], bool)
    in_short = np.repeat(short, counts)
    pairs = b"".join([blob[: 2 * n] for blob, n, two in zip(blobs, counts, short.tolist(), strict=True) if two])
    ordinals[in_short] = np.frombuffer(pairs, "<u2")
    if not short.all():
        rows = [blob[:-n] for blob, n, two in zip(blobs, counts, short.tolist(), strict=True) if not two]
        of_long = np.append(0, np.cumsum(np.array(counts)[~short]))
        ordinals[~in_short] = ascending.decode(rows, of_long, ascending.blocks_of(size))
    impacts = np.frombuffer(b"".join([blob[-n:] for blob, n in zip(blobs, counts, strict=True)]), np.uint8)
    rises = np.diff(ordinals, prepend=-1) > 0
    rises[indptr[:-1]] = True
    if not rises.all() or (ordinals >= size).any() or not impacts.all():
        raise ValueError("ordinals that do not ascend or are not in the segment, or an impact of 0")
    return Lists(list(terms), indptr, ordinals.astype(np.uint16), impacts)


def concatenate(parts: Sequence[Lists]) -> Lists:
    """The posting lists of neighbouring parts of a segment together: those of one term become one list."""
    terms = np.concatenate([np.empty(0, np.int64), *(np.array(part.terms, np.int64) for part in parts)])
    counts = np.concatenate([np.empty(0, np.int64), *(np.diff(part.indptr) for part in parts)])
    starts = np.append(0, np.cumsum(counts))
    every = Lists(
        terms.tolist(),
        starts,
        np.concatenate([np.empty(0, np.uint16), *(part.ordinals for part in parts)]),
        np.concatenate([np.empty(0, np.uint8), *(part.impacts for part in parts)]),
    )
    ordered = every.take(np.argsort(terms, kind="stable"))
    sorted_terms = np.array(ordered.terms, np.int64)
    first = np.flatnonzero(np.diff(sorted_terms, prepend=-1))
    return Lists(sorted_terms[first].tolist(), np.append(ordered.indptr[first], len(every.ordinals)), *ordered[2:])


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


def order_by_term(terms: NDArray[Any]) -> NDArray[np.intp]:
    """The stable order that sorts term ids: NumPy sorts 16-bit keys by radix, wider ones by comparison."""
    keys = terms.astype(np.uint16) if int(terms.max(initial=0)) < 1 << 16 else terms
    return np.argsort(keys, kind="stable")


def invert(indptr: NDArray[np.int64], terms: NDArray[Any], impacts: Impacts) -> Lists:
    """The posting lists of the vectors of at most 65,536 passages, terms ascending."""
    return group(terms, np.repeat(np.arange(len(indptr) - 1, dtype=np.uint16), np.diff(indptr)), impacts)


def group(terms: NDArray[Any], ordinals: Ordinals, impacts: Impacts) -> Lists:
    """The posting lists of single postings ``(nnz,)``, whose ordinals ascend among those of a term."""
    order = order_by_term(terms)
    terms = terms[order]
    starts = np.append(0, np.flatnonzero(terms[1:] != terms[:-1]) + 1)[: len(terms)]
    return Lists(terms[starts].tolist(), np.append(starts, len(terms)), ordinals[order], impacts[order])
