"""A masked language model's parts to a whole ONNX graph, in float32 or int8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.export.bodies import Parts
from spladelite.encoders.export.graph import Graph
from spladelite.encoders.export.heads import (
    Calibration,
    Pooling,
    QuantizedHead,
    Stored,
    float_head,
    int8_head,
    tied_embedding,
)

_SEQUENCES = 1000
_SEQUENCE_TOKENS = 30


def float_model(parts: Parts, pooling: Pooling) -> bytes:
    """The model in float32."""
    graph = Graph()
    table = graph.floats(parts.table)
    decoder = table if parts.decoder is parts.table else graph.floats(parts.decoder)
    hidden = parts.body(graph, graph.op("Gather", table, "ids"))
    normed = graph.norm(hidden, parts.gain, parts.shift, parts.epsilon)
    return graph.model(float_head(graph, normed, decoder, parts.bias, pooling), [len(parts.table)])


def int8_model(parts: Parts, pooling: Pooling, calibration: Calibration) -> bytes:
    """The model with an int8 output layer, shared with the embeddings if they are tied; the rest stored as float16."""
    graph = Graph(half=True)
    head = QuantizedHead.of(parts.decoder, parts.bias, calibration)
    stored = Stored.of(graph, head)
    if parts.decoder is parts.table:
        embedded = tied_embedding(graph, head, stored, parts.table)
    else:
        embedded = graph.op("Gather", graph.matrix(parts.table), "ids")
    hidden = parts.body(graph, embedded)
    scaled = graph.norm(hidden, parts.gain / head.step, parts.shift / head.step + head.offset, parts.epsilon)
    return graph.model(int8_head(graph, scaled, head, stored, pooling), [len(parts.table)])


def calibrate(parts: Parts, ids: list[NDArray[np.int64]]) -> Calibration:
    """Run the float32 body over token sequences and look at the output layer's input."""
    import onnxruntime

    graph = Graph()
    hidden = parts.body(graph, graph.op("Gather", graph.floats(parts.table), "ids"))
    normed = graph.norm(hidden, parts.gain, parts.shift, parts.epsilon)
    model = graph.model(normed, ["tokens", len(parts.gain)])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Calibration.of(np.concatenate([session.run(None, {"ids": sequence})[0] for sequence in ids]))


def calibration_ids(
    terms: int, excluded: NDArray[np.int32], before: list[int], after: list[int]
) -> list[NDArray[np.int64]]:
    """Token sequences that need no text: terms in a fixed random order, each at most once, framed."""
    known = np.setdiff1d(np.arange(terms), excluded)
    shuffled = np.random.default_rng(0).permutation(known)[: _SEQUENCES * _SEQUENCE_TOKENS]
    sequences = np.array_split(shuffled, max(1, len(shuffled) // _SEQUENCE_TOKENS))
    return [np.concatenate([before, part, after]).astype(np.int64) for part in sequences]
