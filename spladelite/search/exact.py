"""A file's answers in float64, which the answers of another engine are compared with.

A search adds up in float32, whose rounding may swap two documents that score within a ten-millionth of each other. So
what it finds, and some more, is scored once more in float64, from the stored vectors and the words of the texts, and
ordered by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spladelite.documents.table import look_up
from spladelite.errors import InvalidInput
from spladelite.file.sqlite import fetch, int_array
from spladelite.index.scoring import bm25_norm
from spladelite.index.words import analyzer
from spladelite.records import Hit
from spladelite.search import hybrid, run
from spladelite.search.document_score import read_document_vectors
from spladelite.search.fusion import default_weights, fuse
from spladelite.search.query_weights import EncodedQuery, Query, QueryInput, encode_queries, look_up_query
from spladelite.search.request import Request
from spladelite.search.searcher import Searcher, View

MORE = 10  # hits beyond k whose float64 score may bring them among the k best
DOUBT = 1e-5  # by how much of itself a float32 score may be off, and then some

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def search_many(index: run.OpenIndex, request: Request, queries: Sequence[QueryInput]) -> list[list[Hit]]:
    """The hits of many queries, with float64 scores and in their order; relevance as the search gave it.

    Raises:
        InvalidInput: dense vectors have a part in it.
    """
    vectors = all(isinstance(query, Mapping) for query in queries)
    parts = request.parts(index.models.meta.layout, index.models.dense.encodes, vectors)
    if "dense" in parts:
        raise InvalidInput("dense vectors are in files alone; compare with mode='splade' or mode='bm25'")
    found = run.search_many(index, replace(request, k=request.k + MORE, offset=0), queries)
    encoded = encode_queries(queries, parts, request.encoder, index.models)
    with index.view() as view:
        return [
            _reordered(index.searcher, view, request, parts, query, hits)
            for query, hits in zip(encoded, found, strict=True)
        ]


def _reordered(
    searcher: Searcher, view: View, request: Request, parts: Sequence[str], encoded: EncodedQuery, hits: Sequence[Hit]
) -> list[Hit]:
    query = look_up_query(view, encoded, parts, request.weights is None)
    scorer = _scorer(searcher, view, query)
    stored = look_up(view.connection, [hit.id for hit in hits])
    doc_ids = np.array([stored[hit.id].doc_id for hit in hits], np.int64)
    if len(parts) == 1:
        scores = scorer.scores(parts[0], doc_ids)
    else:
        scores = _fused(searcher, view, request, parts, query, scorer, doc_ids)
    order = np.lexsort((doc_ids, -scores))[request.offset : request.k].tolist()
    return [hits[i]._replace(score=float(scores[i])) for i in order]


def _fused(
    searcher: Searcher,
    view: View,
    request: Request,
    parts: Sequence[str],
    query: Query,
    scorer: _Scorer,
    doc_ids: Ids,
) -> Floats:
    """The fused scores of what a hybrid has found."""
    unfiltered = hybrid.candidates(searcher, view, replace(request, matching=None), parts, query)
    largest = {}
    for name, scores in unfiltered.scores.items():
        best = unfiltered.doc_ids[scores >= (1 - DOUBT) * scores.max(initial=0)] if scores.any() else np.empty(0, int)
        largest[name] = float(scorer.scores(name, best).max(initial=0))
    weights = request.weights or default_weights(parts, len(query.words), query.unread)
    everything = doc_ids
    if request.fusion != "convex":  # ranks depend on all the candidates
        everything = hybrid.candidates(searcher, view, request, parts, query).doc_ids
    readable = [request.weights is not None or doc_id not in view.snapshot.unread for doc_id in everything.tolist()]
    of_parts = {name: scorer.scores(name, everything) for name in parts}
    of_parts["splade"] = np.where(readable, of_parts["splade"], 0.0)
    fused = fuse(everything, of_parts, weights, len(everything), request.fusion, largest)
    by_id = dict(zip(fused.ids.tolist(), fused.scores.tolist(), strict=True))
    return np.array([by_id[doc_id] for doc_id in doc_ids.tolist()])


@dataclass(frozen=True, slots=True, eq=False)
class _Scorer:
    """What each part says of a document, in float64.

    Attributes:
        view: the state of the file.
        query: what is looked for.
        weights: of its words.
        norm: ``(a, c)`` of :func:`~spladelite.index.scoring.bm25_norm`.
    """

    view: View
    query: Query
    weights: Floats
    norm: tuple[float, float]

    def scores(self, part: str, doc_ids: Ids) -> Floats:
        """float64 ``(n,)``."""
        if not len(doc_ids):
            return np.empty(0, np.float64)
        return self._splade(doc_ids) if part == "splade" else self._bm25(doc_ids)

    def _splade(self, doc_ids: Ids) -> Floats:
        wanted = dict(self.query.weights)
        layout = self.view.snapshot.meta.layout
        best = []
        for doc_id in doc_ids.tolist():
            vectors = read_document_vectors(self.view.connection, layout, doc_id, sorted(wanted)).vectors
            weights = np.array([wanted.get(term, 0.0) for term in vectors.terms.tolist()]) * vectors.impacts
            rows = np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr))
            sums = np.bincount(rows, weights, len(vectors)) * vectors.scales.astype(np.float64)
            best.append(float(sums.max(initial=0)))
        return np.array(best, np.float64)

    def _bm25(self, doc_ids: Ids) -> Floats:
        constant, factor = self.norm
        rows = fetch(
            self.view.connection,
            "SELECT d.text FROM carray(?) c CROSS JOIN document d ON d.doc_id = c.value",
            (int_array(doc_ids),),
        )
        counts = analyzer(self.view.snapshot.meta.layout.language).count([text for (text,) in rows])
        weights = dict(zip(self.query.word_ids, self.weights.tolist(), strict=True))
        of_terms = np.array([weights.get(term, 0.0) for term in counts.terms.tolist()])
        sizes = np.diff(counts.indptr)
        norms = np.repeat(constant + factor * counts.lengths, sizes)
        values = of_terms * counts.frequencies / (counts.frequencies + norms)
        return np.bincount(np.repeat(np.arange(len(doc_ids)), sizes), values, len(doc_ids)).astype(np.float64)


def _scorer(searcher: Searcher, view: View, query: Query) -> _Scorer:
    weights: Sequence[float] = ()
    if query.words:
        weights = searcher.ranked(view, (), query.word_ids, Request(), lambda lists: lists.word_weights)
    return _Scorer(view, query, np.array(weights, np.float64), bm25_norm(view.snapshot.average_length))
