"""Ascending numbers in little more than a byte each: the ordinals of a posting list, the terms of a vector.

After Elias (1974) and Fano (1971), with eight low bits. ::

    numbers := low × count, upper       strictly ascending, below 256 · blocks
    low     := uint8                    number mod 256
    upper   := count + blocks bits      for each block of 256 numbers a 1 for every one that is there, then a 0;
                                        the high bit of a byte comes first, and zeros fill up the last byte

``count`` and ``blocks`` are known from elsewhere, so a length that does not fit them is damage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
ROWS = 4096  # that are decoded at once: what is needed meanwhile stays small


class Misfit(ValueError):
    """The bits of ``row`` do not hold as many numbers as they should."""

    def __init__(self, row: int) -> None:
        super().__init__("upper bits that do not add up to the count")
        self.row = row


def blocks_of(bound: int) -> int:
    """How many blocks the numbers below ``bound`` have."""
    return -(-bound // BLOCK)


def upper_length(count: int, blocks: int) -> int:
    """Bytes of ``upper``."""
    return (count + blocks + 7) // 8


def encode(numbers: NDArray[np.integer], indptr: NDArray[np.int64], blocks: int) -> list[bytes]:
    """Each row of a CSR array, numbers strictly ascending inside it, as bytes."""
    counts = indptr[1:] - indptr[:-1]
    starts, ends = _upper_bounds(counts, blocks)
    places = (8 * starts - indptr[:-1]).repeat(counts)
    places += np.arange(len(numbers))
    places += numbers >> 8
    bits = np.zeros(8 * int(ends[-1]) if len(ends) else 0, np.uint8)
    bits[places] = 1
    low, upper = numbers.astype(np.uint8).tobytes(), np.packbits(bits).tobytes()
    return [
        low[begin:end] + upper[upper_begin:upper_end]
        for (begin, end), upper_begin, upper_end in zip(
            pairwise(indptr.tolist()), starts.tolist(), ends.tolist(), strict=True
        )
    ]


def decode(rows: Sequence[bytes], indptr: NDArray[np.int64], blocks: int) -> NDArray[np.int32]:
    """The numbers of all rows, which must be of the right lengths.

    Numbers may come out beyond the last block, and inside a block in any order.

    Raises:
        Misfit: a row does not have as many numbers as ``indptr`` says.
    """
    counts = indptr[1:] - indptr[:-1]
    starts, ends = _upper_bounds(counts, blocks)
    sizes = counts.tolist()
    low = b"".join([row[:size] for row, size in zip(rows, sizes, strict=True)])
    upper = np.frombuffer(b"".join([row[size:] for row, size in zip(rows, sizes, strict=True)]), np.uint8)
    numbers = np.frombuffer(low, np.uint8).astype(np.int32)
    for first in range(0, len(counts), ROWS):
        last = min(first + ROWS, len(counts))
        bits = np.unpackbits(upper[starts[first] : ends[last - 1]])
        bit_starts = 8 * (starts[first:last] - starts[first])
        wrong = np.add.reduceat(bits, bit_starts, dtype=np.int64) != counts[first:last]
        if wrong.any():
            raise Misfit(first + int(wrong.argmax()))
        high = bits.nonzero()[0]
        high -= (bit_starts + indptr[first] - indptr[first:last]).repeat(counts[first:last])
        high -= np.arange(len(high))
        high <<= 8
        numbers[indptr[first] : indptr[last]] |= high.astype(np.int32)
    return numbers


def _upper_bounds(counts: NDArray[np.int64], blocks: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the upper bits of each row begin and end, in bytes, when they stand one after another."""
    lengths = (counts + (blocks + 7)) // 8
    ends = lengths.cumsum()
    return ends - lengths, ends
