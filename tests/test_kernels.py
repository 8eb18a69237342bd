"""The compiled kernel, the NumPy kernel and a dictionary must agree: ids, score bits, ties."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spladelite import SpladeLite
from spladelite.index import kernels, postings
from spladelite.index import scoring as search
from spladelite.index.scoring import Segment, SegmentQuery

compiled = pytest.importorskip("spladelite.index._kernels", reason="the extension is not built")

Query = tuple[list[SegmentQuery], list[float]]
Result = tuple[NDArray[np.int64], NDArray[np.float32]]


def random_parts(
    seed: int, sizes: list[int], terms: int, coarse: bool, several: bool, masked: bool, words: bool = False
) -> Query:
    """Segments of the given sizes; ``coarse`` makes ties likely, ``several`` gives documents several passages.

    ``words`` makes them lists of words, for BM25.
    """
    rng = np.random.default_rng(seed)
    weights = rng.choice([0.5, 1.0], terms) if coarse else rng.uniform(0.01, 3, terms)
    parts = []
    first = 1
    for segment_id, size in enumerate(sizes):
        passage_ids = first + np.cumsum(rng.integers(1, 4, size))
        first = int(passage_ids[-1]) + 1
        scales = np.full(size, 0.5) if coarse else rng.uniform(0.001, 0.02, size)
        starts = rng.random(size) < 0.4
        starts[0] = True
        segment = Segment(
            segment_id,
            passage_ids.astype(np.int64),
            scales.astype(np.float32),
            (np.cumsum(starts) - 1).astype(np.int32) if several else None,
        )
        lists = []
        for _ in weights:
            ordinals = np.flatnonzero(rng.random(size) < rng.choice([0.02, 0.3, 0.9])).astype("<u2")
            impacts = rng.integers(1, 4 if coarse else 256, len(ordinals)).astype(np.uint8)
            lists.append(postings.in_memory(ordinals, impacts, size))
        allowed = (rng.random(size) < 0.5).astype(np.uint8) if masked else None
        norms = None
        if words:
            norms = np.ones(postings.MAX_SEGMENT, np.float32)
            norms[:size] = rng.choice([0.5, 1.5], size) if coarse else rng.uniform(0.3, 4, size)
        parts.append(SegmentQuery(segment, allowed, lists, norms))
    return parts, weights.tolist()


def dictionary_top_k(
    parts: list[SegmentQuery], weights: list[float], k: int, min_score: float
) -> list[tuple[int, float]]:
    """The definition, one posting at a time."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for number, part in enumerate(parts):
        sums: dict[int, np.float32] = {}
        for weight, blob in zip(weights, part.lists, strict=True):
            ordinals, impacts = postings.split(blob, len(part.segment))
            for ordinal, impact in zip(ordinals.tolist(), impacts.tolist(), strict=True):
                value = np.float32(impact)
                if part.norms is not None:
                    value = value / (value + part.norms[ordinal])
                sums[ordinal] = sums.get(ordinal, np.float32(0)) + np.float32(weight) * value
        for ordinal, total in sums.items():
            score = float(total if part.norms is not None else total * part.segment.scales[ordinal])
            if (part.allowed is not None and not part.allowed[ordinal]) or score <= 0 or score < np.float32(min_score):
                continue
            document = ordinal
            if part.norms is None and part.segment.document_of is not None:
                document = int(part.segment.document_of[ordinal])
            candidate = (-score, int(part.segment.passage_ids[ordinal]))
            best[number, document] = min(best.get((number, document), candidate), candidate)
    return [(passage_id, -negative) for negative, passage_id in sorted(best.values())[:k]]


def assert_same(left: Result, right: Result) -> None:
    np.testing.assert_array_equal(left[0], right[0])
    np.testing.assert_array_equal(left[1].view(np.uint32), right[1].view(np.uint32))


def test_without_the_compiled_kernel_a_large_file_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with SpladeLite(":memory:") as db:
        db.add(["a", "b"], vectors=[{5: 1.0}, {6: 1.0}])
        db.search({5: 1.0})  # the compiled one is never slow
        monkeypatch.setattr(kernels, "KERNEL", "numpy")
        db.add("c", vectors={7: 1.0})
        db.search({5: 1.0})  # nor is a small file
        monkeypatch.setattr(kernels, "MANY", 4)
        monkeypatch.setattr(kernels, "_warned", False)
        db.add("d", vectors={7: 1.0})
        with pytest.warns(UserWarning, match="without its compiled kernel.* for the 4 passages"):
            db.search({5: 1.0})
        db.add("e", vectors={7: 1.0})
        db.search({5: 1.0})


def test_the_compiled_kernel_is_used() -> None:
    assert kernels.KERNEL == "compiled"
    assert kernels.top_k is compiled.top_k
    assert kernels.decode is compiled.decode


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 60), max_size=3),
    terms=st.integers(1, 5),
    coarse=st.booleans(),
    several=st.booleans(),
    masked=st.booleans(),
    words=st.booleans(),
    k=st.sampled_from([1, 2, 3, 10, 1000]),
    min_score=st.sampled_from([0.0, 0.5, 1.5, 100.0]),
)
def test_three_ways_to_the_same_hits(
    seed: int,
    sizes: list[int],
    terms: int,
    coarse: bool,
    several: bool,
    masked: bool,
    words: bool,
    k: int,
    min_score: float,
) -> None:
    query = random_parts(seed, sizes, terms, coarse, several, masked, words)
    expected = search.top_k(*query, k, min_score)
    assert list(zip(expected[0].tolist(), expected[1].tolist(), strict=True)) == dictionary_top_k(*query, k, min_score)
    assert_same(compiled.top_k(*query, k, min_score), expected)
    rng = np.random.default_rng(seed)
    wanted = [np.sort(rng.choice(size, rng.integers(0, size + 1), replace=False)).astype(np.uint16) for size in sizes]
    for found, right in zip(compiled.scores_at(*query, wanted), search.scores_at(*query, wanted), strict=True):
        np.testing.assert_array_equal(found.view(np.uint32), right.view(np.uint32))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("k", [1, 10, 1000, 10**12])
def test_same_hits_over_many_windows(seed: int, coarse: bool, several: bool, k: int) -> None:
    sizes = [65_536, 8_192, 20_001]
    query = random_parts(seed, sizes, 6, coarse, several, masked=seed % 2 == 1, words=seed > 1)
    assert_same(compiled.top_k(*query, k), search.top_k(*query, min(k, 10**6)))


def test_several_searches_at_once() -> None:
    queries = [random_parts(seed, [9_000, 50], terms, False, True, False) for seed, terms in ((1, 3), (2, 1), (3, 5))]
    for found, wanted in zip(compiled.top_k_many(queries, 7), search.top_k_many(queries, 7), strict=True):
        assert_same(found, wanted)
    assert compiled.top_k_many([], 7) == []


def test_threads_do_not_share_sums() -> None:
    queries = [random_parts(seed, [30_000], 4, False, False, False) for seed in range(8)]
    expected = [search.top_k(*query, 10) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, wanted in zip(
                pool.map(lambda query: compiled.top_k(*query, 10), queries), expected, strict=True
            ):
                assert_same(found, wanted)


@pytest.mark.parametrize(
    "change",
    [
        {"passage_ids": np.arange(1, 4, dtype=np.int64)},
        {"scales": np.ones(3, np.float32)},
        {"scales": np.ones(2, np.float64)},
        {"document_of": np.zeros(3, np.int32)},
        {"document_of": np.zeros(2, np.int64)},
        {"allowed": np.ones(1, np.uint8)},
        {"passage_ids": np.arange(4, dtype=np.int64)[::2]},
    ],
)
def test_wrong_arrays_are_refused_before_a_pointer_is_followed(change: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "passage_ids": np.array([1, 2]),
        "scales": np.ones(2, np.float32),
        "document_of": None,
        "allowed": None,
    }
    given_arrays = right | change
    allowed = given_arrays.pop("allowed")
    part = SegmentQuery(Segment(1, **given_arrays), allowed, [b"\x00\x05"])
    with pytest.raises(ValueError, match=r"differ in length|[Bb]uffer|contiguous"):
        compiled.top_k([part], [1.0], 1)


def test_a_segment_beyond_uint16_and_lists_that_are_not_bytes_are_refused() -> None:
    size = postings.MAX_SEGMENT + 1
    big = Segment(1, np.arange(size), np.ones(size, np.float32), None)
    with pytest.raises(ValueError, match="65536"):
        compiled.top_k([SegmentQuery(big, None, [])], [], 1)
    small = Segment(1, np.arange(2), np.ones(2, np.float32), None)
    for wrong in ("abc", None):
        with pytest.raises(TypeError):
            compiled.top_k([SegmentQuery(small, None, [wrong])], [1.0], 1)  # type: ignore[list-item]
    norms = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="differ in length"):
        compiled.top_k([SegmentQuery(small, None, [b"\0\5"], norms)], [1.0], 1)
    with pytest.raises(ValueError, match="ordinal 2 in a segment of 2"):
        compiled.scores_at([SegmentQuery(small, None, [b"\0\5"])], [1.0], [np.array([0, 2], np.uint16)])
    with pytest.raises(ValueError, match="2 posting lists for 1 weights"):
        compiled.top_k([SegmentQuery(small, None, [b"", b""])], [1.0], 1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        compiled.top_k([], [], 0)


def test_scores_that_overflow_or_vanish_are_no_trouble() -> None:
    scales = np.array([3e38, 1e-45, 1.0], np.float32)
    segment = Segment(1, np.array([1, 2, 3]), scales, None)
    for weight in (1e30, 1e-30, 0.0, -1.0):
        query = [SegmentQuery(segment, None, [bytes([255, 1, 1])])], [weight]
        with np.errstate(over="ignore", under="ignore"):
            assert_same(compiled.top_k(*query, 2), search.top_k(*query, 2))


def outcome(decode: Any, blob: bytes, count: int, size: int) -> bytes | str:
    try:
        result: bytes = decode(blob, count, size)
    except ValueError as error:
        return str(error)
    return result


@settings(max_examples=200)
@given(
    data=st.data(),
    size=st.one_of(st.integers(1, 1500), st.just(65_536)),
    density=st.sampled_from([0.001, 0.01, 0.1, 0.5, 1.0]),
)
def test_decode_gives_the_same_list_or_the_same_complaint(data: st.DataObject, size: int, density: float) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    ordinals = np.flatnonzero(rng.random(size) < density).astype(np.uint16)
    if not len(ordinals):
        ordinals = np.array([size - 1], np.uint16)
    impacts = rng.integers(1, 256, len(ordinals)).astype(np.uint8)
    lists = postings.Lists([0], np.array([0, len(ordinals)]), ordinals, impacts)
    blob = bytearray(postings.encode(lists, size)[0])
    count = len(ordinals)
    assert compiled.decode(bytes(blob), count, size) == postings.in_memory(ordinals, impacts, size)

    damage = data.draw(st.sampled_from(["byte", "cut", "longer", "count", "size"]))
    if damage == "byte":
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    elif damage == "cut":
        del blob[data.draw(st.integers(0, len(blob) - 1)) :]
    elif damage == "longer":
        blob += b"\x01"
    elif damage == "count":
        count += data.draw(st.integers(-count - 1, 3))
    else:
        size = data.draw(st.integers(0, size))
    assert outcome(compiled.decode, bytes(blob), count, size) == outcome(postings.decode, bytes(blob), count, size)
