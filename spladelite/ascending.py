"""Ascending numbers in little more than a byte each (Elias 1974, Fano 1971): ordinals of a posting list, terms of a vector.

The grammar::

    numbers := low × count, upper       strictly ascending, below 256 · blocks
    low     := uint8                    number mod 256
    upper   := count + blocks bits      for each block of 256 numbers a 1 for every one that is there, then a 0;
                                        the high bit of a byte comes first, and zeros fill up the last byte

``count`` and ``blocks`` are known from elsewhere, so a length that does not fit them is damage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 256


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
    counts = np.diff(indptr)
    lengths = (counts + blocks + 7) // 8
    ends = np.cumsum(lengths)
    bits = np.zeros(8 * lengths.sum(), np.uint8)
    bits[(numbers >> 8) + np.arange(len(numbers)) + np.repeat(8 * (ends - lengths) - indptr[:-1], counts)] = 1
    low, upper = numbers.astype(np.uint8).tobytes(), np.packbits(bits).tobytes()
    bounds, ends = indptr.tolist(), [0, *ends.tolist()]
    return [low[a:b] + upper[c:d] for a, b, c, d in zip(bounds, bounds[1:], ends, ends[1:], strict=False)]


def decode(low: bytes, upper: bytes, indptr: NDArray[np.int64], blocks: int) -> NDArray[np.int64]:
    """The numbers of all rows, of which ``low`` and ``upper`` hold the two halves one after another.

    The lengths must be right. Numbers may come out beyond the last block, and inside a block in any order.

    Raises:
        Misfit: a row does not have as many numbers as ``indptr`` says.
    """
    if len(indptr) == 1:
        return np.empty(0, np.int64)
    counts = np.diff(indptr)
    lengths = (counts + blocks + 7) // 8
    starts = 8 * (np.cumsum(lengths) - lengths)
    bits = np.unpackbits(np.frombuffer(upper, np.uint8))
    wrong = np.flatnonzero(np.add.reduceat(bits, starts, dtype=np.int64) != counts)
    if len(wrong):
        raise Misfit(int(wrong[0]))
    numbers = np.flatnonzero(bits)
    numbers -= np.repeat(starts - indptr[:-1], counts)
    numbers -= np.arange(len(numbers))
    numbers <<= 8
    numbers |= np.frombuffer(low, np.uint8)
    return numbers
