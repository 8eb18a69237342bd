"""The ONNX graph of a ``BertForMaskedLM`` checkpoint, from its own weights (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spladelite.encoders.graph import Graph, Weights
from spladelite.encoders.heads import Calibration, QuantizedHead, Stored, float_head, int8_head, tied_embedding


def bert_hidden(graph: Graph, weights: Weights, config: Mapping[str, Any], embedded: str) -> str:
    """From token embeddings ``(T, H)`` to the decoder's input before its LayerNorm, ``(T, H)``."""
    hidden, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    scale = (hidden // heads) ** -0.5
    embeddings = "bert.embeddings."
    places = (
        weights[embeddings + "position_embeddings.weight"] + weights[embeddings + "token_type_embeddings.weight"][0]
    )
    zero = graph.ints(0)
    place = graph.op("Slice", graph.matrix(places), zero, graph.op("Shape", "ids"), zero)
    x = _norm(graph, weights, embeddings + "LayerNorm", graph.op("Add", embedded, place), epsilon)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"bert.encoder.layer.{layer}."
        parts = [prefix + f"attention.self.{part}." for part in ("query", "key", "value")]
        factor = [scale, 1.0, 1.0]
        projected = graph.linear(
            x,
            np.concatenate([weights[part + "weight"] * f for part, f in zip(parts, factor, strict=True)]),
            np.concatenate([weights[part + "bias"] * f for part, f in zip(parts, factor, strict=True)]),
        )
        mixed = _linear(graph, weights, prefix + "attention.output.dense", attention(graph, projected, hidden, heads))
        x = _norm(graph, weights, prefix + "attention.output.LayerNorm", graph.op("Add", mixed, x), epsilon)
        wide = graph.op("Gelu", _linear(graph, weights, prefix + "intermediate.dense", x))
        narrow = _linear(graph, weights, prefix + "output.dense", wide)
        x = _norm(graph, weights, prefix + "output.LayerNorm", graph.op("Add", narrow, x), epsilon)
    return graph.op("Gelu", _linear(graph, weights, "cls.predictions.transform.dense", x))


def attention(graph: Graph, projected: str, hidden: int, heads: int) -> str:
    """Scaled dot-product attention of one text; ``projected`` is query, key and value side by side, ``(T, 3H)``."""
    stacked = graph.op("Reshape", projected, graph.ints(0, 3, heads, hidden // heads))  # (T, 3, heads, H / heads)
    parts = graph.ops("Split", 3, stacked, axis=1, num_outputs=3)
    query, key, value = (
        graph.op("Transpose", graph.op("Squeeze", part, graph.ints(1)), perm=perm)
        for part, perm in zip(parts, ([1, 0, 2], [1, 2, 0], [1, 0, 2]), strict=True)
    )
    mixed = graph.op("MatMul", graph.op("Softmax", graph.op("MatMul", query, key), axis=-1), value)
    return graph.op("Reshape", graph.op("Transpose", mixed, perm=[1, 0, 2]), graph.ints(0, hidden))


def bert_model(weights: Weights, config: Mapping[str, Any], calibration: Calibration | None) -> bytes:
    """The whole model: int8 output layer and embeddings with a ``calibration``, else float32."""
    table, bias = weights["bert.embeddings.word_embeddings.weight"], weights["cls.predictions.bias"]
    gain, shift = (weights[f"cls.predictions.transform.LayerNorm.{part}"] for part in ("weight", "bias"))
    epsilon = config["layer_norm_eps"]
    graph = Graph(half=calibration is not None)
    if calibration is None:
        hidden = bert_hidden(graph, weights, config, graph.op("Gather", graph.floats(table), "ids"))
        normed = graph.norm(hidden, gain, shift, epsilon)
        pooled = float_head(graph, normed, table, bias)
    else:
        head = QuantizedHead.of(table, bias, calibration)
        stored = Stored.of(graph, head)
        hidden = bert_hidden(graph, weights, config, tied_embedding(graph, head, stored, table))
        pooled = int8_head(graph, hidden, head, stored, gain, shift, epsilon)
    return graph.model(pooled, [len(table)])


def bert_head_input(weights: Weights, config: Mapping[str, Any]) -> bytes:
    """The float32 model up to the decoder's input ``(T, H)``: what a calibration is taken of."""
    graph = Graph()
    embedded = graph.op("Gather", graph.floats(weights["bert.embeddings.word_embeddings.weight"]), "ids")
    hidden = bert_hidden(graph, weights, config, embedded)
    normed = _norm(graph, weights, "cls.predictions.transform.LayerNorm", hidden, config["layer_norm_eps"])
    return graph.model(normed, ["tokens", config["hidden_size"]])


def _linear(graph: Graph, weights: Weights, name: str, x: str) -> str:
    return graph.linear(x, weights[name + ".weight"], weights[name + ".bias"])


def _norm(graph: Graph, weights: Weights, name: str, x: str, epsilon: float) -> str:
    return graph.norm(x, weights[name + ".weight"], weights[name + ".bias"], epsilon)
