"""An int8 ONNX folder of a BERT model back to a checkpoint that torch can train: the reverse of ``export``.

The bundled model ships once, as int8 ONNX; its weights can be read back, since the embeddings keep 15 bits and the
body 16. The output layer is written for inputs that are centred: with ``y = LayerNorm(h) - mean``, ``W y + b`` is the
same function for the right ``b``, and centred inputs train better than inputs far from zero.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.export.bodies import take_apart
from spladelite.encoders.export.convert import calibrate, calibration_ids
from spladelite.encoders.folder import ModelFolder
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import ModelError

Array = NDArray[Any]

_SPECIAL = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "mask", "pad", "sep", "unk")}


def unpack(folder: Path, target: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of an int8 BERT folder to ``target``.

    Raises:
        ModelError: the folder holds something else; only int8 exports of BERT with tied embeddings can be read back.
    """
    from safetensors.numpy import save_file

    contents = ModelFolder.read(folder)
    tokenizer = TextTokenizer(folder / "tokenizer.json", contents.terms)
    if contents.precision != "int8" or contents.document != contents.query:
        raise ModelError(f"{folder}: not an int8 model with one side; give the checkpoint that it was exported from")
    weights, config = _read_back(folder / contents.document.file, tokenizer)
    target.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, target / "model.safetensors")
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    limit = contents.window + len(tokenizer.frame.before) + len(tokenizer.frame.after)
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": limit, **_SPECIAL}
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(folder / "tokenizer.json", target / "tokenizer.json")


def _read_back(path: Path, tokenizer: TextTokenizer) -> tuple[dict[str, Array], dict[str, Any]]:
    """Weights by transformers' names, and the config. The order is that in which ``bodies`` and ``convert`` write."""
    import onnx
    from onnx import numpy_helper

    arrays = [numpy_helper.to_array(entry) for entry in onnx.load(str(path)).graph.initializer]
    tables = iter([a for a in arrays if a.dtype == np.int8])
    matrices = iter([a.astype(np.float32) for a in arrays if a.dtype == np.float16])
    vectors = iter([a for a in arrays if a.dtype == np.float32 and a.size > 1])
    shapes = [a for a in arrays if a.dtype == np.int64 and a.shape == (4,)]
    try:
        coarse, fine = next(tables), next(tables)
        row_scale, inverse_step, fine_scale = (next(vectors) for _ in range(3))
        step = 1 / inverse_step
        table = (coarse * row_scale[:, None] * inverse_step + fine * fine_scale).astype(np.float32)
        weights = dict(_body(matrices, vectors, len(shapes), len(step)))
        weights["bert.embeddings.word_embeddings.weight"] = table
        gain, shift, bias = (next(vectors) for _ in range(3))
        config = _config(weights, shapes)
    except (StopIteration, ValueError, IndexError, KeyError) as error:
        raise ModelError(
            f"{path}: not an int8 BERT graph of ours; give the checkpoint that it was exported from"
        ) from error
    norm = "cls.predictions.transform.LayerNorm."
    weights |= {norm + "weight": gain * step, norm + "bias": shift * step, "cls.predictions.bias": bias}
    frame = tokenizer.frame
    sequences = calibration_ids(len(table), tokenizer.excluded, frame.before, frame.after)
    longest = config["max_position_embeddings"]
    mean = calibrate(take_apart(weights, config, longest), sequences).mean.astype(np.float32)
    weights[norm + "bias"] = shift * step - mean
    weights["cls.predictions.bias"] = bias + row_scale * (coarse @ (mean / step))
    return weights, config


def _body(matrices: Iterator[Array], vectors: Iterator[Array], layers: int, hidden: int) -> Iterator[tuple[str, Array]]:
    places = next(matrices)
    yield "bert.embeddings.position_embeddings.weight", places
    yield "bert.embeddings.token_type_embeddings.weight", np.zeros((2, hidden), np.float32)  # added to the places
    yield from _pair("bert.embeddings.LayerNorm", next(vectors), next(vectors))
    for layer in range(layers):
        prefix = f"bert.encoder.layer.{layer}."
        fused, biases = np.split(next(matrices).T, 3), np.split(next(vectors), 3)
        for name, weight, bias in zip(("query", "key", "value"), fused, biases, strict=True):
            yield from _pair(f"{prefix}attention.self.{name}", weight, bias)
        yield from _pair(prefix + "attention.output.dense", next(matrices).T, next(vectors))
        yield from _pair(prefix + "attention.output.LayerNorm", next(vectors), next(vectors))
        yield from _pair(prefix + "intermediate.dense", next(matrices).T, next(vectors))
        yield from _pair(prefix + "output.dense", next(matrices).T, next(vectors))
        yield from _pair(prefix + "output.LayerNorm", next(vectors), next(vectors))
    yield from _pair("cls.predictions.transform.dense", next(matrices).T, next(vectors))


def _pair(name: str, weight: Array, bias: Array) -> Iterator[tuple[str, Array]]:
    yield name + ".weight", weight
    yield name + ".bias", bias


def _config(weights: dict[str, Array], shapes: list[Array]) -> dict[str, Any]:
    terms, hidden = weights["bert.embeddings.word_embeddings.weight"].shape
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": terms,
        "hidden_size": hidden,
        "num_hidden_layers": len(shapes),
        "num_attention_heads": int(shapes[0][2]),
        "intermediate_size": len(weights["bert.encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(weights["bert.embeddings.position_embeddings.weight"]),
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
