"""The output layer of a SPLADE model as ONNX: token vectors in, pooled logits over the vocabulary out.

The graph takes the ids of **one** text, so there is no padding and no batch: the same text gives the same vector
whatever is encoded beside it, and memory does not depend on the batch. Texts run in parallel on threads instead.

The output is ``max over tokens of logits`` ``(V,)``. The activation ``log(1 + ReLU(x))`` (SPLADE v2, eq. 6) is
monotone, so it is applied afterwards to the few positive entries. The output layer is cut into vocabulary tiles that
stay in the L2 cache; tokens x vocabulary is never held.

int8 output layer. Its input is a LayerNorm output, whose range is known beforehand, so scales are static:

    u[t, h] = clip(round(y[t, h] / s[h] + o[h]), 0, 255)          uint8, s and o folded into the LayerNorm
    q[v, h] = round(W[v, h] * s[h] / r[v])                        int8 in -63..63
    logit[t, v] = r[v] * sum_h u[t, h] * q[v, h] + c[v]

``q`` is rounded one channel after the other, each rounding error compensated in the channels to come (GPTQ, Frantar et
al. 2022, eq. 3), which measured a fifth less logit error than rounding to nearest. The sum is exact in int32.
Processors without VNNI add pairs of products in int16, which saturates at 32,767; with seven-bit weights a pair is at
most 2 * 255 * 63 = 32,130, so they give the same sums. ``c`` makes the error zero for the mean input. Scale and offset
are the same for all tokens, so the maximum is taken over the raw sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.export.graph import Graph

WEIGHT_LIMIT = 63  # int8 weights lie in -63..63, see the module docstring
INPUT_LIMIT = 255
RANGE_MARGIN = 0.15  # on each side: a clipped input costs up to 0.5 of a logit, a coarser step 0.004
# Columns of one vocabulary tile: 100 tokens are 400 KB of float32, well inside an L2 cache. No power of two: rows would
# lie a multiple of 4 KiB apart and share a few cache sets (measured: pooling 5 times slower with 2,048).
TILE = 1008

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the output layer's input looks like.

    Attributes:
        low, high: float64 ``(H,)``, the range that uint8 covers; values outside are clipped.
        mean: float64 ``(H,)``.   covariance: float64 ``(H, H)``.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @staticmethod
    def of(hidden: Floats) -> Calibration:
        """From inputs ``(T, H)`` of many texts, with room around the range that was seen."""
        wide = hidden.astype(np.float64)
        low, high = wide.min(0), wide.max(0)
        room = RANGE_MARGIN * (high - low)
        return Calibration(low - room, high + room, wide.mean(0), np.cov(wide.T))


@dataclass(frozen=True, slots=True)
class QuantizedHead:
    """The int8 output layer of the module docstring, with ``V`` terms and ``H`` channels.

    Attributes:
        table: int8 ``(V, H)``, ``q``.   row_scale: float32 ``(V,)``, ``r``.   bias: float32 ``(V,)``, ``c``.
        step: float64 ``(H,)``, ``s``.   offset: float64 ``(H,)``, ``o``.
    """

    table: NDArray[np.int8]
    row_scale: Floats
    bias: Floats
    step: NDArray[np.float64]
    offset: NDArray[np.float64]

    @staticmethod
    def of(weight: Floats, bias: Floats, calibration: Calibration) -> QuantizedHead:
        """Quantise a decoder ``weight`` ``(V, H)`` and ``bias`` ``(V,)``."""
        wide = weight.astype(np.float64)
        step = np.maximum(calibration.high - calibration.low, 1e-6) / INPUT_LIMIT
        offset = -calibration.low / step
        scaled = wide * step
        row_scale = (np.maximum(np.abs(scaled).max(1), 1e-12) / WEIGHT_LIMIT).astype(np.float32)
        table = _round_with_feedback(scaled, row_scale, calibration.covariance / np.outer(step, step))
        at_mean = row_scale * (table @ (calibration.mean / step + offset))
        return QuantizedHead(
            table, row_scale, (bias + wide @ calibration.mean - at_mean).astype(np.float32), step, offset
        )


def _round_with_feedback(
    weight: NDArray[np.float64], row_scale: Floats, covariance: NDArray[np.float64]
) -> NDArray[np.int8]:
    """``round(weight / row_scale)`` with each channel's error carried to the channels that correlate with it."""
    damped = covariance + 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    order = np.argsort(-np.diag(damped), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left = weight[:, order]
    rounded = np.empty(weight.shape, np.int8)
    for i, channel in enumerate(order):
        whole = np.clip(np.rint(left[:, i] / row_scale), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        rounded[:, channel] = whole
        left[:, i + 1 :] -= np.outer((left[:, i] - whole * row_scale) / factor[i, i], factor[i, i + 1 :])
    return rounded


@dataclass(frozen=True, slots=True)
class Pooling:
    """Over the tokens: the maximum of the logits (activation later), or the sum of activated logits (SPLADE v1)."""

    kind: str
    activation: str


def float_head(graph: Graph, normed: str, table: str, bias: Floats, pooling: Pooling) -> str:
    """Pooled values ``(V,)`` of the decoder's input ``(T, H)`` in float32; ``table`` is ``(V, H)`` in the graph."""
    lifted = graph.op("Unsqueeze", normed, graph.ints(0))  # (1, T, H)
    logits = [graph.op("MatMul", lifted, tile) for tile in _tiles(graph, table, len(bias))]
    if pooling.kind == "sum":
        shifts = [graph.floats(bias[i : i + TILE]) for i in range(0, len(bias), TILE)]
        moved = [graph.op("Add", tile, shift) for tile, shift in zip(logits, shifts, strict=True)]
        return _join(graph, [_sum_over_tokens(graph, tile, pooling.activation) for tile in moved])
    return graph.op("Add", _join(graph, [_max_over_tokens(graph, tile) for tile in logits]), graph.floats(bias))


def int8_head(graph: Graph, scaled: str, head: QuantizedHead, stored: Stored, pooling: Pooling) -> str:
    """Pooled values ``(V,)`` of the input ``(T, H)``, already in the steps and offsets of ``head``."""
    one = graph.floats(1.0)
    inputs = graph.op("QuantizeLinear", scaled, one, graph.const(np.array(0, np.uint8)))
    lifted = graph.op("Unsqueeze", inputs, graph.ints(0))  # (1, T, H)
    # Sums stay below 2**24, so their float32 form is exact and can be pooled by the faster float kernel.
    sums = [
        graph.op("MatMulIntegerToFloat", lifted, tile, one, one, domain="com.microsoft")
        for tile in _tiles(graph, stored.table, len(head.table))
    ]
    if pooling.kind == "sum":
        parts = []
        for i, tile in enumerate(sums):
            here = slice(i * TILE, (i + 1) * TILE)
            logits = graph.op("Mul", tile, graph.floats(head.row_scale[here]))
            logits = graph.op("Add", logits, graph.floats(head.bias[here]))
            parts.append(_sum_over_tokens(graph, logits, pooling.activation))
        return _join(graph, parts)
    pooled = _join(graph, [_max_over_tokens(graph, tile) for tile in sums])
    return graph.op("Add", graph.op("Mul", pooled, stored.scale), graph.floats(head.bias))


@dataclass(frozen=True, slots=True)
class Stored:
    """Names of a quantised head's arrays in the graph, so that the embeddings can share them."""

    table: str
    scale: str

    @staticmethod
    def of(graph: Graph, head: QuantizedHead) -> Stored:
        """Put the table and its row scales into the graph."""
        return Stored(graph.const(head.table), graph.floats(head.row_scale))


def tied_embedding(graph: Graph, head: QuantizedHead, stored: Stored, table: Floats) -> str:
    """Embeddings ``(T, H)`` of ``ids`` from the head's int8 table plus an int8 remainder (15 bits together)."""
    coarse = (head.table * head.row_scale[:, None] / head.step.astype(np.float32)).astype(np.float32)
    rest = table - coarse
    rest_scale = np.maximum(np.abs(rest).max(0), 1e-12) / 127
    rows = graph.op("Cast", graph.op("Gather", stored.table, "ids"), to=1)
    scales = graph.op("Unsqueeze", graph.op("Gather", stored.scale, "ids"), graph.ints(1))
    first = graph.op("Mul", graph.op("Mul", rows, scales), graph.floats(1 / head.step))
    remainder = graph.const(np.rint(rest / rest_scale).astype(np.int8))
    second = graph.op("Cast", graph.op("Gather", remainder, "ids"), to=1)
    return graph.op("Add", first, graph.op("Mul", second, graph.floats(rest_scale)))


def _tiles(graph: Graph, table: str, terms: int) -> list[str]:
    """Vocabulary tiles ``(H, TILE)`` of a table ``(V, H)``, cut when the model is loaded."""
    count = -(-terms // TILE)
    turned = graph.op("Transpose", table, perm=[1, 0])
    if count == 1:
        return [turned]
    sizes = graph.ints(*[TILE] * (count - 1), terms - TILE * (count - 1))
    return graph.ops("Split", count, turned, sizes, axis=1)


def _max_over_tokens(graph: Graph, logits: str) -> str:
    """``(1, T, V)`` to ``(1, V)``: of ReduceMax's kernels the one for a middle axis of float32 is the fastest."""
    return graph.op("ReduceMax", logits, graph.ints(1), keepdims=0)


def _sum_over_tokens(graph: Graph, logits: str, activation: str) -> str:
    values = graph.op("Relu", logits)
    for _ in range(2 if activation == "log1p_log1p" else 1):
        values = graph.op("Log", graph.op("Add", values, graph.floats(1.0)))
    return graph.op("ReduceSum", values, graph.ints(1), keepdims=0)


def _join(graph: Graph, parts: list[str]) -> str:
    whole = graph.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    return graph.op("Reshape", whole, graph.ints(-1))
