"""From a dense vector over the vocabulary to one sparse row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput

Row = tuple[NDArray[np.int32], NDArray[np.float32]]

EMPTY_ROW: Row = (np.empty(0, np.int32), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a row may keep.

    Attributes:
        max_active_terms: the strongest so many terms (ties: the smaller id), or None for all.
        min_weight: terms with a smaller weight are dropped.

    Raises:
        InvalidInput: ``max_active_terms`` below 1, or ``min_weight`` negative or not finite.
    """

    max_active_terms: int | None = None
    min_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.max_active_terms is not None and self.max_active_terms < 1:
            raise InvalidInput(f"max_active_terms must be at least 1 or None, got {self.max_active_terms}")
        if not 0 <= self.min_weight < float("inf"):
            raise InvalidInput(f"min_weight must be finite and not negative, got {self.min_weight}")

    def sign(self, fingerprint: str) -> str:
        """The fingerprint of a model under these limits; unchanged where there are none."""
        if self.max_active_terms is None and self.min_weight == 0:
            return fingerprint
        text = f"{fingerprint} {self.max_active_terms} {self.min_weight!r}"
        return hashlib.sha256(text.encode()).hexdigest()

    def apply(self, row: Row) -> Row:
        """The row with only what may be kept, terms still ascending."""
        terms, weights = row
        if self.min_weight > 0:
            keep = weights >= self.min_weight
            terms, weights = terms[keep], weights[keep]
        if self.max_active_terms is not None and len(terms) > self.max_active_terms:
            strongest = np.sort(np.argsort(-weights, kind="stable")[: self.max_active_terms])
            terms, weights = terms[strongest], weights[strongest]
        return terms, weights


def activate(values: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """The weight of positive pooled values: ``log1p`` (SPLADE v1 to v3), ``log1p_log1p``, or ``none``.

    All are monotone, so they commute with max pooling and are applied to the few positive entries only.
    """
    if activation == "log1p":
        return np.log1p(values)
    if activation == "log1p_log1p":
        return np.log1p(np.log1p(values))
    return values


def sparsify(pooled: NDArray[np.float32], activation: str) -> Row:
    """Positive entries of pooled values ``(V,)`` as ascending terms and their weights."""
    terms = np.flatnonzero(pooled > 0)
    weights = activate(pooled[terms], activation)
    if not weights.all():  # log1p never gives 0 for a positive float32; a guard against denormals flushed to zero
        terms, weights = terms[weights > 0], weights[weights > 0]
    return terms.astype(np.int32), weights


def without(row: Row, excluded: NDArray[np.int32]) -> Row:
    """The row without the ``excluded`` terms (ascending)."""
    terms, weights = row
    keep = ~np.isin(terms, excluded, assume_unique=True)
    return terms[keep], weights[keep]


def merge(rows: Sequence[Row], pooling: str) -> Row:
    """One row for the windows of one text: weights pooled by maximum, or added for ``sum``."""
    if not rows:
        return EMPTY_ROW
    if len(rows) == 1:
        return rows[0]
    terms, place = np.unique(np.concatenate([terms for terms, _ in rows]), return_inverse=True)
    weights = np.zeros(len(terms), np.float32)
    pool = np.add if pooling == "sum" else np.maximum
    pool.at(weights, place, np.concatenate([weights for _, weights in rows]))
    return terms, weights
