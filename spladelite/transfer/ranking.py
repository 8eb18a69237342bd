"""Ranking in an engine as in a file: by SPLADE, by BM25, or by both together.

The engine adds up; what decides is the file's: how rare words are weighed, the norms of lengths, the fusion, and which
documents have to be looked at (:mod:`spladelite.search.hybrid`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladelite.index.scoring import bm25_norm, bm25_weights
from spladelite.search.fusion import default_weights
from spladelite.search.hybrid import Candidates, fuse_best
from spladelite.search.query_weights import Query
from spladelite.search.request import Request
from spladelite.transfer.conditions import Condition
from spladelite.transfer.engine import Ask, Engine, Frequencies, Ranked

BY_WORDS = -1
"""The ordinal of a document whose passage with the most of the query's words is to be shown."""


class Shown(NamedTuple):
    """What a query has found: numbers, ordinals (or ``BY_WORDS``) and scores, float64 ``(m,)``."""

    numbers: list[int]
    ordinals: list[int]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One call's searches.

    Attributes:
        engine: where the postings are.
        request, parts: what is asked of it.
        condition: the filter.
        words: how many documents have each word of its queries.
        totals: of the collection; None where BM25 has no part.
    """

    engine: Engine
    request: Request
    parts: Sequence[str]
    condition: Condition | None
    words: dict[int, int]
    totals: Frequencies | None

    @staticmethod
    def of(
        engine: Engine,
        request: Request,
        parts: Sequence[str],
        condition: Condition | None,
        queries: Sequence[Query],
    ) -> Ranking:
        """Look up what the queries have in common."""
        if "bm25" not in parts:
            return Ranking(engine, request, parts, condition, {}, None)
        words = sorted({word for query in queries for word in query.word_ids})
        totals = engine.frequencies(words)
        return Ranking(engine, request, parts, condition, dict(zip(words, totals.counts, strict=True)), totals)

    def search(self, queries: Sequence[Query]) -> list[Shown]:
        """The best documents of each query."""
        least, k = self.request.min_score or 0.0, self.request.k
        if len(self.parts) == 1:
            (part,) = self.parts
            asked = [self._ask(part, query)._replace(k=k, min_score=least) for query in queries]
            ranked = self._ask_engine(asked, self.condition)
            return [_shown(found, part == "bm25") for found in ranked]
        return [self._fused(query) for query in queries]

    def _fused(self, query: Query) -> Shown:
        found = self.candidates(query)
        kept = np.ones(len(found.fused.ids), bool)
        if self.request.min_score is not None:
            kept = found.fused.scores >= self.request.min_score
        numbers = found.fused.ids[kept]
        place = np.searchsorted(found.doc_ids, numbers)
        ordinals = found.passage_ids[place] - numbers
        ordinals[found.scores["splade"][place] <= 0] = BY_WORDS
        return Shown(numbers.tolist(), ordinals.tolist(), found.fused.scores[kept].astype(np.float64))

    def candidates(self, query: Query, also: int | None = None) -> Candidates:
        """The documents that may be the best, fused; with ``also``, that one too, with what each word adds there."""
        weights = self.request.weights or default_weights(self.parts, len(query.words), query.unread)

        def best_of_parts(depth: int) -> Candidates:
            return self._best_of_parts(query, depth, also)

        def largest_of_all() -> dict[str, float]:
            asked = [self._ask(part, query)._replace(k=1) for part in self.parts]
            best = self._ask_engine(asked, None)
            return {
                part: max((entry.score for entry in found), default=0.0)
                for part, found in zip(self.parts, best, strict=True)
            }

        return fuse_best(best_of_parts, largest_of_all, self.request, weights, also is not None)

    def _best_of_parts(self, query: Query, depth: int, also: int | None) -> Candidates:
        asked = [self._ask(part, query)._replace(k=depth) for part in self.parts]
        best = self._ask_engine(asked, self.condition)
        numbers = sorted({entry.number for found in best for entry in found} | ({also} if also is not None else set()))
        # The true score from each part of those that only others have found.
        without = [sorted(set(numbers).difference(entry.number for entry in found)) for found in best]
        others = self._ask_engine(
            [ask._replace(k=len(missing), among=missing) for ask, missing in zip(asked, without, strict=True)], None
        )
        doc_ids = np.array(numbers, np.int64)
        passage_ids = doc_ids.copy()
        scores = {}
        for part, found, more in zip(self.parts, best, others, strict=True):
            entries = found + more
            place = np.searchsorted(doc_ids, np.array([entry.number for entry in entries], np.int64))
            scores[part] = np.zeros(len(doc_ids))
            scores[part][place] = [entry.score for entry in entries]
            if part == "splade":
                passage_ids[place] += np.array([entry.ordinal for entry in entries], np.int64)
        floors = {
            part: np.float64(found[-1].score)
            for part, found in zip(self.parts, best, strict=True)
            if len(found) == depth
        }
        return Candidates(doc_ids, passage_ids, scores, floors, words=self._shares(query, also))

    def _shares(self, query: Query, number: int | None) -> list[float]:
        """What each word adds to a document's BM25 score."""
        if number is None or "bm25" not in self.parts:
            return []
        ask = self._ask("bm25", query)
        known = dict(ask.terms)
        alone = [
            ask._replace(terms=[(word, known[word])] if word in known else [], k=1, among=[number])
            for word in query.word_ids
        ]
        return [found[0].score if found else 0.0 for found in self._ask_engine(alone, None)]

    def _ask(self, part: str, query: Query) -> Ask:
        """What a part looks for; no terms where it finds nothing."""
        if part == "splade":
            judged = len(self.parts) > 1 and self.request.weights is None
            return Ask(query.weights, 0, readable=judged and self.totals is not None and self.totals.unread)
        assert self.totals is not None
        words = [word for word in query.word_ids if self.words[word]]
        counts = np.array([self.words[word] for word in words], np.int64)
        weights = bm25_weights(counts, self.totals.documents)
        average = self.totals.words / self.totals.documents if self.totals.words else 1.0
        return Ask(list(zip(words, weights, strict=True)), 0, norm=bm25_norm(average))

    def _ask_engine(self, asked: Sequence[Ask], condition: Condition | None) -> list[list[Ranked]]:
        """Ask the engine for those that have an answer."""
        real = [ask for ask in asked if ask.terms and ask.k]
        found = iter(self.engine.rank(real, condition, self.request.timeout) if real else [])
        return [next(found) if ask.terms and ask.k else [] for ask in asked]


def _shown(found: Sequence[Ranked], by_words: bool) -> Shown:
    ordinals = [BY_WORDS if by_words else entry.ordinal for entry in found]
    return Shown([entry.number for entry in found], ordinals, np.array([entry.score for entry in found]))
