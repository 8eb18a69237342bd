"""Which indexes answer a query: SPLADE, BM25, dense vectors, or several of them fused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spladelite.arguments import check_unicode
from spladelite.documents.filters import Filter, matching_doc_ids
from spladelite.documents.table import document_ids
from spladelite.errors import InvalidInput, InvalidVector, WrongType
from spladelite.file.sqlite import fetch, int_array
from spladelite.file_models import FileModel
from spladelite.file_models_dense import FileDense
from spladelite.index import dense_blocks as dense
from spladelite.index import words as lexical
from spladelite.index.passages import Layout
from spladelite.records import Explanation, Hit, PartMatch
from spladelite.search.fusion import DEPTH, Ranking, check_fusion, check_weights, default_weights, fuse
from spladelite.search.query_weights import Weigher, weighers
from spladelite.search.searcher import Query, Searcher, View

MODES = ("splade", "bm25", "dense", "hybrid")

Rerank = Callable[[str, list[str]], Sequence[float]]


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """A checked ``mode=``, ``weights=`` and ``fusion=``.

    Attributes:
        parts: the indexes that are asked, one or more of ``splade``, ``bm25`` and ``dense``.
        weights: of the parts, given by the caller; None means the default for each query.
        fusion: ``"convex"`` or ``"rrf"``.
    """

    parts: tuple[str, ...]
    weights: Mapping[str, float] | None
    fusion: str


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A query, encoded for every part that will be asked.

    Attributes:
        text: empty if the query is a sparse vector.
        weigh: the query's terms and weights; without a SPLADE part, what ``highlight`` marks.
        vector: float32 ``(D,)``, where the dense part is asked and the text is not blank.
    """

    text: str
    weigh: Weigher
    vector: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one part found: documents best first, each with the passage to show. Arrays of equal length."""

    doc_ids: NDArray[np.int64]
    passage_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


def check_mode(mode: object, weights: object, fusion: object, layout: Layout) -> Mode:
    """The arguments of a search as a :class:`Mode`.

    Raises:
        InvalidInput: an unknown mode, or one that the file has no index for; weights without a hybrid.
        WrongType: weights of a wrong type.
    """
    if mode not in MODES:
        raise InvalidInput(f"mode is {mode!r}; give one of {', '.join(MODES)}")
    if mode == "bm25" and not layout.bm25:
        raise InvalidInput("this file was created with bm25=False; create a new one to search it with mode='bm25'")
    if mode == "dense" and not layout.dimension:
        raise InvalidInput(
            "this file has no dense vectors; create a new one with dense= to search it with mode='dense'"
        )
    rule = check_fusion(fusion)
    if mode != "hybrid":
        if weights is not None:
            raise InvalidInput(f"weights are for mode='hybrid', and mode is {mode!r}")
        return Mode((str(mode),), None, rule)
    available = ["splade", *(["bm25"] if layout.bm25 else []), *(["dense"] if layout.dimension else [])]
    if len(available) == 1:
        raise InvalidInput(
            "mode='hybrid' needs a second index, and this file was created with bm25=False and without dense="
        )
    if weights is None:
        return Mode(tuple(available), None, rule)
    checked = check_weights(weights, available)
    return Mode(tuple(checked), checked, rule)


def questions(
    queries: Sequence[object], mode: Mode, encoder: str | None, model: FileModel, dense_model: FileDense
) -> list[Question]:
    """Encode queries for the parts of a mode, together and outside of any transaction."""
    if mode.parts != ("splade",):
        for query in queries:
            if not isinstance(query, str):
                raise WrongType(f"the query is of type {type(query).__name__}; BM25 and dense search need a text")
            check_unicode(query, "the query")
        if encoder is not None and "splade" not in mode.parts:
            raise InvalidInput(f"encoder={encoder!r} is for the SPLADE part, and this search has none")
    texts = [query if isinstance(query, str) else "" for query in queries]
    if "splade" in mode.parts:
        weigh = weighers(queries, encoder, model)
    else:
        weigh = [_words_to_mark(text if "bm25" in mode.parts else "", model) for text in texts]
    vectors: list[NDArray[np.float32] | None] = [None] * len(texts)
    if "dense" in mode.parts:
        asked = [i for i, text in enumerate(texts) if text.strip()]
        for i, vector in zip(asked, dense_model.queries([texts[i] for i in asked]), strict=True):
            vectors[i] = vector
    return [Question(*entry) for entry in zip(texts, weigh, vectors, strict=True)]


def _words_to_mark(text: str, model: FileModel) -> Weigher:
    """The terms of the words that BM25 looks for, alike in weight."""

    def weigh(view: View) -> Query:
        words = lexical.query_words(view.connection, text)
        terms = np.unique(model.load().tokenize(" ".join(words)).term_ids).tolist() if words else []
        return [(term, 1.0) for term in terms]

    return weigh


def answer(
    searcher: Searcher,
    view: View,
    mode: Mode,
    question: Question,
    k: int,
    min_score: float | None,
    matching: Filter | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32], Mapping[int, float]]:
    """The passages to show of the k best documents, their scores, and the query's weights for ``highlight``."""
    query = question.weigh(view)
    if mode.parts == ("splade",):
        passage_ids, scores = searcher.top_k(view, query, k, min_score or 0.0, matching)
        return passage_ids, scores, dict(query)
    if len(mode.parts) == 1:
        found = ask(mode.parts[0], searcher, view, question, k, matching)
    else:
        parts = {name: ask(name, searcher, view, question, max(k, DEPTH), matching) for name in mode.parts}
        fused = fuse(
            {name: Ranking(part.doc_ids, part.scores) for name, part in parts.items()},
            part_weights(mode, view, question),
            k,
            mode.fusion,
        )
        shown: dict[int, int] = {}
        for name in ("bm25", "dense", "splade"):  # the last one decides: it knows why the document was found
            if name in parts:
                shown.update(zip(parts[name].doc_ids.tolist(), parts[name].passage_ids.tolist(), strict=True))
        passages = np.array([shown[doc_id] for doc_id in fused.ids.tolist()], np.int64)
        found = Found(fused.ids, passages, fused.scores)
    passage_ids, scores = found.passage_ids, found.scores
    if min_score is not None:
        passage_ids, scores = passage_ids[scores >= min_score], scores[scores >= min_score]
    if "bm25" in mode.parts and len(passage_ids):
        passage_ids = _show_words(view, question.text, passage_ids)
    return passage_ids, scores, dict(query)


def ask(name: str, searcher: Searcher, view: View, question: Question, k: int, matching: Filter | None) -> Found:
    """One part's k best documents."""
    if name == "splade":
        passage_ids, scores = searcher.top_k(view, question.weigh(view), k, 0.0, matching)
        return Found(document_ids(view.connection, passage_ids), passage_ids, scores)
    allowed = None if matching is None else _allowed(view, matching)
    if name == "bm25":
        doc_ids, scores = lexical.search(view.connection, question.text, k, allowed)
        return Found(doc_ids, doc_ids, scores)  # the first passage's id is the document's
    if question.vector is None:
        empty = np.empty(0, np.int64)
        return Found(empty, empty, np.empty(0, np.float32))
    return Found(*dense.search(view.connection, question.vector, k, allowed, view.snapshot.verified_blocks))


def _allowed(view: View, matching: Filter) -> NDArray[np.int64]:
    """The living documents that match, ascending; from the masks that the snapshot remembers."""
    masks = view.snapshot.allowed(matching, lambda: matching_doc_ids(view.connection, matching))
    doc_ids = [np.empty(0, np.int64)]
    for segment in view.snapshot.all_segments:
        passage_ids, mask = segment.passage_ids, masks[segment.segment_id]
        if segment.document_of is not None:  # a document's first passage has its id
            first = np.flatnonzero(np.diff(segment.document_of, prepend=-1))
            passage_ids, mask = passage_ids[first], mask[first]
        doc_ids.append(passage_ids[mask > 0])
    return np.concatenate(doc_ids)


def part_weights(mode: Mode, view: View, question: Question) -> dict[str, float]:
    """The caller's weights, or the default ones for this query."""
    if mode.weights is not None:
        return dict(mode.weights)
    words = len(lexical.query_words(view.connection, question.text)) if "bm25" in mode.parts else 0
    return default_weights(dict.fromkeys(mode.parts), words)


def explain_in_parts(
    explanation: Explanation, searcher: Searcher, view: View, mode: Mode, question: Question, doc_id: int
) -> Explanation:
    """What each part gives one document in a search with k up to ``DEPTH``; ``explanation`` is SPLADE's."""
    parts = {name: ask(name, searcher, view, question, DEPTH, None) for name in mode.parts}
    fused = fuse(
        {name: Ranking(part.doc_ids, part.scores) for name, part in parts.items()},
        part_weights(mode, view, question),
        DEPTH * len(parts),
        mode.fusion,
    )
    row = np.flatnonzero(fused.ids == doc_id)
    matches = []
    for name, part in parts.items():
        rank = np.flatnonzero(part.doc_ids == doc_id)
        score = float(part.scores[rank[0]]) if len(rank) else 0.0
        contribution = float(fused.contributions[name][row[0]]) if len(row) else 0.0
        words = lexical.contributions(view.connection, question.text, doc_id) if name == "bm25" else {}
        matches.append(PartMatch(name, score, score if len(parts) == 1 else contribution, words))
    return replace(
        explanation,
        score=sum(match.contribution for match in matches),
        terms=explanation.terms if "splade" in mode.parts else (),
        parts=tuple(matches),
    )


def reranked(rerank: Rerank, query: object, hits: list[Hit], k: int) -> list[Hit]:
    """The hits in the order of a cross-encoder's scores for (query, passage), best first, the k best.

    Raises:
        WrongType: the query is a sparse vector.
        InvalidVector: not one finite score a hit.
    """
    if not isinstance(query, str):
        raise WrongType(f"the query is of type {type(query).__name__}; rerank= needs a text")
    if not hits:
        return []
    scores = np.asarray(rerank(query, [hit.passage.text for hit in hits]), np.float64)
    if scores.shape != (len(hits),) or not np.isfinite(scores).all():
        raise InvalidVector(
            f"rerank returned scores of shape {scores.shape} for {len(hits)} texts; expected one finite number a text"
        )
    order = np.argsort(-scores, kind="stable")[:k]
    return [hits[i]._replace(score=float(scores[i])) for i in order]


def _show_words(view: View, query: str, passage_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where BM25 alone found a document of several passages: the passage with the most of the query's words."""
    rows = fetch(
        view.connection,
        "SELECT p.passage_id, p.start_char, p.end_char, d.doc_id, d.text FROM carray(?) c"
        " CROSS JOIN document d ON d.doc_id = c.value AND d.passages > 1"
        " CROSS JOIN passage p ON p.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1",
        (int_array(passage_ids),),
    )
    best: dict[int, tuple[int, int]] = {}
    for passage_id, start, end, doc_id, text in rows:
        count = lexical.count_words(view.connection, query, text[start:end])
        best[doc_id] = max(best.get(doc_id, (-1, 0)), (count, -passage_id))
    return np.array([-best[i][1] if i in best else i for i in passage_ids.tolist()], np.int64)
