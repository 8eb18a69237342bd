"""Which documents each part of a search finds, SPLADE, BM25 or dense vectors, and their fusion.

The best documents of each part are the candidates, and every candidate gets its exact score from every part: a document
that one part ranks low is not taken for one that it does not know. No other document can have a fused score above that
of one that is the last of every part's list at once; while that is not below the k-th best candidate's, the lists are
made longer (the threshold algorithm, Fagin, Lotem and Naor 2003). So a convex fusion is exact, like its parts.

Unless the caller gives weights, SPLADE has no say about documents that its model cannot read: it gives them 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.documents.filters import Filter, matching_doc_ids
from spladelite.errors import CorruptIndex
from spladelite.file.sqlite import fetch, int_array
from spladelite.index import dense_blocks
from spladelite.index.kernels import scores_at, top_k
from spladelite.index.scoring import Segment, SegmentQuery
from spladelite.index.snapshot import Snapshot
from spladelite.index.words import WordCounts, analyzer
from spladelite.records import Explanation, PartMatch
from spladelite.search.fusion import Fused, default_weights, fuse, threshold
from spladelite.search.query_weights import Query
from spladelite.search.request import Request
from spladelite.search.searcher import Result, Searcher, TermLists, View, filter_best

DEPTH = 80  # documents of each part that are candidates at first, or k if that is more
RRF_DEPTH = 200  # for reciprocal ranks, which depend on it; or k if that is more
DEEPER = 4

Floats = NDArray[np.float32]
Exact = NDArray[np.floating[Any]]  # float32 from a file, float64 from an engine that adds up in it
Ids = NDArray[np.int64]
Part = tuple[Ids, Ids, Floats]  # documents, their best passages, their scores
NO_PART: Part = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
NOT_FUSED = Fused(NO_PART[0], NO_PART[2], {})


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Documents, ascending, with what each part says of them, and their fusion.

    Attributes:
        doc_ids: int64 ``(n,)``.
        passage_ids: int64 ``(n,)``, the best passage of each: SPLADE's where it has a score, else the dense part's,
            else the first.
        scores: of each part, ``(n,)``; 0 where it finds nothing in common, NaN without a dense vector.
        floors: the lowest score of each part whose list goes on.
        fused: the k best of them.
        words: what each of the query's words adds to the BM25 score of the one document that was asked for.
    """

    doc_ids: Ids
    passage_ids: Ids
    scores: Mapping[str, Exact]
    floors: Mapping[str, np.floating[Any]]
    fused: Fused = NOT_FUSED
    words: Sequence[float] = ()


def rank(searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query) -> Result:
    """The passages to show of the best documents, and the documents' scores."""
    if request.matching is not None and request.fusion == "convex":
        found = filter_best(view, request, lambda other: rank(searcher, view, other, parts, query))
        if found is not None:
            return found
    least = request.min_score or 0.0
    if tuple(parts) == ("splade",):
        return searcher.ranked(
            view, query.weights, (), request, lambda lists: top_k(lists.splade, lists.weights, request.k, least)
        )
    if tuple(parts) == ("bm25",):
        doc_ids, scores = searcher.ranked(
            view, (), query.word_ids, request, lambda lists: top_k(lists.words, lists.word_weights, request.k, least)
        )
        return _show_words(view, query, doc_ids), scores
    if tuple(parts) == ("dense",):
        if request.matching is not None:
            searcher.allowed(view, request.matching)  # counts the entries of the indexes that it uses
        _, passage_ids, scores = _dense(view, request, query, request.k)
        return _above(request, passage_ids, scores)
    best = candidates(searcher, view, request, parts, query)
    place = np.searchsorted(best.doc_ids, best.fused.ids)
    passage_ids, scores = best.passage_ids[place], best.fused.scores
    if query.words:
        unknown = best.scores["splade"][place] <= 0 if "splade" in parts else np.ones(len(place), bool)
        passage_ids[unknown] = _show_words(view, query, best.fused.ids[unknown], passage_ids[unknown])
    return _above(request, passage_ids, scores)


def _above(request: Request, passage_ids: Ids, scores: Floats) -> Result:
    if request.min_score is None:
        return passage_ids, scores
    kept = scores >= np.float64(request.min_score)  # which no float32 need hold
    return passage_ids[kept], scores[kept]


def rank_with_parts(
    searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query
) -> Iterator[tuple[int, float, int, float | None, float | None, float | None]]:
    """The best documents: doc_id, score, passage_id, and the scores that SPLADE, BM25 and dense vectors give."""
    found = candidates(searcher, view, request, parts, query)
    for doc_id, score in zip(found.fused.ids.tolist(), found.fused.scores.tolist(), strict=True):
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
    found = candidates(searcher, view, request, parts, query, also=doc_id)
    return explained(explanation, request, parts, query, found, doc_id)


def explained(
    explanation: Explanation, request: Request, parts: Sequence[str], query: Query, found: Candidates, doc_id: int
) -> Explanation:
    """:func:`explain_parts`, given the candidates, the document among them, all fused."""
    place, row = int(np.searchsorted(found.doc_ids, doc_id)), np.flatnonzero(found.fused.ids == doc_id)
    splade_is_silent = len(parts) > 1 and request.weights is None and bool(explanation.unread)
    matches = []
    for name in parts:
        score = float(found.scores[name][place])
        contribution = float(found.fused.contributions[name][row[0]]) if len(row) else 0.0
        of_words = {}
        if name == "bm25" and len(found.words):
            adds = zip(query.words, found.words, strict=True)
            of_words = {word.word: value for word, value in adds if value > 0}
        matches.append(PartMatch(name, score, score if len(parts) == 1 else contribution, of_words))
    return replace(
        explanation,
        score=sum(match.contribution for match in matches),
        terms=() if "splade" not in parts or splade_is_silent else explanation.terms,
        parts=tuple(matches),
    )


def candidates(
    searcher: Searcher, view: View, request: Request, parts: Sequence[str], query: Query, also: int | None = None
) -> Candidates:
    """The k best documents of all parts together; with ``also``, one document more and each word's share of it."""
    weights = request.weights or default_weights(parts, len(query.words), query.unread)

    def rank_lists(lists: TermLists) -> Candidates:
        if request.weights is None:
            lists = lists._replace(splade=_readable(view.snapshot, lists.splade))

        def best_of_parts(depth: int) -> Candidates:
            return _best_of_parts(view, request, parts, query, lists, depth, also)

        def largest() -> dict[str, float]:
            return _largest(view, query, lists, parts, request.weights is None)

        return fuse_best(best_of_parts, largest, request, weights, also is not None)

    return searcher.ranked(view, query.weights, query.word_ids, request, rank_lists)


def fuse_best(
    best_of_parts: Callable[[int], Candidates],
    largest_of_all: Callable[[], Mapping[str, float]],
    request: Request,
    weights: Mapping[str, float],
    every: bool,
) -> Candidates:
    """The k best documents of all parts together: lists are made longer until no other can be among them.

    Args:
        best_of_parts: the documents that are among the best of a part, as many as it is given, with all their scores.
        largest_of_all: the best score of each part without the filter, which changes no score.
        request: k, fusion, and whether there is a filter.
        weights: of the parts.
        every: fuse all candidates, once, whatever k is.
    """
    depth = max(request.k, DEPTH if request.fusion == "convex" else RRF_DEPTH)
    while True:
        found = best_of_parts(depth)
        k = len(found.doc_ids) if every else request.k
        largest = {name: float(found.scores[name].max(initial=0)) for name in found.scores}
        if request.matching is not None:
            largest |= largest_of_all()
        fused = fuse(found.doc_ids, found.scores, weights, k, request.fusion, largest)
        if every or request.fusion != "convex" or not found.floors:
            return replace(found, fused=fused)
        if len(fused.ids) == k and fused.scores[-1] > threshold(found.floors, weights, largest):
            return replace(found, fused=fused)
        depth *= DEEPER


def _best_of_parts(
    view: View,
    request: Request,
    parts: Sequence[str],
    query: Query,
    lists: TermLists,
    depth: int,
    also: int | None,
) -> Candidates:
    """The ``depth`` best documents of each part with all their scores."""
    snapshot = view.snapshot
    passages, scores = top_k(lists.splade, lists.weights, depth)
    splade: Part = (_document_ids(snapshot, passages), passages, scores)
    word_ids, word_scores = top_k(lists.words, lists.word_weights, depth)
    floors = {name: best[-1] for name, best in (("splade", scores), ("bm25", word_scores)) if len(best) == depth}
    doc_ids = _union(splade[0], word_ids, np.array([] if also is None else [also], np.int64))
    dense = NO_PART
    if "dense" in parts:
        dense = _dense(view, request, query, depth, doc_ids)
        if len(dense[0]) >= depth:
            floors["dense"] = dense[2][depth - 1]
        doc_ids = _union(doc_ids, dense[0])
    found = {"splade": np.zeros(len(doc_ids), np.float32), "bm25": np.zeros(len(doc_ids), np.float32)}
    found["dense"] = np.full(len(doc_ids), np.nan, np.float32)
    passage_ids = doc_ids.copy()
    place = np.searchsorted(doc_ids, dense[0])
    passage_ids[place], found["dense"][place] = dense[1:]
    place = np.searchsorted(doc_ids, splade[0])
    passage_ids[place], found["splade"][place] = splade[1:]
    others = _without(len(doc_ids), place)
    if request.weights is None and len(snapshot.unread.doc_ids):
        others = others[~_contains(snapshot.unread.doc_ids, doc_ids[others])]
    best, found["splade"][others] = _splade_scores(snapshot, lists, doc_ids[others])
    known = found["splade"][others] > 0
    passage_ids[others[known]] = best[known]
    place = np.searchsorted(doc_ids, word_ids)
    found["bm25"][place] = word_scores
    others = _without(len(doc_ids), place)
    found["bm25"][others] = _word_scores(snapshot, lists, doc_ids[others])
    shares: list[float] = []
    if also is not None and lists.words:
        words, one = range(len(lists.word_weights)), np.array([also])
        shares = [float(_word_scores(snapshot, lists.one_word(i), one)[0]) for i in words]
    return Candidates(doc_ids, passage_ids, {name: found[name] for name in parts}, floors, words=shares)


def _union(*ids: Ids) -> Ids:
    """Ascending, each once; as ``np.unique``, in a third of the time for so few."""
    every = np.concatenate(ids)
    every.sort()
    return every[np.diff(every, prepend=every[:1] - 1) > 0]


def _without(count: int, places: NDArray[np.intp]) -> NDArray[np.intp]:
    """The places from 0 to ``count`` that are not among ``places``."""
    left = np.ones(count, bool)
    left[places] = False
    return np.flatnonzero(left)


def _contains(ids: Ids, wanted: Ids) -> NDArray[np.bool_]:
    """Which of ``wanted`` are among ``ids``, one or more, ascending."""
    place = np.searchsorted(ids, wanted)
    found: NDArray[np.bool_] = ids[np.minimum(place, len(ids) - 1)] == wanted
    return found


def _readable(snapshot: Snapshot, lists: list[SegmentQuery]) -> list[SegmentQuery]:
    """SPLADE's lists, masked so that documents that the model cannot read are not found."""
    if not len(snapshot.unread.doc_ids):
        return lists
    masked = []
    for part in lists:
        mask = snapshot.readable(part.segment)
        if mask is not None:
            part = part._replace(allowed=mask if part.allowed is None else part.allowed & mask)
        masked.append(part)
    return masked


def _largest(view: View, query: Query, lists: TermLists, parts: Sequence[str], judge: bool) -> dict[str, float]:
    """The best score of each part without the filter."""
    largest = {}
    for name, of_part, weights in (
        ("splade", lists.splade, lists.weights),
        ("bm25", lists.words, lists.word_weights),
    ):
        if name in parts:
            every = [part._replace(allowed=view.snapshot.alive.get(part.segment.segment_id)) for part in of_part]
            if name == "splade" and judge:
                every = _readable(view.snapshot, every)
            largest[name] = float(top_k(every, weights, 1)[1].max(initial=0))
    if "dense" in parts:
        largest["dense"] = float(_dense(view, Request(), query, 1)[2].max(initial=0))
    return largest


def _dense(view: View, request: Request, query: Query, k: int, also: Ids | None = None) -> Part:
    if query.vector is None:
        return NO_PART
    allowed = None if request.matching is None else _allowed(view, request.matching)
    return dense_blocks.search(view.connection, query.vector, k, allowed, view.snapshot.verified_blocks, also)


def _by_segment(snapshot: Snapshot, passage_ids: Ids) -> Iterator[NDArray[np.intp]]:
    """For each segment the ordinals of those of some passages (ascending) that are in it."""
    segments = snapshot.all_segments
    bounds = np.searchsorted(passage_ids, [int(segment.passage_ids[0]) for segment in segments]).tolist()
    for segment, begin, end in zip(segments, bounds, [*bounds[1:], len(passage_ids)], strict=True):
        if begin == end:
            yield np.empty(0, np.intp)
            continue
        wanted = passage_ids[begin:end]
        first = int(segment.passage_ids[0])
        if int(segment.passage_ids[-1]) - first < len(segment):  # no gaps
            ordinals = wanted - first
        else:
            ordinals = np.searchsorted(segment.passage_ids, wanted)
        if ordinals[-1] >= len(segment) or (segment.passage_ids[ordinals] != wanted).any():
            raise CorruptIndex("an index names passages that the segments do not have; run check(repair=True)")
        yield ordinals


def _document_ids(snapshot: Snapshot, passage_ids: Ids) -> Ids:
    """The document of each passage."""
    if snapshot.one_passage_each:
        return passage_ids
    order = np.argsort(passage_ids)
    found = [NO_PART[0]]
    for segment, ordinals in zip(snapshot.all_segments, _by_segment(snapshot, passage_ids[order]), strict=True):
        if segment.document_of is not None and segment.starts is not None:
            ordinals = segment.starts[segment.document_of[ordinals]].astype(np.intp)
        found.append(segment.passage_ids[ordinals])
    doc_ids = np.empty_like(passage_ids)
    doc_ids[order] = np.concatenate(found)
    return doc_ids


def _word_scores(snapshot: Snapshot, lists: TermLists, doc_ids: Ids) -> Floats:
    """BM25's scores of documents, ascending."""
    if not lists.words or not len(doc_ids):
        return np.zeros(len(doc_ids), np.float32)
    wanted = [ordinals.astype(np.uint16) for ordinals in _by_segment(snapshot, doc_ids)]
    return np.concatenate(scores_at(lists.words, lists.word_weights, wanted))


def _splade_scores(snapshot: Snapshot, lists: TermLists, doc_ids: Ids) -> tuple[Ids, Floats]:
    """The first of the best passages of documents, ascending, and its score by SPLADE."""
    if not lists.splade or not len(doc_ids):
        return doc_ids, np.zeros(len(doc_ids), np.float32)
    segments = snapshot.all_segments
    firsts = list(_by_segment(snapshot, doc_ids))
    sizes = [_passages_of(segment, ordinals) for segment, ordinals in zip(segments, firsts, strict=True)]
    counts = np.concatenate(sizes)
    spans = firsts if counts.max() == 1 else [_ranges(*pair) for pair in zip(firsts, sizes, strict=True)]
    values = np.concatenate(scores_at(lists.splade, lists.weights, [span.astype(np.uint16) for span in spans]))
    if spans is firsts:
        return doc_ids, values
    passages = np.concatenate([segment.passage_ids[span] for segment, span in zip(segments, spans, strict=True)])
    scores = np.maximum.reduceat(values, np.cumsum(counts) - counts)
    row = np.repeat(np.arange(len(counts)), counts)
    best = np.flatnonzero(values == scores[row])
    return passages[best[np.flatnonzero(np.diff(row[best], prepend=-1))]], scores


def _passages_of(segment: Segment, firsts: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many passages the documents have whose first ones have these ordinals."""
    if segment.document_of is None or segment.starts is None:
        return np.ones(len(firsts), np.intp)
    return segment.starts[segment.document_of[firsts] + 1] - firsts


def _ranges(firsts: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """``first, first + 1, …`` for each pair, one after another."""
    ends = np.cumsum(counts)
    return np.repeat(firsts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)


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


def _show_words(view: View, query: Query, doc_ids: Ids, shown: Ids | None = None) -> Ids:
    """The passage of each document with the most of the query's words: the first, or ``shown`` where none has one."""
    otherwise = doc_ids if shown is None else shown
    if view.snapshot.one_passage_each or not len(doc_ids):
        return otherwise
    count = analyzer(view.snapshot.meta.layout.language).count
    best: dict[int, int] = {}
    # One text at a time, and each once: a document may have thousands of passages.
    for doc_id, text in view.connection.execute(
        "SELECT d.doc_id, d.text FROM carray(?) c CROSS JOIN document d ON d.doc_id = c.value AND d.passages > 1",
        (int_array(doc_ids),),
    ):
        spans = fetch(
            view.connection,
            "SELECT p.passage_id, p.start_char, p.end_char FROM document d"
            " CROSS JOIN passage p ON p.passage_id BETWEEN d.doc_id AND d.doc_id + d.passages - 1 WHERE d.doc_id = ?",
            (doc_id,),
        )
        found = words_in(count([text[start:end] for _, start, end in spans]), query.word_ids)
        if len(found) and (found.any() or shown is None):
            best[doc_id] = spans[int(np.argmax(found))][0]
    pairs = zip(doc_ids.tolist(), otherwise.tolist(), strict=True)
    return np.array([best.get(doc_id, passage_id) for doc_id, passage_id in pairs], np.int64)


def words_in(counts: WordCounts, word_ids: Sequence[int]) -> NDArray[np.int64]:
    """How many of a query's words each text has, each counted once; int64 ``(N,)``."""
    wanted = np.concatenate(([0], np.cumsum(np.isin(counts.terms, word_ids))))
    found: NDArray[np.int64] = wanted[counts.indptr[1:]] - wanted[counts.indptr[:-1]]
    return found
