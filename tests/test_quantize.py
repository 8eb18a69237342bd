from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spladelite.index.quantize import drop_small_weights, quantize
from spladelite.records import SparseVectors

weights = st.floats(2.0**-100, 2.0**100, width=32)
rows = st.lists(st.dictionaries(st.integers(0, 30_521), weights, max_size=8), max_size=6)


@given(rows)
def test_error_bound_and_no_zero(given_rows: list[dict[int, float]]) -> None:
    vectors = SparseVectors.from_dicts(given_rows)
    quantized = quantize(vectors)
    assert len(quantized) == len(given_rows)
    assert (quantized.impacts >= 1).all()
    assert (quantized.scales > 0).all()
    for i, row in enumerate(given_rows):
        start, end = quantized.indptr[i], quantized.indptr[i + 1]
        assert quantized.terms[start:end].tolist() == sorted(row)
        if not row:
            continue
        exact = vectors.weights[start:end].astype(np.float64)
        restored = quantized.impacts[start:end] * quantized.scales[i].astype(np.float64)
        # Half a step, a whole one for weights that would round to 0; a little for float32.
        step = np.where(exact < quantized.scales[i] / 2, 1.0, 0.5) * quantized.scales[i]
        assert (np.abs(restored - exact) <= step * 1.0001).all()
        assert quantized.impacts[start:end].max() == 255


def test_weights_below_the_smallest_scale() -> None:
    tiny = float(np.nextafter(np.float32(0), np.float32(1)))
    quantized = quantize(SparseVectors.from_dicts([{3: tiny}, {}]))
    assert quantized.impacts.tolist() == [1]
    assert (quantized.scales > 0).all()


def test_drop_small_weights() -> None:
    vectors = SparseVectors.from_dicts([{1: 0.2, 2: 0.3, 3: 1.0}, {}, {4: 0.1}, {0: 2.0}])
    kept = drop_small_weights(vectors, 0.3)
    assert [{term: round(weight, 3) for term, weight in row.items()} for row in kept.dicts()] == [
        {2: 0.3, 3: 1.0},
        {},
        {},
        {0: 2.0},
    ]
    assert kept.terms.dtype == np.int32
    assert kept.indptr.dtype == np.int64
    assert drop_small_weights(vectors, 0).dicts() == vectors.dicts()
