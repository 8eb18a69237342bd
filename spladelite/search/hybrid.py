"""Which documents each part of a search finds, SPLADE, BM25 or dense vectors, and their fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spladelite.documents.filters import Filter
from spladelite.documents.table import document_ids
from spladelite.file.sqlite import fetch, int_array
from spladelite.index import dense_blocks, words
from spladelite.records import Explanation, PartMatch
from spladelite.search.fusion import DEPTH, Fused, Ranking, default_weights, fuse
from spladelite.search.query_weights import Query
from spladelite.search.request import Request
from spladelite.search.searcher import Result, Searcher, View


@dataclass(frozen=True, slots=True, eq=False)
class PartHits:
    """What one part found: documents best first, each with the passage to show. Arrays of equal length."""

    doc_ids: NDArray[np.int64]
    passage_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


def rank(searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query) -> Result:
    """The passages to show of the best documents, and the documents' scores."""
    if tuple(parts) == ("splade",):
        return searcher.top_k(view, query.weights, request)
    if len(parts) == 1:
        found = _ask(parts[0], searcher, view, query, replace(request, min_score=None))
    else:
        asked = _ask_all(searcher, view, request, parts, query)
        fused = _fuse(asked, request, query, request.k)
        shown: dict[int, int] = {}
        for name in ("bm25", "dense", "splade"):  # the last one decides: it knows why the document was found
            if name in asked:
                shown.update(zip(asked[name].doc_ids.tolist(), asked[name].passage_ids.tolist(), strict=True))
        passages = np.array([shown[doc_id] for doc_id in fused.ids.tolist()], np.int64)
        found = PartHits(fused.ids, passages, fused.scores)
    passage_ids, scores = found.passage_ids, found.scores
    if request.min_score is not None:
        kept = scores >= request.min_score
        passage_ids, scores = passage_ids[kept], scores[kept]
    if query.words and len(passage_ids):
        passage_ids = _show_words(view, query, passage_ids)
    return passage_ids, scores


def explain_parts(
    explanation: Explanation,
    searcher: Searcher,
    view: View,
    request: Request,
    parts: Sequence[str],
    query: Query,
    doc_id: int,
) -> Explanation:
    """What each part gives one document in a search with k up to ``DEPTH``; ``explanation`` is SPLADE's."""
    asked = _ask_all(searcher, view, replace(request, k=DEPTH), parts, query)
    fused = _fuse(asked, request, query, DEPTH * len(parts))
    row = np.flatnonzero(fused.ids == doc_id)
    matches = []
    for name, part in asked.items():
        place = np.flatnonzero(part.doc_ids == doc_id)
        score = float(part.scores[place[0]]) if len(place) else 0.0
        contribution = float(fused.contributions[name][row[0]]) if len(row) else 0.0
        of_words = words.contributions(view.connection, query.words, doc_id) if name == "bm25" else {}
        matches.append(PartMatch(name, score, score if len(parts) == 1 else contribution, of_words))
    return replace(
        explanation,
        score=sum(match.contribution for match in matches),
        terms=explanation.terms if "splade" in parts else (),
        parts=tuple(matches),
    )


def _ask_all(
    searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query
) -> dict[str, PartHits]:
    deep = replace(request, k=max(request.k, DEPTH), min_score=None)
    return {name: _ask(name, searcher, view, query, deep) for name in parts}


def _fuse(asked: dict[str, PartHits], request: Request, query: Query, k: int) -> Fused:
    rankings = {name: Ranking(part.doc_ids, part.scores) for name, part in asked.items()}
    weights = default_weights(asked, len(query.words)) if request.weights is None else request.weights
    return fuse(rankings, weights, k, request.fusion)


def _ask(part: str, searcher: Searcher, view: View, query: Query, request: Request) -> PartHits:
    """One part's best documents."""
    if part == "splade":
        passage_ids, scores = searcher.top_k(view, query.weights, request)
        return PartHits(document_ids(view.connection, passage_ids), passage_ids, scores)
    allowed = None if request.matching is None else _allowed(searcher, view, request.matching)
    if part == "bm25":
        doc_ids, scores = words.search(view.connection, query.words, request.k, allowed)
        return PartHits(doc_ids, doc_ids, scores)  # the first passage's id is the document's
    if query.vector is None:
        empty = np.empty(0, np.int64)
        return PartHits(empty, empty, np.empty(0, np.float32))
    found = dense_blocks.search(view.connection, query.vector, request.k, allowed, view.snapshot.verified_blocks)
    return PartHits(*found)


def _allowed(searcher: Searcher, view: View, matching: Filter) -> NDArray[np.int64]:
    """The living documents that match, ascending; from the masks that the snapshot remembers."""
    masks = searcher.allowed(view, matching)
    doc_ids = [np.empty(0, np.int64)]
    for segment in view.snapshot.all_segments:
        passage_ids, mask = segment.passage_ids, masks[segment.segment_id]
        if segment.document_of is not None:  # a document's first passage has its id
            first = np.flatnonzero(np.diff(segment.document_of, prepend=-1))
            passage_ids, mask = passage_ids[first], mask[first]
        doc_ids.append(passage_ids[mask > 0])
    return np.concatenate(doc_ids)


def _show_words(view: View, query: Query, passage_ids: NDArray[np.int64]) -> NDArray[np.int64]:
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
        count = words.count_words(view.connection, query.words, text[start:end])
        best[doc_id] = max(best.get(doc_id, (-1, 0)), (count, -passage_id))
    return np.array([-best[i][1] if i in best else i for i in passage_ids.tolist()], np.int64)
