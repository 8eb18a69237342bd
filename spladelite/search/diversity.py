"""Hits that differ from each other: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998)."""

from __future__ import annotations

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput
from spladelite.index.passages import Layout, read_passages
from spladelite.index.quantize import dequantize

CANDIDATES = 5  # times k, and at least 50: what is chosen from


def diversified(
    connection: apsw.Connection,
    layout: Layout,
    passage_ids: NDArray[np.int64],
    relevance: NDArray[np.float64],
    k: int,
    diversity: float,
) -> list[int]:
    """Which of the candidates to show, in order: positions in ``passage_ids``, at most k.

    One after another, the candidate with the largest ``(1 - diversity) * relevance - diversity * similarity`` is taken:
    relevance as a share of the best one's, similarity as the largest cosine of its stored SPLADE vector with those
    that were taken before.
    """
    if not len(passage_ids):
        return []
    vectors = _unit_vectors(connection, layout, passage_ids)
    gain = (1 - diversity) * relevance / max(float(relevance.max()), 1e-300)
    nearest = np.zeros(len(passage_ids))
    left = np.ones(len(passage_ids), bool)
    chosen: list[int] = []
    while left.any() and len(chosen) < k:
        best = int(np.argmax(np.where(left, gain - diversity * nearest, -np.inf)))
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen


def _unit_vectors(connection: apsw.Connection, layout: Layout, passage_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Over the terms that occur at all, each of length 1: float32 ``(n, terms)``."""
    rows = [
        dequantize(read_passages(connection, layout, passage_id, passage_id).vectors).row(0)
        for passage_id in passage_ids.tolist()
    ]
    used = np.unique(np.concatenate([terms for terms, _ in rows]))
    result = np.zeros((len(rows), len(used)), np.float32)
    for i, (terms, weights) in enumerate(rows):
        result[i, np.searchsorted(used, terms)] = weights
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    return np.asarray(result / np.maximum(lengths, np.float32(1e-30)), np.float32)


def check_diversity(diversity: object) -> float:
    """A caller's ``diversity=``: 0 for the plain ranking, towards 1 for hits that share little."""
    if isinstance(diversity, bool) or not isinstance(diversity, int | float | np.number) or not 0 <= diversity <= 1:
        raise InvalidInput(f"diversity is {diversity!r}; give a number from 0 (the plain ranking) to 1")
    return float(diversity)
