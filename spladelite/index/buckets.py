"""Posting lists of rare words, many to a row.

Most words of a segment are in few of its documents, and a row for each would be mostly overhead. A segment's words are
divided by the first bits of their hashes into a power of two of *buckets*. Each of them is one row of ``posting``, also
where it is empty: that a word is not there is as certain as that it is, and damage to either is noticed. ::

    bucket    := id × n, size × n, ordinal × count, frequency × count       n = words of the bucket, ascending
    id        := uint48      big-endian, the word's term id
    size      := uint8       how many postings follow, at most 32; 0: the word has a row of its own
    ordinal   := uint16      little-endian; ascending in each list
    frequency := uint8       1 to 255

``count`` stands beside the blob; n follows from its length. The row's ``term_id`` is ``BUCKET + buckets + i`` for the
i-th of so many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladelite.index.postings import Lists, in_memory
from spladelite.index.scoring import WORD

BUCKET = 1 << 40
MAX_BUCKETS = 1 << 20
SMALL = 32  # postings of a list that stands in a bucket, at most
WORDS = 32  # in a bucket, about: a kilobyte or less
ID_BYTES = 6
HASH_BITS = 46


class BucketRow(NamedTuple):
    """One bucket as it is stored."""

    term_id: int
    postings: int
    blob: bytes


def pack_ids(terms: NDArray[np.int64]) -> bytes:
    """Term ids of words, six bytes each."""
    return terms.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 8 - ID_BYTES :].tobytes()


def unpack_ids(blob: bytes, starts: NDArray[np.int64] | int = 0) -> NDArray[np.int64]:
    """What :func:`pack_ids` made; :class:`ValueError` unless words', and ascending from each of ``starts``."""
    if len(blob) % ID_BYTES:
        raise ValueError(f"{len(blob)} bytes of term ids")
    wide = np.zeros((len(blob) // ID_BYTES, 8), np.uint8)
    wide[:, 8 - ID_BYTES :] = np.frombuffer(blob, np.uint8).reshape(-1, ID_BYTES)
    terms = wide.view(">i8")[:, 0].astype(np.int64)
    before = np.concatenate(([WORD - 1], terms))
    before[starts] = WORD - 1
    if (terms <= before[:-1]).any() or (terms >= 2 * WORD).any():
        raise ValueError("term ids that do not ascend, or are not those of words")
    return terms


def bucket_id(word: int, buckets: int) -> int:
    """The ``term_id`` of the row that has a word, or says that the segment does not have it."""
    return BUCKET + buckets + ((word - WORD) >> (HASH_BITS - buckets.bit_length() + 1))


def encode(lists: Lists) -> tuple[int, list[BucketRow], Lists]:
    """How many buckets, their rows, and the lists that get rows of their own."""
    terms = np.array(lists.terms, np.int64)
    sizes = np.diff(lists.indptr)
    small = sizes <= SMALL
    buckets = 1 << max(len(terms) // WORDS - 1, 0).bit_length()
    few = lists.take(np.flatnonzero(small))
    ids, stored_sizes = pack_ids(terms), np.where(small, sizes, 0).astype(np.uint8)
    of_posting = np.append(0, np.cumsum(stored_sizes, dtype=np.int64))
    first = (terms - WORD) >> (HASH_BITS - buckets.bit_length() + 1)
    bounds = np.searchsorted(first, np.arange(buckets + 1))
    ordinals, frequencies = few.ordinals.astype("<u2", copy=False).tobytes(), few.impacts.tobytes()
    size_bytes = stored_sizes.tobytes()
    rows = []
    for i, (a, b, c, d) in enumerate(
        zip(
            bounds[:-1].tolist(),
            bounds[1:].tolist(),
            of_posting[bounds[:-1]].tolist(),
            of_posting[bounds[1:]].tolist(),
            strict=True,
        )
    ):
        blob = ids[ID_BYTES * a : ID_BYTES * b] + size_bytes[a:b] + ordinals[2 * c : 2 * d] + frequencies[c:d]
        rows.append(BucketRow(BUCKET + buckets + i, d - c, blob))
    return buckets, rows, lists.take(np.flatnonzero(~small))


def find(blob: bytes, count: int, word: int, size: int) -> bytes | None:
    """A word's list from a bucket, as kept in memory; empty if it is not there, None if it has a row of its own.

    Raises:
        ValueError: the bucket contradicts its grammar.
    """
    n = words_of(blob, count)
    wanted = word.to_bytes(ID_BYTES)
    at = blob.find(wanted, 0, ID_BYTES * n)
    while at % ID_BYTES:
        if at < 0:
            return b""
        at = blob.find(wanted, at + 1, ID_BYTES * n)
    sizes = blob[ID_BYTES * n : (ID_BYTES + 1) * n]
    i = at // ID_BYTES
    if not sizes[i]:
        return None
    first = sum(sizes[:i])
    end = first + sizes[i]
    if end > count:
        raise ValueError("more postings than there are")
    start = (ID_BYTES + 1) * n
    ordinals = np.frombuffer(blob, "<u2", end - first, start + 2 * first)
    frequencies = np.frombuffer(blob, np.uint8, end - first, start + 2 * count + first)
    if ordinals[-1] >= size or (ordinals[1:] <= ordinals[:-1]).any() or not frequencies.all():
        raise ValueError("ordinals that do not ascend or are not in the segment, or a frequency of 0")
    return in_memory(ordinals, frequencies, size)


def words_of(blob: bytes, count: int) -> int:
    """How many words a bucket has."""
    n, rest = divmod(len(blob) - 3 * count, ID_BYTES + 1)
    if count < 0 or n < 0 or rest:
        raise ValueError(f"{len(blob)} bytes for {count} postings")
    return n


def decode_all(rows: Sequence[BucketRow], buckets: int, size: int) -> tuple[Lists, NDArray[np.int64]]:
    """The lists of all buckets of a segment of ``size`` passages, and the words that have rows of their own.

    Raises:
        ValueError: what contradicts the grammar.
    """
    if [row.term_id for row in rows] != list(range(BUCKET + buckets, BUCKET + 2 * buckets)):
        raise ValueError(f"{len(rows)} buckets where there are {buckets}")
    numbers = [words_of(row.blob, row.postings) for row in rows]
    terms = unpack_ids(b"".join([row.blob[: ID_BYTES * n] for row, n in zip(rows, numbers, strict=True)]))
    sizes = np.frombuffer(
        b"".join([row.blob[ID_BYTES * n : (ID_BYTES + 1) * n] for row, n in zip(rows, numbers, strict=True)]), np.uint8
    ).astype(np.int64)
    rest = [(row.blob, (ID_BYTES + 1) * n, row.postings) for row, n in zip(rows, numbers, strict=True)]
    ordinals = np.frombuffer(b"".join([blob[a : a + 2 * count] for blob, a, count in rest]), "<u2").astype(np.uint16)
    frequencies = np.frombuffer(b"".join([blob[a + 2 * count :] for blob, a, count in rest]), np.uint8)
    which = (terms - WORD) >> (HASH_BITS - buckets.bit_length() + 1)
    of_bucket = np.append(0, np.cumsum(sizes))[np.searchsorted(which, np.arange(buckets + 1))]
    if (
        not np.array_equal(which, np.repeat(np.arange(buckets), numbers))
        or not np.array_equal(np.diff(of_bucket), [row.postings for row in rows])
        or (sizes > SMALL).any()
    ):
        raise ValueError("words of another bucket, or other postings than there are")
    small = sizes > 0
    indptr = np.append(0, np.cumsum(sizes[small]))
    rises = np.diff(ordinals.astype(np.int64), prepend=-1) > 0
    rises[indptr[:-1]] = True
    if not rises.all() or (ordinals >= size).any() or not frequencies.all():
        raise ValueError("ordinals that do not ascend or are not in the segment, or a frequency of 0")
    return Lists(terms[small].tolist(), indptr, ordinals, frequencies), terms[~small]
