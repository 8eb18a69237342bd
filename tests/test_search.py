"""The NumPy kernel on cases small enough to see the answer. ``test_kernels`` compares it with two others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spladelite import SpladeLite
from spladelite.index import kernels
from spladelite.index import scoring as search
from spladelite.index.scoring import Segment, SegmentQuery
from spladelite.index.words import analyzer
from spladelite.search.explain import highlight

WEIGHTS = [2.0, 1.0]


def one_segment(document_of: list[int] | None = None, allowed: list[int] | None = None) -> list[SegmentQuery]:
    segment = Segment(
        1,
        np.array([10, 20, 30, 40]),
        np.array([1, 1, 0.5, 1], np.float32),
        None if document_of is None else np.array(document_of, np.int32),
    )
    lists = [bytes([1, 3, 6, 0]), bytes([4, 0, 0, 6])]
    return [SegmentQuery(segment, None if allowed is None else np.array(allowed, np.uint8), lists)]


@pytest.fixture(params=["numpy", "what is installed"])
def top_k(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    return search.top_k if request.param == "numpy" else kernels.top_k


def hits(result: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, float]]:
    return list(zip(result[0].tolist(), result[1].tolist(), strict=True))


def test_scores_and_ties(top_k) -> None:  # type: ignore[no-untyped-def]
    assert hits(top_k(one_segment(), WEIGHTS, 10)) == [(10, 6.0), (20, 6.0), (30, 6.0), (40, 6.0)]
    assert hits(top_k(one_segment(), WEIGHTS, 2)) == [(10, 6.0), (20, 6.0)]


def test_a_document_scores_as_its_best_passage(top_k) -> None:  # type: ignore[no-untyped-def]
    assert hits(top_k(one_segment([0, 0, 1, 1]), WEIGHTS, 10)) == [(10, 6.0), (30, 6.0)]


def test_passages_that_are_not_allowed(top_k) -> None:  # type: ignore[no-untyped-def]
    assert hits(top_k(one_segment(allowed=[0, 1, 0, 1]), WEIGHTS, 1)) == [(20, 6.0)]
    assert hits(top_k(one_segment([0, 0, 1, 1], [0, 1, 1, 1]), WEIGHTS, 10)) == [(20, 6.0), (30, 6.0)]
    assert hits(top_k(one_segment(allowed=[0, 0, 0, 0]), WEIGHTS, 1)) == []


def test_min_score_is_inclusive_and_zero_is_no_hit(top_k) -> None:  # type: ignore[no-untyped-def]
    assert len(top_k(one_segment(), WEIGHTS, 10, 6.0)[0]) == 4
    assert len(top_k(one_segment(), WEIGHTS, 10, float(np.nextafter(np.float32(6), np.float32(7))))[0]) == 0
    silent = [SegmentQuery(one_segment()[0].segment, None, [bytes([1, 0, 0, 0])])]
    assert hits(top_k(silent, [0.0], 10, -1.0)) == []


def test_nothing_to_search(top_k) -> None:  # type: ignore[no-untyped-def]
    ids, scores = top_k([], [], 10)
    assert ids.dtype == np.int64
    assert scores.dtype == np.float32
    assert len(ids) == len(scores) == 0


def test_score_segment() -> None:
    np.testing.assert_array_equal(search.score_segment(one_segment(allowed=[1, 0, 1, 1])[0], WEIGHTS), [6, 0, 6, 6])


@pytest.fixture(scope="module")
def bundled() -> SpladeLite:
    return SpladeLite(":memory:")


LETTERS = st.characters(exclude_categories=("Cs", "Co")) | st.sampled_from("가각서울ㄱᄀşİ़ी🇩🇪\u200d　．. a-1")


@given(st.text(LETTERS))
@example("서울 강남")
@example("ᄀ\u1161\u11a8 각각")
@example("a\u0301\u0301b")
@example("\u0130stanbul İİ")
def test_without_the_marks_a_highlight_is_the_text(bundled: SpladeLite, text: str) -> None:
    """Also where several tokens share a character, and whatever term is strong."""
    tokens = bundled._session.models.sparse.load().tokenize(text)
    places = list(analyzer(bundled._session.meta.layout.language).places(text))
    words = [term_id for _, _, term_id in places]
    for terms in (
        {},
        dict.fromkeys(tokens.term_ids.tolist(), 1.0),
        dict.fromkeys([*tokens.term_ids.tolist()[::2], *words], 1.0),
    ):
        marked = highlight(text, tokens, places, terms, "\ue000", "\ue001", str.isdigit)
        assert marked.replace("\ue000", "").replace("\ue001", "") == text
        assert "\ue000\ue000" not in marked


def test_the_full_stop_is_not_marked(bundled: SpladeLite) -> None:
    text = "A car (red). It crashed; the end..."
    tokens = bundled._session.models.sparse.load().tokenize(text)
    marked = highlight(
        text, tokens, [], dict.fromkeys(tokens.term_ids.tolist(), 1.0), "[", "]", analyzer(None).is_stop_word
    )
    assert marked == "[A] [car] ([red]). [It] [crashed]; [the] [end]..."


def test_stop_words_are_marked_only_where_nothing_else_is(bundled: SpladeLite) -> None:
    """Models expand questions with them."""
    text = "The car AND the driver of it."
    loaded = bundled._session.models.sparse.load()
    tokens = loaded.tokenize(text)
    is_stop_word = analyzer("english").is_stop_word
    everything = dict.fromkeys(tokens.term_ids.tolist(), 1.0)
    assert highlight(text, tokens, [], everything, "[", "]", is_stop_word) == "The [car] AND the [driver] of it."
    function_words = dict.fromkeys(loaded.tokenize("the of and").term_ids.tolist(), 1.0)
    assert (
        highlight(text, tokens, [], function_words, "[", "]", is_stop_word) == "[The] car [AND] [the] driver [of] it."
    )
