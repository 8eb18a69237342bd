"""A widened model (``default_widen.py``) as one int8 ONNX folder that the package loads like any other.

splade-tiny's part is written as its own export writes it; the layers of all-MiniLM-L6-v2 below the highest one that is
read come before it. Their matrices are stored as int8, one scale a row, and compute in float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from default_states import Reader
from default_widen import Widened
from numpy.typing import NDArray

from spladelite.encoders.checkpoint import Checkpoint
from spladelite.encoders.export.bodies import Parts, attention, split_heads, take_apart
from spladelite.encoders.export.convert import calibrate, float_model, int8_model
from spladelite.encoders.export.graph import Graph
from spladelite.encoders.export.heads import Pooling
from spladelite.encoders.folder import FileEntry, ModelFolder, Route

CALIBRATING = 400  # texts that tell the ranges of the decoder's input

Array = NDArray[Any]


def export_widened(
    trainee: Widened, checkpoint: Checkpoint, folder: Path, texts: Sequence[str], precision: str = "int8"
) -> None:
    """Write the folder.

    Args:
        trainee: the model.   checkpoint: what it was loaded from.
        folder: where to write.
        texts: some of those that were trained on, to calibrate by.
        precision: "int8" or "float32".
    """
    weights = {name: tensor.detach().numpy() for name, tensor in trainee.mlm.state_dict().items()}
    config = trainee.mlm.config.to_dict()
    frame = checkpoint.tokenizer.frame
    plain = take_apart(
        weights | {"cls.predictions.bias": trainee.output.bias.detach().numpy()}, config,
        checkpoint.window + len(frame.before) + len(frame.after),
    )  # fmt: skip
    parts = replace(plain, decoder=plain.table, body=widened_body(plain, trainee))
    pooling = Pooling(trainee.route.pooling, trainee.route.activation)
    if precision == "int8":
        tokens = [trainee.tokens(text) for text in texts[:CALIBRATING]]
        content = int8_model(parts, pooling, calibrate(parts, tokens))
    else:
        content = float_model(parts, pooling)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    shutil.copyfile(checkpoint.tokenizer.path, folder / "tokenizer.json")
    route = Route("model.onnx", trainee.route.pooling, trainee.route.activation, "")
    files = {name: FileEntry.of(folder / name) for name in ("model.onnx", "tokenizer.json")}
    terms = len(checkpoint.tokenizer.vocabulary)
    ModelFolder(folder, folder.name, precision, terms, checkpoint.window, route, route, files, None).write()


def widened_body(plain: Parts, trainee: Widened) -> Any:
    """splade-tiny's body with what is added in front of its first and its last LayerNorm."""
    early, late = (tuple(part.detach().numpy() for part in added.folded()) for added in (trainee.early, trainee.late))

    def body(graph: Graph, embedded: str) -> str:
        states = reader_states(graph, trainee.states.reader)
        first = graph.op("Add", embedded, graph.linear(states, *early))
        return graph.op("Add", plain.body(graph, first), graph.linear(states, *late))

    return body


def reader_states(graph: Graph, reader: Reader) -> str:
    """The states ``(T, width)`` of ``ids``."""
    model = reader.body
    weights: dict[str, Array] = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    config = model.config
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads

    def norm(name: str, x: str) -> str:
        return graph.norm(x, weights[name + ".weight"], weights[name + ".bias"], config.layer_norm_eps)

    def linear(x: str, *names: str) -> str:
        weight = np.concatenate([weights[name + ".weight"] for name in names])
        bias = np.concatenate([weights[name + ".bias"] for name in names])
        return graph.op("Gemm", x, _rows(graph, weight), graph.floats(bias), transB=1)

    zero = graph.ints(0)
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    place = graph.op("Slice", graph.matrix(places), zero, graph.op("Shape", "ids"), zero)
    x = norm("embeddings.LayerNorm", graph.op("Add", _words(graph, weights), place))
    found = []
    for layer in range(max(reader.layers)):
        prefix = f"encoder.layer.{layer}."
        inputs = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
        query, key, value = split_heads(graph, linear(x, *inputs), heads, size)
        mixed = attention(graph, query, key, value, heads, size)
        mixed = linear(mixed, prefix + "attention.output.dense")
        x = norm(prefix + "attention.output.LayerNorm", graph.op("Add", mixed, x))
        wide = graph.op("Gelu", linear(x, prefix + "intermediate.dense"))
        x = norm(prefix + "output.LayerNorm", graph.op("Add", linear(wide, prefix + "output.dense"), x))
        if layer + 1 in reader.layers:
            found.append(x)
    return found[0] if len(found) == 1 else graph.op("Concat", *found, axis=1)


def _words(graph: Graph, weights: dict[str, Array]) -> str:
    table = weights["embeddings.word_embeddings.weight"]
    if not graph.half:
        return graph.op("Gather", graph.floats(table), "ids")
    rows, scale = _int8(table)
    picked = graph.op("Cast", graph.op("Gather", graph.const(rows), "ids"), to=1)
    return graph.op("Mul", picked, graph.op("Gather", graph.floats(scale), "ids"))


def _rows(graph: Graph, weight: Array) -> str:
    """A matrix ``(out, in)``, stored as int8 where others are stored as float16; widened when the model is loaded."""
    if not graph.half:
        return graph.floats(weight)
    rows, scale = _int8(weight)
    return graph.op("Mul", graph.op("Cast", graph.const(rows), to=1), graph.floats(scale))


def _int8(weight: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows of int8 and their scales ``(N, 1)``."""
    scale = np.maximum(np.abs(weight).max(1, keepdims=True), 1e-12) / 127
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
