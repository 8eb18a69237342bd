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
    assert one == bytes([2, 1, 9])
    few = encode(*as_list([(300 * i, i) for i in range(1, 38)]), postings.MAX_SEGMENT)
    assert few == np.arange(300, 300 * 38, 300, dtype="<u2").tobytes() + bytes(range(1, 38))
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
        (b"\0\1\0\1\1", 2, 3, "do not add up"),
        (b"\0\1\xe0\1\1", 2, 3, "do not add up"),
        (b"\3\0\1", 1, 3, "ordinal 3 in a segment of 3"),
        (b"\0\2\1", 1, 300, "ordinal 512 in a segment of 300"),
        (b"\0\1\2\x38\1\1\1", 3, 300, "ordinal 514 in a segment of 300"),
        (b"\0" * 114, 38, 65_536, "114 bytes where 38 postings take 113"),
        (b"\0" * 74 + b"\1" * 37, 37, 65_536, "do not ascend"),
        (b"\1\0\xc0\1\1", 2, 3, "do not ascend"),
        (b"\1\1\xc0\1\1", 2, 3, "do not ascend"),
        (b"\1\0\0", 1, 3, "impact of 0"),
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


@given(st.lists(posting_lists, min_size=1, max_size=8))
def test_many_lists_decode_as_one_by_one(cases: list[tuple[int, list[tuple[int, int]]]]) -> None:
    size = max(size for size, _ in cases)
    given_lists = [as_list(pairs) for _, pairs in cases]
    blobs = [encode(*each, size) for each in given_lists]
    counts = [len(ordinals) for ordinals, _ in given_lists]
    found = postings.decode_many(list(range(len(blobs))), counts, blobs, size)
    for i, (ordinals, impacts) in enumerate(given_lists):
        np.testing.assert_array_equal(found.of(i)[0], ordinals)
        np.testing.assert_array_equal(found.of(i)[1], impacts)
    damaged = bytearray(blobs[0])
    damaged[-1] = 0
    with pytest.raises(ValueError, match="impact of 0"):
        postings.decode_many([0], counts[:1], [bytes(damaged)], size)
    with pytest.raises(ValueError, match="bytes for"):
        postings.decode_many([0], counts[:1], [blobs[0] + b"\1"], size)


@given(st.lists(st.dictionaries(st.integers(0, 9), st.integers(1, 9), max_size=5), min_size=1, max_size=12), st.data())
def test_parts_of_a_segment_together_are_the_segment(rows: list[dict[int, int]], data: st.DataObject) -> None:
    def lists_of(first: int, end: int) -> postings.Lists:
        entries = [(term, i, row[term]) for i, row in enumerate(rows) if first <= i < end for term in sorted(row)]
        return postings.group(
            np.array([term for term, _, _ in entries], np.int64),
            np.array([i for _, i, _ in entries], np.uint16),
            np.array([impact for _, _, impact in entries], np.uint8),
        )

    cut = data.draw(st.integers(0, len(rows)))
    together, expected = postings.concatenate([lists_of(0, cut), lists_of(cut, len(rows))]), lists_of(0, len(rows))
    assert together.terms == expected.terms
    for found, wanted in zip(together[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(found, wanted)
