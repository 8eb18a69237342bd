"""Queries without a model: a query's own tokens, weighted by how rare they are in this database.

The inference-free query side of SPLADE-doc (Formal et al. 2021) and of OpenSearch's doc-only models, with document
frequencies read from the file: a tokenizer is all it needs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def idf_weights(frequencies: NDArray[np.int64], passages: int) -> NDArray[np.float64]:
    """``ln(1 + N / df)``: none of the formulas that benchmarks/README.md lists is clearly better over five collections.

    Args:
        frequencies: in how many passages each query token occurs, ``(T,)``.
        passages: N, how many there are.

    Returns:
        ``(T,)``; 0 for a token that no passage has.
    """
    df = np.minimum(frequencies, passages)
    return np.where(frequencies > 0, np.log1p(passages / np.maximum(df, 1)), 0.0)
