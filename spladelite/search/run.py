"""One search from beginning to end: encode outside of any transaction, look up, rank and read hits inside one.

A file may move to another model (``reencode``) between the two; then the query is encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

import apsw
import numpy as np

from spladelite.documents import table
from spladelite.errors import DocumentNotFound, InvalidInput, InvalidVector, ModelError, WrongType
from spladelite.file.connection import Connections
from spladelite.file_models import FileModels
from spladelite.index.quantize import dequantize
from spladelite.index.settings import read_meta
from spladelite.processors import usable_processors
from spladelite.records import Explanation, Hit
from spladelite.search import diversity, hybrid
from spladelite.search.document_score import read_document_vectors
from spladelite.search.explain import explain as explain_terms
from spladelite.search.query_weights import EncodedQuery, Query, QueryInput, encode_queries, look_up_query
from spladelite.search.relevance import logistic, relevance
from spladelite.search.request import Request, Rerank
from spladelite.search.searcher import Searcher, View

ATTEMPTS = 10  # to begin several transactions while nobody commits

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class OpenIndex:
    """What a search works on: the file's connections, its encoders, and what is kept between searches."""

    connections: Connections
    models: FileModels
    searcher: Searcher

    @contextmanager
    def view(self) -> Iterator[View]:
        """The state of the file that one read transaction sees."""
        with self.connections.read() as connection:
            yield self.searcher.view(connection)


class _Moved(Exception):
    """The file has moved to another model since the queries were encoded."""


def search(index: OpenIndex, request: Request, query: QueryInput, rerank: Rerank | None, rerank_top: int) -> list[Hit]:
    """The hits of one query, best first; with ``rerank`` in the order of its scores."""
    if rerank is not None and not callable(rerank):
        raise WrongType(
            f"rerank is of type {type(rerank).__name__}; give a function of the query and a list of passages"
        )
    if rerank is None:
        return _until_it_stays(lambda: _hits(index, request, *_encode(index, request, [query])))
    if request.diversity or not request.text:
        raise InvalidInput("rerank= orders passages by their texts alone; leave diversity and text=False out")
    found = replace(request, k=max(request.k, rerank_top), offset=0)
    hits = _until_it_stays(lambda: _hits(index, found, *_encode(index, found, [query])))
    return reranked(rerank, query, hits, request.k)[request.offset :]


def search_many(index: OpenIndex, request: Request, queries: Sequence[QueryInput]) -> list[list[Hit]]:
    """The hits of many queries in one state of the file, on all processors."""
    return _until_it_stays(lambda: _search_many(index, request, queries))


def explain(index: OpenIndex, request: Request, query: QueryInput, id: str) -> Explanation:
    """Why a document has its score.

    Raises:
        DocumentNotFound: no document has this id.
    """
    return _until_it_stays(lambda: _explain(index, request, query, id))


def vector(index: OpenIndex, id: str) -> dict[int, float]:
    """A document's stored vector: of several passages the largest weight of each term.

    Raises:
        DocumentNotFound: no document has this id.
    """
    with index.view() as view:
        stored = table.look_up(view.connection, [id]).get(id)
        if stored is None:
            raise not_found(id)
        layout = view.snapshot.meta.layout
        all_terms = range(layout.vocabulary_size) if view.snapshot.meta.slim else ()
        passages = read_document_vectors(view.connection, layout, stored.doc_id, all_terms)
    weights: dict[int, float] = {}
    for row in dequantize(passages.vectors).dicts():
        weights |= {term: max(weight, weights.get(term, 0.0)) for term, weight in row.items()}
    return weights


def more_like(index: OpenIndex, request: Request, id: str) -> list[Hit]:
    """The documents whose vectors are most like that of one; it is not among them.

    Raises:
        DocumentNotFound: no document has this id.
    """
    wanted = replace(request, k=request.k + 1, offset=0)
    hits = search(index, wanted, vector(index, id), None, 1)
    return [hit for hit in hits if hit.id != id][: request.k][request.offset :]


def not_found(id: str) -> DocumentNotFound:
    """The error for an id that is not there."""
    return DocumentNotFound(f"no document has the id {id!r}; `id in db` tells, and iterating over db lists all ids")


def _until_it_stays(attempt: Callable[[], T]) -> T:
    while True:
        try:
            return attempt()
        except _Moved:
            continue


def _encode(index: OpenIndex, request: Request, queries: Sequence[QueryInput]) -> tuple[tuple[str, ...], EncodedQuery]:
    parts, encoded = _encode_many(index, request, queries)
    return parts, encoded[0]


def _encode_many(
    index: OpenIndex, request: Request, queries: Sequence[QueryInput]
) -> tuple[tuple[str, ...], list[EncodedQuery]]:
    vectors = all(isinstance(query, Mapping) for query in queries)
    parts = request.parts(index.models.meta.layout, index.models.dense.encodes, vectors)
    try:
        return parts, encode_queries(queries, parts, request.encoder, index.models, request.dense)
    except ModelError:
        # The model that this handle knows cannot be loaded; the file may have moved to another since.
        with index.connections.read() as connection:
            if index.models.follow(read_meta(connection)):
                raise
        raise _Moved from None


@contextmanager
def _unmoved(index: OpenIndex) -> Iterator[View]:
    with index.connections.read() as connection:
        yield _view(index, connection)


def _view(index: OpenIndex, connection: apsw.Connection) -> View:
    view = index.searcher.view(connection)
    if not index.models.follow(view.snapshot.meta):
        raise _Moved
    return view


def _hits(index: OpenIndex, request: Request, parts: tuple[str, ...], encoded: EncodedQuery) -> list[Hit]:
    with index.connections.read(request.timeout) as connection:
        view = _view(index, connection)
        query = look_up_query(view, encoded, parts, request.weights is None)
        passage_ids, scores = hybrid.rank(index.searcher, view, _with_candidates(request), parts, query)
        found = table.Ranked(passage_ids, scores, relevance(scores, request, parts, query), query.marks())
        return table.read_hits(connection, [_shown(view, request, found)], request.text)[0]


def _with_candidates(request: Request) -> Request:
    return replace(request, k=max(diversity.CANDIDATES * request.k, 50)) if request.diversity else request


def _shown(view: View, request: Request, found: table.Ranked) -> table.Ranked:
    """What is left of the ranking after ``diversity`` and ``offset``."""
    if request.diversity:
        meta = view.snapshot.meta
        if meta.slim:
            raise InvalidInput("diversity= compares stored vectors, and a slim export has none")
        chosen = diversity.diversified(
            view.connection, meta.layout, found.passage_ids, found.relevance, request.k, request.diversity
        )[request.offset :]
    elif request.offset:
        chosen = list(range(request.offset, len(found.passage_ids)))
    else:
        return found
    return table.Ranked(found.passage_ids[chosen], found.scores[chosen], found.relevance[chosen], found.query)


def _search_many(index: OpenIndex, request: Request, queries: Sequence[QueryInput]) -> list[list[Hit]]:
    parts, encoded = _encode_many(index, request, queries)
    if parts == ("splade",) and request.timeout is None and not request.diversity:
        return _search_together(index, request, encoded)
    workers = min(usable_processors(), len(encoded))
    if workers > 1 and not index.connections.memory:
        for _ in range(ATTEMPTS):
            hits = _search_apart(index, request, parts, encoded, workers)
            if hits is not None:
                return hits
    with _unmoved(index):
        return [_hits(index, request, parts, query) for query in encoded]


def _search_apart(
    index: OpenIndex, request: Request, parts: tuple[str, ...], encoded: Sequence[EncodedQuery], workers: int
) -> list[list[Hit]] | None:
    """Hits by any parts, each thread in a transaction of its own; None if they do not all see the same state.

    They do if nobody has committed between the first of them and the last, which another connection can tell.
    """
    with index.connections.outside_transaction() as connection:
        version = partial(connection.pragma, "data_version")
        versions = [version()]
        all_opened = Barrier(workers, lambda: versions.append(version()))

        def share(first: int) -> list[list[Hit]]:
            try:
                with _unmoved(index):
                    all_opened.wait()
                    if len(set(versions)) > 1:
                        return []
                    return [_hits(index, request, parts, query) for query in encoded[first::workers]]
            except BrokenBarrierError:  # another thread has failed, and its error is raised
                return []
            except BaseException:
                all_opened.abort()
                raise

        with ThreadPoolExecutor(workers) as pool:
            shares = list(pool.map(share, range(workers)))
    if len(set(versions)) > 1:
        return None
    return [shares[i % workers][i // workers] for i in range(len(encoded))]


def _search_together(index: OpenIndex, request: Request, encoded: Sequence[EncodedQuery]) -> list[list[Hit]]:
    """Hits by SPLADE alone: other processors rank while this one reads the documents."""
    hits: list[list[Hit]] = []
    with _unmoved(index) as view:
        queries = [look_up_query(view, query, ("splade",)).weights for query in encoded]
        rest = iter(queries)
        for ranked in index.searcher.top_k_many(view, queries, request):
            found = []
            for passage_ids, scores in ranked:
                query = Query("", next(rest))
                relevances = relevance(scores, request, ("splade",), query)
                ranking = table.Ranked(passage_ids, scores, relevances, dict(query.weights))
                found.append(_shown(view, request, ranking))
            hits += table.read_hits(view.connection, found, request.text)
    return hits


def _explain(index: OpenIndex, request: Request, query: QueryInput, id: str) -> Explanation:
    parts, encoded = _encode(index, request, [query])
    tokenize = index.models.sparse.load().tokenize
    literal = set(tokenize(query).term_ids.tolist()) if isinstance(query, str) else set(query)
    with _unmoved(index) as view:
        stored = table.look_up(view.connection, [id]).get(id)
        if stored is None:
            raise not_found(id)
        found = look_up_query(view, encoded, parts, request.weights is None)
        layout = view.snapshot.meta.layout
        explanation = explain_terms(view.connection, layout, stored, dict(found.weights), literal, tokenize)
        if "splade" in parts:
            of_document = stored.doc_id in view.snapshot.unread
            unread = [name for name, on in (("query", encoded.unread), ("document", of_document)) if on]
            explanation = replace(explanation, unread=tuple(unread))
        if parts == ("splade",):
            return explanation
        return hybrid.explain_parts(explanation, index.searcher, view, request, parts, found, stored.doc_id)


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
    relevances = logistic(scores).tolist()
    return [hits[i]._replace(score=float(scores[i]), relevance=relevances[i]) for i in order]
