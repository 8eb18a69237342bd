"""How much two encoders differ on texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spladelite.encoders.base import Encoder
from spladelite.errors import InvalidInput, ModelError


@dataclass(frozen=True, slots=True)
class Comparison:
    """Means over the texts, except ``largest_difference``.

    Attributes:
        texts: how many.
        largest_difference: of any weight; a term that one encoder lacks counts as 0.
        mean_difference: over the terms that at least one of the two gives.
        top_overlap: share of the ten strongest terms that are the same.
        score_error: relative difference of a text's inner product with itself, a mean of absolute values.
        active_terms: non-zero weights of a text, of each encoder.
    """

    texts: int
    largest_difference: float
    mean_difference: float
    top_overlap: float
    score_error: float
    active_terms: tuple[float, float]


def compare(a: Encoder, b: Encoder, texts: Sequence[str], side: str = "document") -> Comparison:
    """Encode ``texts`` with both and compare; ``side`` is "document" or "query".

    Raises:
        InvalidInput: no texts, or an unknown side.
        ModelError: the vocabularies differ.
    """
    if not texts:
        raise InvalidInput("no texts to compare on; give at least one")
    if side not in ("document", "query"):
        raise InvalidInput(f"side must be 'document' or 'query', got {side!r}")
    if list(a.vocabulary) != list(b.vocabulary):
        raise ModelError(f"{a.name} and {b.name} have different vocabularies; their vectors cannot be compared")
    first, second = (
        model.encode_documents(texts) if side == "document" else model.encode_queries(texts) for model in (a, b)
    )
    left, right = np.zeros(len(a.vocabulary), np.float32), np.zeros(len(a.vocabulary), np.float32)
    largest, means, overlaps, errors = 0.0, [], [], []
    for one, two in zip(first, second, strict=True):
        left[:], right[:] = 0, 0
        left[one[0]], right[two[0]] = one[1], two[1]
        either = (left > 0) | (right > 0)
        if not either.any():
            continue
        difference = np.abs(left - right)
        largest = max(largest, float(difference.max()))
        means.append(float(difference[either].mean()))
        tops = [set(np.argsort(-vector, kind="stable")[: min(10, int((vector > 0).sum()))]) for vector in (left, right)]
        overlaps.append(len(tops[0] & tops[1]) / max(1, len(tops[0]), len(tops[1])))
        norm = float(left @ left)
        errors.append(abs(float(left @ right) - norm) / norm if norm else 1.0)
    active = (len(first.terms) / len(texts), len(second.terms) / len(texts))
    return Comparison(len(texts), largest, _mean(means), _mean(overlaps, 1.0), _mean(errors), active)


def _mean(values: list[float], empty: float = 0.0) -> float:
    return float(np.mean(values)) if values else empty
