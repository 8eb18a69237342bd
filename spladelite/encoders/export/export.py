"""A checkpoint to an ONNX folder that needs no torch: ``spladelite models export``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spladelite.encoders.checkpoint import Checkpoint, MlmRoute, Source, StaticRoute
from spladelite.encoders.export.bodies import Parts, take_apart
from spladelite.encoders.export.compare import Comparison, compare
from spladelite.encoders.export.convert import calibrate, calibration_ids, float_model, int8_model
from spladelite.encoders.export.heads import Pooling
from spladelite.encoders.folder import FileEntry, ModelFolder, Route
from spladelite.encoders.onnx import load_onnx_folder
from spladelite.encoders.rows import Limits
from spladelite.encoders.settings import read_json
from spladelite.errors import InvalidInput, ModelError
from spladelite.renaming import rename

if TYPE_CHECKING:
    from spladelite.encoders.registry import ModelName, Name

PRECISIONS = ("float32", "int8")
FLOAT32_TOLERANCE = 1e-4  # largest weight difference that a float32 export may have

SAMPLE = (
    "How do I shrink a file to save space?",
    "Learned sparse retrieval maps a text to weighted terms of a vocabulary, its own words and related ones.",
    "The committee met on 3 March 1987 in Geneva; nobody had read the report (again).",
    "automobile accident injury",
    "Water boils at a lower temperature in the mountains, because the air pressure is lower up there. Cooking takes "
    "longer, and bread dough rises faster than it does at the coast, so recipes are changed for high places.",
    "def read(path): return open(path, encoding='utf-8').read()",
    "Zürich, São Paulo, Kraków: café crème für zwei",
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made and how near it comes to the checkpoint.

    Attributes:
        folder: the new model folder.   bytes: its size.
        document, query: comparison of the checkpoint through torch with the new folder.
    """

    folder: Path
    bytes: int
    document: Comparison
    query: Comparison


def export_model(
    model: ModelName, folder: Name, precision: str = "float32",
    texts: Sequence[str] = SAMPLE,
    pooling: str | None = None,
) -> Exported:  # fmt: skip
    """Convert a checkpoint to an ONNX folder and compare the two.

    Needs torch, transformers and onnx. The folder appears complete or not at all.

    Args:
        model: a folder of a masked language model, or a hub name, or a pair of them for documents and queries.
        folder: where to write; must not exist, or be empty.
        precision: "float32", or "int8" for the output layer (see :mod:`spladelite.encoders.export.heads`).
        texts: what to compare on.
        pooling: see :func:`~spladelite.encoders.registry.load_encoder`.

    Raises:
        InvalidInput: unknown precision or pooling, or ``folder`` is in use.
        ModelError: the model cannot be loaded or exported, or the float32 result is not the checkpoint's.
    """
    from spladelite.encoders.registry import find_checkpoint
    from spladelite.encoders.torch import load_checkpoint

    if find_spec("onnx") is None:
        raise ModelError("exporting needs the package onnx: pip install 'spladelite[torch]'")

    target = Path(folder)
    if precision not in PRECISIONS:
        raise InvalidInput(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInput(f"{target} exists and is not an empty folder; name a new one")
    checkpoint = find_checkpoint(model, pooling)
    reference = load_checkpoint(checkpoint, Limits(), device="cpu")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(replace(checkpoint, window=reference.window), scratch, precision)
        encoder = load_onnx_folder(scratch, Limits())
        document = compare(reference, encoder, texts, "document")
        query = compare(reference, encoder, texts, "query")
        worst = max(document.largest_difference, query.largest_difference)
        if precision == "float32" and worst > FLOAT32_TOLERANCE:
            raise ModelError(
                f"{model}: the exported graph differs from the checkpoint by up to {worst:.2g}; this architecture "
                "computes something that the export does not know"
            )
        if target.exists():
            target.rmdir()
        scratch.chmod(0o755)
        rename(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    size = sum(file.stat().st_size for file in target.iterdir())
    return Exported(target, size, document, query)


def _write(checkpoint: Checkpoint, folder: Path, precision: str) -> None:
    shutil.copyfile(checkpoint.tokenizer.path, folder / "tokenizer.json")
    document = _write_route(checkpoint, checkpoint.document, folder, "model", precision)
    same = checkpoint.query == checkpoint.document
    query = document if same else _write_route(checkpoint, checkpoint.query, folder, "query", precision)
    names = sorted({"tokenizer.json", document.file, query.file})
    ModelFolder(
        folder,
        checkpoint.name,
        precision,
        len(checkpoint.tokenizer.vocabulary),
        checkpoint.window,
        document,
        query,
        {name: FileEntry.of(folder / name) for name in names},
        checkpoint.fingerprint if precision == "float32" else None,
        checkpoint.max_active_terms,
    ).write()


def _write_route(checkpoint: Checkpoint, source: Source, folder: Path, stem: str, precision: str) -> Route:
    if isinstance(source, StaticRoute):
        _write_static(source, folder / f"{stem}.safetensors")
        return Route(f"{stem}.safetensors", "max", "none", source.prompt)
    frame = checkpoint.tokenizer.frame
    longest = checkpoint.window + len(frame.before) + len(frame.after)
    parts = _parts(source, longest)
    pooling = Pooling(source.pooling, source.activation)
    if precision == "int8":
        terms = len(checkpoint.tokenizer.vocabulary)
        ids = calibration_ids(terms, checkpoint.tokenizer.excluded, frame.before, frame.after)
        content = int8_model(parts, pooling, calibrate(parts, ids))
    else:
        content = float_model(parts, pooling)
    (folder / f"{stem}.onnx").write_bytes(content)
    left = "none" if source.pooling == "sum" else source.activation  # the sum is of activated values already
    return Route(f"{stem}.onnx", source.pooling, left, source.prompt)


def _parts(route: MlmRoute, longest: int) -> Parts:
    from spladelite.encoders.torch import load_model

    model = load_model(route, "cpu", "float32")
    weights: dict[str, Any] = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    parts = take_apart(weights, {**read_json(route.path / "config.json"), **model.config.to_dict()}, longest)
    tied = np.shares_memory(parts.decoder, parts.table)
    return Parts(
        parts.table,
        parts.table if tied else parts.decoder,
        parts.bias,
        parts.gain,
        parts.shift,
        parts.epsilon,
        parts.body,
    )


def _write_static(route: StaticRoute, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"weight": route.weights}, path)
