"""The bytes of posting lists on the web, small rather than fast: every byte is fetched over a network.

::

    list    := ascending, values, crc32          numbers below `bound`, count and bound known from elsewhere
    ascending := low × count, upper              Elias–Fano (Elias 1974, Fano 1971)
    low     := `bits` bits                       the lowest bits of the number; bits = floor(log2(bound / count))
    upper   := count + ((bound - 1) >> bits) bits    for each high part a 1 for every number that has it, then a 0
    values  := byte × count                      impacts: 1 to 255
             | unary × count                     term frequencies: n - 1 ones, then a 0

Bits fill a byte from its high end; low, upper and unary each end at a whole byte. crc32 is little-endian and covers the
bytes before it. A varint is LEB128: seven bits a byte, low ones first, the high bit set where more follow.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.integer]


def encode_list(numbers: Numbers, bound: int, values: bytes) -> bytes:
    """One list: ``numbers`` (C,) strictly ascending, 0 <= number < ``bound``, and the bytes of their values."""
    return with_checksum(encode_ascending(numbers, bound) + values)


def with_checksum(content: bytes) -> bytes:
    """``content`` and its CRC-32."""
    return content + crc32(content).to_bytes(4, "little")


def low_bits(count: int, bound: int) -> int:
    """How many bits of each of ``count`` numbers stand in ``low``."""
    return max(bound // count, 1).bit_length() - 1


def encode_ascending(numbers: Numbers, bound: int) -> bytes:
    """``ascending`` of the module docstring."""
    count = len(numbers)
    if not count:
        return b""
    bits = low_bits(count, bound)
    wide = numbers.astype(np.int64)
    low = (wide[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    upper = np.zeros(count + ((bound - 1) >> bits), np.uint8)
    upper[(wide >> bits) + np.arange(count)] = 1
    return np.packbits(low.astype(np.uint8)).tobytes() + np.packbits(upper).tobytes()


def encode_unary(values: Numbers) -> bytes:
    """``unary`` of numbers from 1 up."""
    ends = np.cumsum(values, dtype=np.int64)
    bits = np.ones(int(ends[-1]) if len(ends) else 0, np.uint8)
    bits[ends - 1] = 0
    return np.packbits(bits).tobytes()


def varints(values: Numbers | list[int]) -> bytes:
    """Non-negative numbers, one varint after another."""
    numbers = np.asarray(values, np.uint64)
    if not len(numbers):
        return b""
    groups = 1
    while int(numbers.max()) >> (7 * groups):
        groups += 1
    parts = (numbers[:, None] >> (7 * np.arange(groups, dtype=np.uint64))).astype(np.uint64)  # (N, groups)
    digits = (parts & np.uint64(127)).astype(np.uint8)
    more = np.zeros_like(digits)
    more[:, :-1] = (parts[:, 1:] > 0) * np.uint8(128)
    used = np.ones(digits.shape, bool)
    used[:, 1:] = parts[:, 1:] > 0
    return (digits | more)[used].tobytes()
