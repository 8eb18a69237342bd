"""Exact top-k over posting lists, in NumPy: the oracle and the fallback of the compiled kernel.

SPLADE: ``score(passage) = scale(passage) · Σ_t query_weight(t) · impact(t, passage)``. A document scores as its best
passage.

BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", eq. 3.15): ``score(document) = Σ_t idf(t) ·
(k1 + 1) · tf / (tf + norm(document))`` with ``norm = k1 · (1 - b + b · length / average length)`` and, as in Lucene,
``idf(t) = ln(1 + (N - n + ½) / (n + ½))``, n of N documents having the word. Postings of words stand at a document's
first passage.

Both are summed over the query's terms in ascending term order in float32, so that every kernel gives the same bits.
Ties: score descending, then passage id ascending. A score of 0 is no hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladelite.index.postings import MAX_SEGMENT, split

WORD = 1 << 46
"""The bit of a term id that says: a word, not an entry of the model's vocabulary."""
K1, B = 1.2, 0.7  # benchmarks/LOG.md: with 0.65 to 0.7 no collection ranks worse than with the usual 0.75 in FTS5


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """What a search needs to know of one segment's n passages, n at most 65,536.

    A document's passages are neighbours and never lie in two segments.

    Attributes:
        segment_id: never reused, so whatever is cached under it stays true.
        passage_ids: int64 ``(n,)``, strictly ascending.
        scales: float32 ``(n,)``, greater than 0.
        document_of: int32 ``(n,)``, 0, 0, 1, 2, 2, …: which document of the segment a passage belongs to;
            None when every passage is a document of its own.
        terms: uint8, bit t (big-endian in each byte) is set where the segment has a posting list of term t; None when
            that is not known.
        lengths: float32 ``(n,)``, how many words a document has, at its first passage; else 0. None without words.
        buckets: how many the segment's words are divided into, a power of two; 0 without words.
        max_scale: the largest of the scales.
        starts: int32 ``(documents + 1,)``, the first passage of each document, then n; None like ``document_of``.
        documents, total_length: how many documents it has, dead ones included, and words in all of them.
    """

    segment_id: int
    passage_ids: NDArray[np.int64]
    scales: NDArray[np.float32]
    document_of: NDArray[np.int32] | None
    terms: NDArray[np.uint8] | None = None
    lengths: NDArray[np.float32] | None = None
    buckets: int = 0
    max_scale: float = field(init=False)
    starts: NDArray[np.int32] | None = field(init=False)
    documents: int = field(init=False)
    total_length: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_scale", float(self.scales.max(initial=0)))
        starts = None
        if self.document_of is not None:
            first = np.flatnonzero(np.diff(self.document_of, prepend=-1))
            starts = np.append(first, len(self.scales)).astype(np.int32)
        object.__setattr__(self, "starts", starts)
        object.__setattr__(self, "documents", len(self.scales) if starts is None else len(starts) - 1)
        total = 0.0 if self.lengths is None else float(self.lengths.sum(dtype=np.float64))
        object.__setattr__(self, "total_length", total)

    def __len__(self) -> int:
        return len(self.passage_ids)

    def documents_of(self, ordinals: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The first passage of each document that some passages belong to, ascending, and how many passages it has."""
        if self.document_of is None or self.starts is None:
            first = np.unique(ordinals)
            return first, np.ones(len(first), np.intp)
        documents = np.unique(self.document_of[ordinals])
        first = self.starts[documents].astype(np.intp)
        return first, self.starts[documents + 1] - first

    def has_term(self, term: int) -> bool:
        """Whether a posting list of the term, not a word, must be there."""
        return self.terms is not None and term < 8 * len(self.terms) and bool(self.terms[term >> 3] << (term & 7) & 128)


class SegmentQuery(NamedTuple):
    """One segment's share of a query.

    Attributes:
        segment: its passages.
        allowed: uint8 ``(n,)``, 1 for a passage that is alive and passes the filter; None allows all.
        lists: the posting list of each term of the query, as kept in memory; empty where the segment has none.
        norms: of BM25: float32 ``(65536,)``, the norm of each passage's document; None for SPLADE.
    """

    segment: Segment
    allowed: NDArray[np.uint8] | None
    lists: Sequence[bytes]
    norms: NDArray[np.float32] | None = None


def top_k(
    parts: Sequence[SegmentQuery], weights: Sequence[float], k: int, min_score: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best passage of each of the k best documents.

    Args:
        parts: one a segment, in order of their passage ids.
        weights: of the query's terms, term ids ascending.
        k: at least 1.
        min_score: documents below it are left out; a score of 0 always is.

    Returns:
        passage_ids int64 ``(m,)`` and scores float32 ``(m,)``, m <= k, best first.
    """
    found_ids = [np.empty(0, np.int64)]
    found_scores = [np.empty(0, np.float32)]
    for part in parts:
        ordinals, scores = _best_of_segment(part, weights, k, min_score)
        found_ids.append(part.segment.passage_ids[ordinals])
        found_scores.append(scores)
    passage_ids, scores = np.concatenate(found_ids), np.concatenate(found_scores)
    best = np.lexsort((passage_ids, -scores))[:k]
    return passage_ids[best], scores[best]


def top_k_many(
    searches: Sequence[tuple[Sequence[SegmentQuery], Sequence[float]]], k: int, min_score: float = 0.0
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """:func:`top_k` for several queries, given as parts and weights."""
    return [top_k(parts, weights, k, min_score) for parts, weights in searches]


def scores_at(
    parts: Sequence[SegmentQuery], weights: Sequence[float], wanted: Sequence[NDArray[np.uint16]]
) -> list[NDArray[np.float32]]:
    """The scores of some passages, allowed or not: for each part those with the ordinals ``wanted``."""
    return [
        score_segment(part._replace(allowed=None), weights)[ordinals]
        for part, ordinals in zip(parts, wanted, strict=True)
    ]


def score_segment(part: SegmentQuery, weights: Sequence[float]) -> NDArray[np.float32]:
    """The score of every passage of one segment, float32 ``(n,)``; not allowed or not touched: 0."""
    size = len(part.segment)
    sums = np.zeros(MAX_SEGMENT, np.float32)
    for weight, postings in zip(weights, part.lists, strict=True):
        ordinals, impacts = split(postings, size)
        values = impacts.astype(np.float32)
        if part.norms is not None:
            values /= values + part.norms[ordinals]
        sums[ordinals] += np.float32(weight) * values
    scores = sums[:size] * part.segment.scales if part.norms is None else sums[:size]
    if part.allowed is not None:
        scores *= part.allowed
    return scores


def _best_of_segment(
    part: SegmentQuery, weights: Sequence[float], k: int, min_score: float
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    scores = score_segment(part, weights)
    ordinals = np.flatnonzero((scores > 0) & (scores >= np.float32(min_score)))
    scores = scores[ordinals]
    if part.norms is None and part.segment.document_of is not None and len(ordinals):
        # Best passage first inside each document, then keep the first of each.
        documents = part.segment.document_of[ordinals]
        order = np.lexsort((ordinals, -scores, documents))
        first = np.concatenate(([True], documents[order][1:] != documents[order][:-1]))
        kept = order[first]
        ordinals, scores = ordinals[kept], scores[kept]
    if len(scores) > k:
        # Everything that ties with the k-th best stays, so that ties are broken by id and not by chance.
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= kth)
        ordinals, scores = ordinals[kept], scores[kept]
    return ordinals, scores


def bm25_weights(counts: NDArray[np.int64], documents: int) -> list[float]:
    """``idf · (k1 + 1)`` of words that ``counts`` of ``documents`` documents have."""
    weights: list[float] = (bm25_idf(counts, documents) * (K1 + 1)).tolist()
    return weights


def bm25_idf(counts: NDArray[np.int64], documents: int) -> NDArray[np.float64]:
    """``ln(1 + (N - n + ½) / (n + ½))``, n being ``counts`` and N ``documents``."""
    n = counts.astype(np.float64)
    idf: NDArray[np.float64] = np.log1p((documents - n + 0.5) / (n + 0.5))
    return idf


def bm25_norm(average: float) -> tuple[float, float]:
    """``(a, c)`` of a document's norm ``a + c · length``, which is ``k1 · (1 - b + b · length / average)``."""
    return K1 * (1 - B), K1 * B / average


def bm25_norms(lengths: NDArray[np.float32], average: float) -> NDArray[np.float32]:
    """:func:`bm25_norm` of each length, as a kernel takes it: float32 ``(65536,)``."""
    constant, factor = bm25_norm(average)
    norms = np.ones(MAX_SEGMENT, np.float32)
    norms[: len(lengths)] = np.float32(constant) + np.float32(factor) * lengths
    return norms
