"""Ascending numbers as bytes: back as they were, rows that lie are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spladelite import ascending


def csr(rows: list[list[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    return np.array([number for row in rows for number in row], np.int32), np.cumsum([0, *map(len, rows)]).astype(
        np.int64
    )


def halves(rows: list[list[int]], blocks: int) -> tuple[list[bytes], list[bytes]]:
    blobs = ascending.encode(*csr(rows), blocks)
    counts = [len(row) for row in rows]
    assert [len(blob) for blob in blobs] == [count + ascending.upper_length(count, blocks) for count in counts]
    return [blob[:n] for blob, n in zip(blobs, counts, strict=True)], [
        blob[n:] for blob, n in zip(blobs, counts, strict=True)
    ]


many_rows = st.integers(1, 70_000).flatmap(
    lambda bound: st.tuples(
        st.just(bound), st.lists(st.sets(st.integers(0, bound - 1), max_size=40).map(sorted), max_size=8)
    )
)


@given(many_rows)
def test_decode_undoes_encode(case: tuple[int, list[list[int]]]) -> None:
    bound, rows = case
    blocks = ascending.blocks_of(bound)
    numbers, indptr = csr(rows)
    low, upper = halves(rows, blocks)
    np.testing.assert_array_equal(ascending.decode(b"".join(low), b"".join(upper), indptr, blocks), numbers)


def test_more_rows_than_are_decoded_at_once() -> None:
    rows = [[i % 7, 300 + i % 1000] for i in range(2 * ascending.ROWS + 5)]
    low, upper = halves(rows, 6)
    numbers, indptr = csr(rows)
    np.testing.assert_array_equal(ascending.decode(b"".join(low), b"".join(upper), indptr, 6), numbers)
    upper[ascending.ROWS + 3] = b"\0\0"
    with pytest.raises(ascending.Misfit) as wrong:
        ascending.decode(b"".join(low), b"".join(upper), indptr, 6)
    assert wrong.value.row == ascending.ROWS + 3


def test_bits_that_moved_to_a_neighbour_are_noticed() -> None:
    low, upper = halves([[1, 2], [3, 700]], 3)
    _, indptr = csr([[1, 2], [3, 700]])
    with pytest.raises(ascending.Misfit, match="do not add up"):
        ascending.decode(b"".join(low), b"\x80" + b"\xf0", indptr, 3)
    assert ascending.decode(b"".join(low), b"".join(upper), indptr, 3).tolist() == [1, 2, 3, 700]
