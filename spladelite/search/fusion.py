"""Fusing the scores of several parts into one: pure functions.

Both rules give each document the sum over the parts of a weight times a value, which is what ``explain`` shows.

- ``convex``: the value is ``score / largest score of the part``, so 1 for the part's best document and 0 at the lowest
  score the part could give. That is the theoretical min-max normalisation of Bruch, Gai and Ingber 2023, "An Analysis
  of Fusion Functions for Hybrid Retrieval" (ACM TOIS), whose minimum is 0 for BM25 and for SPLADE. A dense score below
  0 counts against a document.
- ``rrf``: the value is ``1 / (60 + rank)``, Cormack, Clarke and Büttcher 2009, "Reciprocal Rank Fusion outperforms
  Condorcet and individual Rank Learning Methods"; 0 for a document that the part does not know.

The default weights depend on the query (:func:`default_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput, WrongType
from spladelite.index.quantize import LARGEST_WEIGHT

Floats = NDArray[np.floating[Any]]
Scores = TypeVar("Scores", Floats, np.floating[Any])

FUSIONS = ("convex", "rrf")
RRF_CONSTANT = 60
WORDS_FOR_EQUAL_WEIGHT = 6


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """The fused list.

    Attributes:
        ids: int64 ``(n,)``.
        scores: ``(n,)`` of the type of the parts' scores, falling; equal scores by id.
        contributions: what each part gave each document, ``(n,)``; they sum to the score.
    """

    ids: NDArray[np.int64]
    scores: Floats
    contributions: dict[str, Floats]


def fuse(
    doc_ids: NDArray[np.int64],
    scores: Mapping[str, Floats],
    weights: Mapping[str, float],
    k: int,
    fusion: str,
    largest: Mapping[str, float],
) -> Fused:
    """The k best of some documents by several parts together.

    Args:
        doc_ids: int64 ``(n,)``, distinct.
        scores: of each part, ``(n,)``, float32 or float64; NaN, or 0 of SPLADE and BM25, says that it does not know a
            document.
        weights: one a part, as :func:`check_weights` returns them.
        k: at least 1.
        fusion: ``"convex"`` or ``"rrf"``.
        largest: for ``"convex"``, the best score of each part.

    Returns:
        At most k documents: those that a part with a weight above 0 knows.
    """
    contributions = {}
    known = np.zeros(len(doc_ids), bool)
    exactness = np.result_type(*scores.values())
    total = np.zeros(len(doc_ids), exactness)
    for name, given in scores.items():
        of_part = ~np.isnan(given) if name == "dense" else given > 0
        contribution = np.zeros(len(doc_ids), exactness)
        values = _share_of(largest[name], given[of_part]) if fusion == "convex" else _reciprocal_rank(given[of_part])
        contribution[of_part] = exactness.type(weights[name]) * values
        contributions[name] = contribution
        total += contribution
        if weights[name] > 0:
            known |= of_part
    if "dense" not in scores:
        known &= total > 0  # a share may be too small for a float
    best = np.lexsort((doc_ids, -total))
    best = best[known[best]][:k]
    return Fused(doc_ids[best], total[best], {name: values[best] for name, values in contributions.items()})


def default_weights(parts: Sequence[str], words: int, unread: bool = False) -> dict[str, float]:
    """Weights that sum to 1 for parts named ``splade``, ``bm25`` and ``dense``, any of them.

    Beside one other part BM25 gets a twelfth for each distinct word of the query, without stop words, and at most a
    half; beside two others half of that. The others share the rest. SPLADE gets nothing where its model cannot read the
    query (``unread``). A short question gives exact matching little
    evidence and is what the models were trained on; with each word more BM25 knows more. Over nine sets of judged
    queries equal weights lose up to 0.07 nDCG@10 against the best part, this rule at most 0.01 (benchmarks/LOG.md).
    """
    weights = dict.fromkeys(parts, 0.0)
    others = [name for name in parts if name != "bm25" and not (unread and name == "splade")]
    lexical = 0.0
    if "bm25" in parts:
        lexical = weights["bm25"] = min(words / WORDS_FOR_EQUAL_WEIGHT, 1.0) / (2 * len(others)) if others else 1.0
    return weights | {name: (1 - lexical) / len(others) for name in others}


def check_weights(weights: object, parts: Sequence[str]) -> dict[str, float]:
    """A caller's ``weights=``: numbers from 0 to ``LARGEST_WEIGHT``, for some of the parts, which alone are asked.

    Raises:
        InvalidInput, WrongType: what was given and what the parts are.
    """
    names = ", ".join(parts)
    if not isinstance(weights, Mapping):
        raise WrongType(f"weights is of type {type(weights).__name__}; give a dict with numbers for {names}")
    if not weights or not set(weights) <= set(parts):
        given = ", ".join(map(str, weights)) or "nothing"
        raise InvalidInput(f"weights names {given}; give numbers for {names}, or some of them")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float | np.number):
            raise WrongType(f"weights[{name!r}] is of type {type(weight).__name__}; give a number")
        exact = weight.item() if isinstance(weight, np.number) else weight  # float16 cannot hold the limit
        if not 0 <= exact <= LARGEST_WEIGHT:
            raise InvalidInput(f"weights[{name!r}] is {weight!s:.60}; give a number from 0 to {LARGEST_WEIGHT:g}")
    if not any(weights.values()):
        raise InvalidInput(f"all weights are 0; give at least one of {names} a weight above 0")
    return {name: float(weights[name]) for name in parts if name in weights}


def check_fusion(fusion: object) -> str:
    """A caller's ``fusion=``."""
    if fusion not in FUSIONS:
        raise InvalidInput(f"fusion is {fusion!r}; give 'convex' or 'rrf'")
    return str(fusion)


def threshold(
    floors: Mapping[str, np.floating[Any]], weights: Mapping[str, float], largest: Mapping[str, float]
) -> float:
    """What the convex fusion gives a document that has the score ``floors`` from each part, 0 from one not named."""
    total = 0.0
    for name, floor in floors.items():
        total += weights[name] * float(_share_of(largest[name], floor))
    return total


def _share_of(largest: float, scores: Scores) -> Scores:
    return scores / scores.dtype.type(largest) if largest > 0 else scores  # not above 0: only dense scores are not


def _reciprocal_rank(scores: Floats) -> Floats:
    ranks = np.empty(len(scores), scores.dtype)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return scores.dtype.type(1) / (scores.dtype.type(RRF_CONSTANT) + ranks)
