from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelite.index import kernels, postings


def as_list(pairs: list[tuple[int, int]]) -> tuple[postings.Ordinals, postings.Impacts]:
    return np.array([o for o, _ in pairs], np.uint16), np.array([i for _, i in pairs], np.uint8)


def encode(ordinals: postings.Ordinals, impacts: postings.Impacts, size: int) -> bytes:
    (blob,) = postings.encode(postings.Lists([0], np.array([0, len(ordinals)]), ordinals, impacts), size)
    return blob


posting_lists = st.integers(1, 2000).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.dictionaries(st.integers(0, size - 1), st.integers(1, 255), min_size=1, max_size=200).map(
            lambda pairs: sorted(pairs.items())
        ),
    )
)


@given(posting_lists)
def test_decode_undoes_encode(case: tuple[int, list[tuple[int, int]]]) -> None:
    size, pairs = case
    ordinals, impacts = as_list(pairs)
    blob = encode(ordinals, impacts, size)
    decoded = postings.split(postings.decode(blob, len(pairs), size), size)
    np.testing.assert_array_equal(decoded[0], ordinals)
    np.testing.assert_array_equal(decoded[1], impacts)


def test_the_bytes_are_as_the_grammar_says() -> None:
    one = encode(*as_list([(258, 9)]), 300)
    assert one == bytes([2, 0b01_0_00000, 9])
    five = encode(*as_list([(1, 7), (2, 8), (3, 9), (256, 10), (299, 11)]), 300)
    assert five == bytes([1, 2, 3, 0, 43, 0b1110_110_0, 7, 8, 9, 10, 11])


def test_a_full_segment_of_the_largest_size() -> None:
    ordinals = np.arange(postings.MAX_SEGMENT, dtype=np.uint16)
    impacts = np.full(postings.MAX_SEGMENT, 255, np.uint8)
    blob = encode(ordinals, impacts, postings.MAX_SEGMENT)
    decoded = postings.decode(blob, postings.MAX_SEGMENT, postings.MAX_SEGMENT)
    np.testing.assert_array_equal(postings.split(decoded, postings.MAX_SEGMENT)[0], ordinals)


@pytest.mark.parametrize(
    ("blob", "count", "size", "complaint"),
    [
        (b"", 0, 3, "0 postings in a segment of 3"),
        (b"\0\0\0\0\xf0\1\1\1\1", 4, 3, "4 postings in a segment of 3"),
        (b"\0" * 35, 1, 65_537, "1 postings in a segment of 65537"),
        (b"\0\x80", 1, 3, "2 bytes where 1 postings take 3"),
        (b"\0\x80\1\1", 1, 3, "4 bytes where 1 postings take 3"),
        (b"\0\0\1", 1, 3, "do not add up"),
        (b"\0\xc0\1", 1, 3, "do not add up"),
        (b"\3\x80\1", 1, 3, "ordinal 3 in a segment of 3"),
        (b"\0\x20\1", 1, 300, "ordinal 512 in a segment of 300"),
        (b"\0\1\1", 1, 65_536, "3 bytes where 1 postings take 35"),
        (b"\0" + b"\0" * 32 + b"\x40" + b"\1", 1, 65_536, "ordinal 65792"),
        (b"\1\0\xc0\1\1", 2, 3, "do not ascend"),
        (b"\1\1\xc0\1\1", 2, 3, "do not ascend"),
        (b"\1\x80\0", 1, 3, "impact of 0"),
    ],
)
def test_each_contradiction_is_named(blob: bytes, count: int, size: int, complaint: str) -> None:
    for decode in (postings.decode, kernels.decode):
        with pytest.raises(ValueError, match=complaint):
            decode(blob, count, size)


@given(
    st.lists(st.dictionaries(st.sampled_from([0, 1, 5, 300, 70_000]), st.integers(1, 255)), max_size=30),
)
def test_invert_is_the_transpose(rows: list[dict[int, int]]) -> None:
    indptr = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    terms = np.array([term for row in rows for term in sorted(row)], np.int32)
    impacts = np.array([row[term] for row in rows for term in sorted(row)], np.uint8)
    lists = postings.invert(indptr, terms, impacts)
    found = {
        term: list(zip(*(part.tolist() for part in lists.of(i)), strict=True)) for i, term in enumerate(lists.terms)
    }
    assert list(found) == sorted(found)
    assert found == {
        term: [(i, row[term]) for i, row in enumerate(rows) if term in row] for term in {t for row in rows for t in row}
    }
