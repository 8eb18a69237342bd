"""The transformer bodies that can be written as ONNX from their weights: BERT, DistilBERT, RoBERTa, XLM-R, ModernBERT.

Each takes the token embeddings ``(T, H)`` of one text and gives the input of the last LayerNorm before the output
layer, ``(T, H)``. Weights go by the names that transformers gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.export.graph import Graph, Weights
from spladelite.errors import ModelError

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """Where the parts of a post-LayerNorm transformer are among the weights; config keys last."""

    embeddings: str
    layer: str
    attention: tuple[str, str, str, str]  # query, key, value, output
    attention_norm: str
    feed_forward: tuple[str, str]
    output_norm: str
    head: tuple[str, str]  # dense, LayerNorm
    decoder: str
    decoder_bias: str
    config: tuple[str, str, str, str] = (
        "hidden_size", "num_attention_heads", "num_hidden_layers", "hidden_act",
    )  # fmt: skip


_ATTENTION = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
_BERT = Names(
    "bert.embeddings.", "bert.encoder.layer.{}.", _ATTENTION, "attention.output.LayerNorm",
    ("intermediate.dense", "output.dense"), "output.LayerNorm",
    ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
    "cls.predictions.decoder.weight", "cls.predictions.bias",
)  # fmt: skip
_ROBERTA = Names(
    "roberta.embeddings.", "roberta.encoder.layer.{}.", _ATTENTION, "attention.output.LayerNorm",
    ("intermediate.dense", "output.dense"), "output.LayerNorm",
    ("lm_head.dense", "lm_head.layer_norm"), "lm_head.decoder.weight", "lm_head.bias",
)  # fmt: skip
_DISTILBERT = Names(
    "distilbert.embeddings.", "distilbert.transformer.layer.{}.",
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"), "sa_layer_norm",
    ("ffn.lin1", "ffn.lin2"), "output_layer_norm",
    ("vocab_transform", "vocab_layer_norm"), "vocab_projector.weight", "vocab_projector.bias",
    ("dim", "n_heads", "n_layers", "activation"),
)  # fmt: skip
_POST_NORM = {
    "bert": _BERT, "roberta": _ROBERTA, "xlm-roberta": _ROBERTA, "camembert": _ROBERTA, "distilbert": _DISTILBERT,
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A model taken apart at its output layer.

    Attributes:
        table: word embeddings ``(V, H)``.   decoder: ``(V, H)``, often the same array.   bias: ``(V,)``.
        gain, shift, epsilon: the LayerNorm before the decoder.
        body: adds the body to a graph, embeddings in, the LayerNorm's input out.
    """

    table: NDArray[np.float32]
    decoder: NDArray[np.float32]
    bias: NDArray[np.float32]
    gain: NDArray[np.float32]
    shift: NDArray[np.float32]
    epsilon: float
    body: Callable[[Graph, str], str]


def take_apart(weights: Weights, config: Config, longest: int) -> Parts:
    """The parts of a masked language model.

    Args:
        weights: by name.
        config: transformers' ``config.json``.
        longest: tokens of the longest text, special tokens included.

    Raises:
        ModelError: an architecture or activation that cannot be exported, or a weight that is missing.
    """
    kind = config.get("model_type")
    try:
        if kind == "modernbert":
            return _modernbert(weights, config, longest)
        if kind in _POST_NORM:
            return _post_norm(weights, config, _POST_NORM[kind])
    except KeyError as error:
        raise ModelError(f"the {kind} checkpoint lacks {error}") from error
    raise ModelError(f"models of type {kind!r} cannot be exported; these can: {', '.join((*_POST_NORM, 'modernbert'))}")


def _post_norm(weights: Weights, config: Config, names: Names) -> Parts:
    hidden, heads, layers, activation = (config[key] for key in names.config)
    if activation != "gelu":
        raise ModelError(f"activation {activation!r} cannot be exported; 'gelu' can")
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    head_dense, head_norm = names.head
    table = weights[names.embeddings + "word_embeddings.weight"]
    places = weights[names.embeddings + "position_embeddings.weight"]
    if config["model_type"] in ("roberta", "xlm-roberta", "camembert"):
        places = places[config["pad_token_id"] + 1 :]
    if names.embeddings + "token_type_embeddings.weight" in weights:
        places = places + weights[names.embeddings + "token_type_embeddings.weight"][0]

    def body(graph: Graph, embedded: str) -> str:
        zero = graph.ints(0)
        place = graph.op("Slice", graph.matrix(places), zero, graph.op("Shape", "ids"), zero)
        x = _norm(graph, weights, names.embeddings + "LayerNorm", graph.op("Add", embedded, place), epsilon)
        for layer in range(layers):
            prefix = names.layer.format(layer)
            inputs = [prefix + name for name in names.attention[:3]]
            projected = graph.linear(
                x,
                np.concatenate([weights[name + ".weight"] for name in inputs]),
                np.concatenate([weights[name + ".bias"] for name in inputs]),
            )
            query, key, value = split_heads(graph, projected, heads, hidden // heads)
            mixed = attention(graph, query, key, value, heads, hidden // heads)
            mixed = _linear(graph, weights, prefix + names.attention[3], mixed)
            x = _norm(graph, weights, prefix + names.attention_norm, graph.op("Add", mixed, x), epsilon)
            wide = graph.op("Gelu", _linear(graph, weights, prefix + names.feed_forward[0], x))
            narrow = _linear(graph, weights, prefix + names.feed_forward[1], wide)
            x = _norm(graph, weights, prefix + names.output_norm, graph.op("Add", narrow, x), epsilon)
        return graph.op("Gelu", _linear(graph, weights, head_dense, x))

    return Parts(
        table,
        weights.get(names.decoder, table),
        weights[names.decoder_bias],
        weights[head_norm + ".weight"],
        weights[head_norm + ".bias"],
        epsilon,
        body,
    )


def _modernbert(weights: Weights, config: Config, longest: int) -> Parts:
    hidden, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["norm_eps"]
    if config["hidden_activation"] != "gelu" or config.get("classifier_activation", "gelu") != "gelu":
        raise ModelError(f"activation {config['hidden_activation']!r} cannot be exported; 'gelu' can")
    size = hidden // heads
    table = weights["model.embeddings.tok_embeddings.weight"]

    def body(graph: Graph, embedded: str) -> str:
        x = _norm(graph, weights, "model.embeddings.norm", embedded, epsilon)
        turns = {kind: _turns(graph, config, kind, size, longest) for kind in set(config["layer_types"])}
        near = _near(graph, config["local_attention"] // 2)
        for layer, kind in enumerate(config["layer_types"]):
            prefix = f"model.layers.{layer}."
            inner = x if layer == 0 else _norm(graph, weights, prefix + "attn_norm", x, epsilon)
            query, key, value = split_heads(graph, _linear(graph, weights, prefix + "attn.Wqkv", inner), heads, size)
            query, key = (_turn(graph, part, *turns[kind]) for part in (query, key))
            mixed = attention(graph, query, key, value, heads, size, near if kind == "sliding_attention" else None)
            x = graph.op("Add", x, _linear(graph, weights, prefix + "attn.Wo", mixed))
            inner = _norm(graph, weights, prefix + "mlp_norm", x, epsilon)
            halves = graph.ops("Split", 2, _linear(graph, weights, prefix + "mlp.Wi", inner), axis=1, num_outputs=2)
            gated = graph.op("Mul", graph.op("Gelu", halves[0]), halves[1])
            x = graph.op("Add", x, _linear(graph, weights, prefix + "mlp.Wo", gated))
        x = _norm(graph, weights, "model.final_norm", x, epsilon)
        return graph.op("Gelu", _linear(graph, weights, "head.dense", x))

    gain = weights["head.norm.weight"]
    return Parts(
        table,
        weights.get("decoder.weight", table),
        weights.get("decoder.bias", np.zeros(len(table), np.float32)),
        gain,
        weights.get("head.norm.bias", np.zeros_like(gain)),
        epsilon,
        body,
    )


def split_heads(graph: Graph, projected: str, heads: int, size: int) -> list[str]:
    """Query, key and value ``(heads, T, size)`` from their projections side by side, ``(T, 3 heads size)``."""
    stacked = graph.op("Reshape", projected, graph.ints(0, 3, heads, size))
    parts = graph.ops("Split", 3, stacked, axis=1, num_outputs=3)
    return [graph.op("Transpose", graph.op("Squeeze", part, graph.ints(1)), perm=[1, 0, 2]) for part in parts]


def attention(graph: Graph, query: str, key: str, value: str, heads: int, size: int, mask: str | None = None) -> str:
    """Scaled dot-product attention, heads joined again: ``(T, H)``. ``mask`` ``(T, T)`` is added to the scores."""
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 2, 1]))
    scores = graph.op("Mul", scores, graph.floats(size**-0.5))
    if mask is not None:
        scores = graph.op("Add", scores, mask)
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    return graph.op("Reshape", graph.op("Transpose", mixed, perm=[1, 0, 2]), graph.ints(0, heads * size))


def _turns(graph: Graph, config: Config, kind: str, size: int, longest: int) -> tuple[str, str]:
    """Cosine and sine ``(T, size / 2)`` of the rotary embedding (Su et al. 2021)."""
    rope = config["rope_parameters"][kind]
    if rope["rope_type"] != "default":
        raise ModelError(f"rotary embedding {rope['rope_type']!r} cannot be exported; 'default' can")
    frequency = 1.0 / rope["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float32) / size)
    angle = np.outer(np.arange(longest, dtype=np.float32), frequency.astype(np.float32))
    zero = graph.ints(0)
    length = graph.op("Shape", "ids")
    return (
        graph.op("Slice", graph.floats(np.cos(angle)), zero, length, zero),
        graph.op("Slice", graph.floats(np.sin(angle)), zero, length, zero),
    )


def _turn(graph: Graph, x: str, cosine: str, sine: str) -> str:
    left, right = graph.ops("Split", 2, x, axis=2, num_outputs=2)
    first = graph.op("Sub", graph.op("Mul", left, cosine), graph.op("Mul", right, sine))
    second = graph.op("Add", graph.op("Mul", right, cosine), graph.op("Mul", left, sine))
    return graph.op("Concat", first, second, axis=2)


def _near(graph: Graph, reach: int) -> str:
    """0 where two places are at most ``reach`` apart, else a number that Softmax turns into 0: ``(T, T)``."""
    length = graph.op("Squeeze", graph.op("Shape", "ids"))
    place = graph.op("Range", graph.const(np.array(0, np.int64)), length, graph.const(np.array(1, np.int64)))
    apart = graph.op(
        "Abs", graph.op("Sub", graph.op("Unsqueeze", place, graph.ints(1)), graph.op("Unsqueeze", place, graph.ints(0)))
    )
    far = graph.op("Greater", apart, graph.const(np.array(reach, np.int64)))
    return graph.op("Where", far, graph.floats(-1e30), graph.floats(0.0))


def _linear(graph: Graph, weights: Weights, name: str, x: str) -> str:
    return graph.linear(x, weights[name + ".weight"], weights.get(name + ".bias"))


def _norm(graph: Graph, weights: Weights, name: str, x: str, epsilon: float) -> str:
    gain = weights[name + ".weight"]
    return graph.norm(x, gain, weights.get(name + ".bias", np.zeros_like(gain)), epsilon)
