"""Which documents each part of a search finds, SPLADE, BM25 or dense vectors, and their fusion.

The best documents of each part are the candidates, and every candidate gets its exact score from every part: a document
that one part ranks low is not taken for one that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spladelite.documents.filters import Filter, matching_doc_ids
from spladelite.errors import CorruptIndex
from spladelite.file.sqlite import fetch, int_array
from spladelite.index import dense_blocks
from spladelite.index.kernels import scores_at, top_k
from spladelite.index.scoring import SegmentQuery
from spladelite.index.snapshot import Snapshot
from spladelite.index.words import analyzer
from spladelite.records import Explanation, PartMatch
from spladelite.search.fusion import DEPTH, Fused, default_weights, fuse
from spladelite.search.query_weights import Query
from spladelite.search.request import Request
from spladelite.search.searcher import NOTHING, Result, Searcher, TermLists, View


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Documents, ascending, with what each part says of them.

    Attributes:
        doc_ids: int64 ``(n,)``.
        passage_ids: int64 ``(n,)``, the best passage of each: SPLADE's where it has a score, else the dense part's.
        scores: of each part, float32 ``(n,)``; 0 where it finds nothing in common, NaN without a dense vector.
        words: what each of the query's words adds to the BM25 score, float32 ``(words, n)``; only if asked for.
    """

    doc_ids: NDArray[np.int64]
    passage_ids: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float32]]
    words: NDArray[np.float32] | None = None


def rank(searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query) -> Result:
    """The passages to show of the best documents, and the documents' scores."""
    if tuple(parts) == ("splade",):
        return searcher.top_k(view, query.weights, request)
    if tuple(parts) == ("bm25",):
        doc_ids, scores = _best_by_words(searcher, view, request, query)
        return _show_words(view, query, doc_ids), scores
    found = _candidates(searcher, view, request, parts, query)
    fused = _fuse(found, request, parts, query, request.k)
    place = np.searchsorted(found.doc_ids, fused.ids)
    passage_ids, scores = found.passage_ids[place], fused.scores
    kept = slice(None) if request.min_score is None else scores >= request.min_score
    passage_ids, scores = passage_ids[kept], scores[kept]
    if not query.words:
        return passage_ids, scores
    unknown = np.ones(len(scores), bool)
    if "splade" in parts:
        unknown = found.scores["splade"][place][kept] <= 0
    passage_ids = passage_ids.copy()
    passage_ids[unknown] = _show_words(view, query, passage_ids[unknown])
    return passage_ids, scores


def rank_with_parts(
    searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query
) -> Iterator[tuple[int, float, int, float | None, float | None, float | None]]:
    """The best documents: doc_id, score, passage_id, and the scores that SPLADE, BM25 and dense vectors give."""
    found = _candidates(searcher, view, request, parts, query)
    fused = _fuse(found, request, parts, query, request.k)
    for doc_id, score in zip(fused.ids.tolist(), fused.scores.tolist(), strict=True):
        place = int(np.searchsorted(found.doc_ids, doc_id))
        splade, bm25, dense = (
            float(found.scores[name][place]) if name in found.scores else None for name in ("splade", "bm25", "dense")
        )
        yield doc_id, score, int(found.passage_ids[place]), splade, bm25, dense


def explain_parts(
    explanation: Explanation,
    searcher: Searcher,
    view: View,
    request: Request,
    parts: Sequence[str],
    query: Query,
    doc_id: int,
) -> Explanation:
    """What each part gives one document; ``explanation`` is SPLADE's."""
    found = _candidates(searcher, view, request, parts, query, also=doc_id)
    fused = _fuse(found, request, parts, query, len(found.doc_ids))
    place, row = int(np.searchsorted(found.doc_ids, doc_id)), np.flatnonzero(fused.ids == doc_id)
    matches = []
    for name in parts:
        score = float(found.scores[name][place])
        contribution = float(fused.contributions[name][row[0]]) if len(row) else 0.0
        of_words = {}
        if name == "bm25" and found.words is not None:
            adds = zip(query.words, found.words[:, place].tolist(), strict=True)
            of_words = {word.word: value for word, value in adds if value > 0}
        matches.append(PartMatch(name, score, score if len(parts) == 1 else contribution, of_words))
    return replace(
        explanation,
        score=sum(match.contribution for match in matches),
        terms=explanation.terms if "splade" in parts else (),
        parts=tuple(matches),
    )


def _best_by_words(searcher: Searcher, view: View, request: Request, query: Query) -> Result:
    """BM25's best documents, by their first passages."""
    if not query.words:
        return NOTHING
    least = request.min_score or 0.0
    return searcher.ranked(
        view, (), query.word_ids, request, lambda lists: top_k(lists.words, lists.word_weights, request.k, least)
    )


def _candidates(
    searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query, also: int | None = None
) -> Candidates:
    """The best documents of each part, and ``also`` one more, in which case each word's share is told too."""
    depth = max(request.k, DEPTH)
    more = np.array([] if also is None else [also], np.int64)

    def from_lists(lists: TermLists | None) -> Candidates:
        found = [more]
        if lists is not None:
            found.append(top_k(lists.splade, lists.weights, depth)[0])
            found.append(top_k(lists.words, lists.word_weights, depth)[0])
        documents = _documents(view.snapshot, np.concatenate(found))
        if "dense" in parts and query.vector is not None:
            allowed = None if request.matching is None else _allowed(view, request.matching)
            verified = view.snapshot.verified_blocks
            dense = dense_blocks.search(view.connection, query.vector, depth, allowed, verified, also=documents.doc_ids)
            documents = _documents(view.snapshot, np.concatenate((documents.doc_ids, dense[0])))
        else:
            dense = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        return _scored(documents, lists, dense, parts, also is not None)

    if not query.weights and not query.words:
        return from_lists(None)
    return searcher.ranked(view, query.weights, query.word_ids, request, from_lists)


@dataclass(frozen=True, slots=True, eq=False)
class _Documents:
    """Where documents are in the segments of a snapshot: for each segment first passages and numbers of passages."""

    doc_ids: NDArray[np.int64]
    firsts: list[NDArray[np.intp]]
    counts: list[NDArray[np.intp]]
    snapshot: Snapshot


def _documents(snapshot: Snapshot, passage_ids: NDArray[np.int64]) -> _Documents:
    """The documents of some passages, ascending."""
    wanted = np.unique(passage_ids)
    segments = snapshot.all_segments
    bounds = np.searchsorted(wanted, [int(segment.passage_ids[0]) for segment in segments]).tolist()
    none = np.empty(0, np.intp)
    doc_ids: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    firsts, counts = [none] * len(segments), [none] * len(segments)
    for i, (segment, begin, end) in enumerate(zip(segments, bounds, [*bounds[1:], len(wanted)], strict=True)):
        if begin == end:
            continue
        ordinals = np.searchsorted(segment.passage_ids, wanted[begin:end])
        if ordinals[-1] >= len(segment) or (segment.passage_ids[ordinals] != wanted[begin:end]).any():
            raise CorruptIndex("an index names passages that the segments do not have; run check(repair=True)")
        firsts[i], counts[i] = segment.documents_of(ordinals)
        doc_ids.append(segment.passage_ids[firsts[i]])
    return _Documents(np.concatenate(doc_ids), firsts, counts, snapshot)


def _scored(
    documents: _Documents,
    lists: TermLists | None,
    dense: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
    parts: Sequence[str],
    by_word: bool,
) -> Candidates:
    doc_ids = documents.doc_ids
    passage_ids = doc_ids.copy()
    zeros = np.zeros(len(doc_ids), np.float32)
    scores = dict.fromkeys(parts, zeros)
    of_words = None
    if "dense" in parts:
        scores["dense"] = np.full(len(doc_ids), np.nan, np.float32)
        place = np.searchsorted(doc_ids, dense[0])
        scores["dense"][place], passage_ids[place] = dense[2], dense[1]
    if lists is not None and lists.words:
        wanted = [first.astype(np.uint16) for first in documents.firsts]
        scores["bm25"] = np.concatenate(scores_at(lists.words, lists.word_weights, wanted))
        if by_word:
            of_words = np.array(
                [
                    np.concatenate(scores_at(_one_word(lists.words, i), [weight], wanted))
                    for i, weight in enumerate(lists.word_weights)
                ]
            )
    if lists is not None and lists.splade:
        counts = np.concatenate(documents.counts)
        spans = [_ranges(*each) for each in zip(documents.firsts, documents.counts, strict=True)]
        values = np.concatenate(scores_at(lists.splade, lists.weights, [span.astype(np.uint16) for span in spans]))
        passages = np.concatenate(
            [segment.passage_ids[span] for segment, span in zip(documents.snapshot.all_segments, spans, strict=True)]
        )
        starts = np.cumsum(counts) - counts
        scores["splade"] = np.maximum.reduceat(values, starts) if len(starts) else zeros
        is_best = np.flatnonzero(values == np.repeat(scores["splade"], counts))
        first = np.flatnonzero(np.diff(np.repeat(np.arange(len(counts)), counts)[is_best], prepend=-1))
        known = scores["splade"] > 0
        passage_ids[known] = passages[is_best[first]][known]
    return Candidates(doc_ids, passage_ids, scores, of_words)


def _one_word(parts: Sequence[SegmentQuery], i: int) -> list[SegmentQuery]:
    return [part._replace(lists=part.lists[i : i + 1]) for part in parts]


def _ranges(firsts: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """``first, first + 1, …`` for each pair, one after another."""
    ends = np.cumsum(counts)
    return np.repeat(firsts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)


def _fuse(found: Candidates, request: Request, parts: Sequence[str], query: Query, k: int) -> Fused:
    weights = default_weights(parts, len(query.words)) if request.weights is None else request.weights
    return fuse(found.doc_ids, found.scores, weights, k, request.fusion)


def _allowed(view: View, matching: Filter) -> NDArray[np.int64]:
    """The living documents that match, ascending; from the masks that the snapshot remembers."""
    masks = view.snapshot.allowed(matching, lambda: matching_doc_ids(view.connection, matching))
    doc_ids = [np.empty(0, np.int64)]
    for segment in view.snapshot.all_segments:
        passage_ids, mask = segment.passage_ids, masks[segment.segment_id]
        if segment.starts is not None:  # a document's first passage has its id
            passage_ids, mask = passage_ids[segment.starts[:-1]], mask[segment.starts[:-1]]
        doc_ids.append(passage_ids[mask > 0])
    return np.concatenate(doc_ids)


def _show_words(view: View, query: Query, passage_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of documents, given by their first passages, the passages with the most of the query's words."""
    if not len(passage_ids):
        return passage_ids
    rows = fetch(
        view.connection,
        "SELECT p.passage_id, p.start_char, p.end_char, d.doc_id, d.text FROM carray(?) c"
        " CROSS JOIN document d ON d.doc_id = c.value AND d.passages > 1"
        " CROSS JOIN passage p ON p.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1",
        (int_array(passage_ids),),
    )
    counts = analyzer(view.snapshot.meta.layout.language).count([text[start:end] for _, start, end, _, text in rows])
    wanted = np.isin(counts.terms, query.word_ids)
    best: dict[int, tuple[int, int]] = {}
    for i, (passage_id, _, _, doc_id, _) in enumerate(rows):
        count = int(np.count_nonzero(wanted[counts.indptr[i] : counts.indptr[i + 1]]))
        best[doc_id] = max(best.get(doc_id, (-1, 0)), (count, -passage_id))
    return np.array([-best[i][1] if i in best else i for i in passage_ids.tolist()], np.int64)
