"""Float weights to 8-bit impacts, one scale a passage.

``weight ≈ impact · scale`` with ``scale = max(weights) / 255``. A scale of its own for each passage needs no guess
about a model's range: SPLADE-max weights end near 4, sum pooling or a user's own vectors may reach thousands. The
scale is applied once per candidate passage, after the sum over terms, so it costs the inner loop nothing.

A stored impact is never 0: a term that is in the vector stays in the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spladelite.records import SparseVectors

MAX_IMPACT = 255
LARGEST_WEIGHT = 1e15  # sums of products of two weights over any vocabulary stay far inside float32
SMALLEST_SCALE = np.nextafter(np.float32(0), np.float32(1))


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedVectors:
    """N quantised vectors in CSR layout.

    Attributes:
        indptr: int64 ``(N + 1,)``.
        terms: int32 ``(nnz,)``, strictly ascending inside a row.
        impacts: uint8 ``(nnz,)``, 1 to 255.
        scales: float32 ``(N,)``, greater than 0; weight = impact · scale.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.int32]
    impacts: NDArray[np.uint8]
    scales: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scales)


def drop_small_weights(vectors: SparseVectors, min_weight: float) -> SparseVectors:
    """The same vectors without the weights below ``min_weight``."""
    keep = vectors.weights >= min_weight
    kept_before = np.concatenate(([0], np.cumsum(keep, dtype=np.int64)))
    return SparseVectors(kept_before[vectors.indptr], vectors.terms[keep], vectors.weights[keep])


def quantize(vectors: SparseVectors) -> QuantizedVectors:
    """Quantise each row to 8 bits. The relative error of a weight w is at most ``max(row) / (510 · w)``."""
    lengths = np.diff(vectors.indptr)
    largest = np.zeros(len(vectors), np.float32)
    filled = lengths > 0
    if filled.any():
        largest[filled] = np.maximum.reduceat(vectors.weights, vectors.indptr[:-1][filled])
    scales = np.maximum(largest / np.float32(MAX_IMPACT), SMALLEST_SCALE)
    impacts = np.rint(vectors.weights / np.repeat(scales, lengths))
    return QuantizedVectors(
        vectors.indptr,
        vectors.terms,
        np.clip(impacts, 1, MAX_IMPACT).astype(np.uint8),
        scales,
    )


def stack(parts: Sequence[QuantizedVectors]) -> QuantizedVectors:
    """The rows of all parts, at least one, in order."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return QuantizedVectors(
        np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))),
        np.concatenate([part.terms for part in parts]),
        np.concatenate([part.impacts for part in parts]),
        np.concatenate([part.scales for part in parts]),
    )


def dequantize(vectors: QuantizedVectors) -> SparseVectors:
    """The weights that are stored: impact times scale."""
    weights = vectors.impacts * np.repeat(vectors.scales, np.diff(vectors.indptr))
    return SparseVectors(vectors.indptr, vectors.terms, weights.astype(np.float32))


def take(vectors: QuantizedVectors, rows: NDArray[np.intp]) -> QuantizedVectors:
    """The given rows, in the given order."""
    lengths = np.diff(vectors.indptr)[rows]
    indptr = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    entries = np.repeat(vectors.indptr[:-1][rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
    return QuantizedVectors(indptr, vectors.terms[entries], vectors.impacts[entries], vectors.scales[rows])
