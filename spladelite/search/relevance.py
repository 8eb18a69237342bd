"""Scores of a search on a scale from 0 to 1, in the order of the scores; :attr:`spladelite.records.Hit.relevance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spladelite.search.fusion import RRF_CONSTANT, default_weights
from spladelite.search.query_weights import Query
from spladelite.search.request import Request

SCORE_OF_A_WORD = 2.0  # what a matching word of middling rarity adds to a BM25 score, about


def relevance(
    scores: NDArray[np.floating[Any]], request: Request, parts: Sequence[str], query: Query
) -> NDArray[np.float64]:
    """The relevance of each score of one search, float64 ``(m,)``, strictly rising with the score up to rounding."""
    values = scores.astype(np.float64)
    if len(parts) > 1:
        weights = request.weights or default_weights(parts, len(query.words), query.unread)
        best = sum(weights.values()) / (1 if request.fusion == "convex" else RRF_CONSTANT + 1)
        return np.clip(values / best, 0.0, 1.0)
    if tuple(parts) == ("dense",):
        return np.asarray((1 + values / (1 + np.abs(values))) / 2)
    if tuple(parts) == ("bm25",):
        scale = SCORE_OF_A_WORD * max(1, len(query.words))
    else:
        scale = sum([weight * weight for _, weight in query.weights])
    return values / (values + scale) if scale > 0 else np.zeros(len(values))


def logistic(scores: ArrayLike) -> NDArray[np.float64]:
    """``1 / (1 + exp(-score))``: the relevance of a reranker's scores."""
    values = np.asarray(scores, np.float64)
    return np.asarray((1 + np.tanh(values / 2)) / 2)
