"""The frozen dataclasses that cross room borders.

Shapes are given as ``(N,)``: N documents or passages, T tokens, V vocabulary entries, nnz non-zero weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SparseVectors:
    """N sparse vectors in CSR layout: row i is ``terms[indptr[i]:indptr[i+1]]`` with the weights beside it.

    Attributes:
        indptr: int64 ``(N + 1,)``, starts at 0, never falls.
        terms: int32 ``(nnz,)``, term ids, strictly ascending inside a row.
        weights: float32 ``(nnz,)``, finite and greater than 0.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        return (self.row(i) for i in range(len(self)))

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Term ids and weights of row ``i``: two views of equal length."""
        start, end = self.indptr[i], self.indptr[i + 1]
        return self.terms[start:end], self.weights[start:end]

    def dicts(self) -> list[dict[int, float]]:
        """Each row as ``{term_id: weight}``."""
        return [dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in self]

    @staticmethod
    def from_rows(rows: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]]) -> SparseVectors:
        """Stack ``(terms, weights)`` rows. Each row's terms must be strictly ascending."""
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(terms) for terms, _ in rows], out=indptr[1:])
        if not rows:
            return SparseVectors(indptr, np.empty(0, np.int32), np.empty(0, np.float32))
        return SparseVectors(
            indptr,
            np.concatenate([terms for terms, _ in rows]).astype(np.int32, copy=False),
            np.concatenate([weights for _, weights in rows]).astype(np.float32, copy=False),
        )

    @staticmethod
    def from_dicts(rows: Sequence[Mapping[int, float]]) -> SparseVectors:
        """Build from ``{term_id: weight}`` rows that are known to be valid."""
        return SparseVectors.from_rows(
            [
                (np.array(sorted(row), np.int32), np.array([row[term] for term in sorted(row)], np.float32))
                for row in rows
            ]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A text's tokens, in order, without special tokens.

    Attributes:
        term_ids: int32 ``(T,)``, the vocabulary entry of each token.
        starts: int64 ``(T,)``, character offset of the token's first character in the text.
        ends: int64 ``(T,)``, character offset after its last character.
    """

    term_ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.term_ids)
