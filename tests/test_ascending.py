"""Ascending numbers as bytes: back as they were, rows that lie are named."""

from __future__ import annotations

import apsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spladelite.errors import CorruptIndex
from spladelite.file.migrations import migrations
from spladelite.index import ascending
from spladelite.index.passages import Layout, passage_checksum, read_passages


def csr(rows: list[list[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    return np.array([number for row in rows for number in row], np.int32), np.cumsum([0, *map(len, rows)]).astype(
        np.int64
    )


def encode(rows: list[list[int]], blocks: int) -> list[bytes]:
    blobs = ascending.encode(*csr(rows), blocks)
    assert [len(blob) for blob in blobs] == [len(row) + ascending.upper_length(len(row), blocks) for row in rows]
    return blobs


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
    np.testing.assert_array_equal(ascending.decode(encode(rows, blocks), indptr, blocks), numbers)


def test_more_rows_than_are_decoded_at_once() -> None:
    rows = [[i % 7, 300 + i % 1000] for i in range(2 * ascending.ROWS + 5)]
    blobs = encode(rows, 6)
    numbers, indptr = csr(rows)
    np.testing.assert_array_equal(ascending.decode(blobs, indptr, 6), numbers)
    blobs[ascending.ROWS + 3] = b"\0\0\0"
    with pytest.raises(ascending.Misfit) as wrong:
        ascending.decode(blobs, indptr, 6)
    assert wrong.value.row == ascending.ROWS + 3


def test_bits_that_moved_to_a_neighbour_are_noticed() -> None:
    rows = [[1, 2], [3, 700]]
    first, second = encode(rows, 3)
    _, indptr = csr(rows)
    assert (first, second) == (bytes([1, 2, 0b11000_000]), bytes([3, 188, 0b1001_0_000]))
    with pytest.raises(ascending.Misfit, match="do not add up"):
        ascending.decode([first[:2] + b"\x80", second[:2] + b"\xb0"], indptr, 3)


@pytest.mark.parametrize(
    ("terms", "impacts"),
    [
        (bytes([1, 2, 0b11000_000]), b"\1\0"),  # an impact of 0
        (bytes([1, 2, 0b11000_000]), b"\1\1\1"),
        (bytes([1, 2]), b"\1\1"),
        (bytes([1, 2, 0b10000_000]), b"\1\1"),
        (bytes([1, 2, 0b11100_000]), b"\1\1"),
        (bytes([2, 2, 0b11000_000]), b"\1\1"),  # not ascending
        (bytes([1, 88, 0b10010_000]), b"\1\1"),  # 600 in a vocabulary of 600
        (bytes([1, 2, 0b10000_001]), b"\1\1"),  # 1282
        (bytes(601) + bytes([255] * 75 + [0b1000_0000]), b"\1" * 601),  # more terms than there are
    ],
)
def test_a_vector_that_its_checksum_fits_but_not_its_grammar_is_named(terms: bytes, impacts: bytes) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(migrations()[0])
    for passage_id, row in ((6, (bytes([1, 2, 0b11000_000]), b"\1\1")), (7, (terms, impacts))):
        key = (passage_id, passage_id, 0, 1, 0.5)
        values = (*key, *row, passage_checksum(*key, *row))
        connection.execute("INSERT INTO passage VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    assert read_passages(connection, Layout(600), 6, 6).vectors.terms.tolist() == [1, 2]
    with pytest.raises(CorruptIndex, match="passage 7: its stored vector is not a valid one"):
        read_passages(connection, Layout(600), 6, 7)
