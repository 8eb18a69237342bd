"""From what a user names to an encoder."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from spladelite.encoders.base import Encoder
from spladelite.encoders.onnx import load_onnx_folder
from spladelite.encoders.routed import RoutedEncoder
from spladelite.encoders.rows import Limits
from spladelite.errors import ModelError, WrongType

if TYPE_CHECKING:
    from spladelite.encoders.checkpoint import Checkpoint

Name = str | os.PathLike[str]
ModelName = Name | tuple[Name, Name]

BUNDLED = Path(__file__).parent.parent / "models" / "splade-tiny"
PACKAGED = ("splade-small",)  # models of ours in packages of their own
INSTALLED = "spladelite.models"  # entry points of this group are packages with a model's folder inside


@cache
def bundled_encoder() -> RoutedEncoder:
    """The bundled model, one instance a process.

    Making it reads two JSON files: its ``name``, ``fingerprint``, ``vocabulary`` and ``window`` are there without
    ONNX Runtime, which is loaded with the first text.
    """
    return load_onnx_folder(BUNDLED, Limits())


def load_encoder(
    model: object = None,
    *,
    device: str | None = None,
    dtype: str = "float32",
    pooling: str | None = None,
    max_active_terms: int | None = None,
    min_weight: float = 0.0,
) -> Encoder:
    """The encoder for ``SpladeLite(model=...)``.

    Args:
        model: None or the bundled model's name; the path of a model folder; the name of a model that a package brings,
            such as "splade-small"; a model's name on the hub ("owner/name"); two folders or names, ``(for documents,
            for queries)``; a sentence-transformers ``SparseEncoder``; two functions ``(encode_documents,
            encode_queries)`` over the bundled model's vocabulary
            (:func:`~spladelite.encoders.objects.from_functions` takes another); or an encoder, returned as it is.
        device: for torch checkpoints: "cpu", "cuda", "mps", ...; by default CUDA if there is one, else the processor.
        dtype: for torch checkpoints: "float32" or "bfloat16".
        pooling: for transformers checkpoints, which do not say it: "max" (by default) or "sum" (SPLADE v1).
        max_active_terms: keep at most so many terms of a document or query, the strongest.
        min_weight: drop weaker terms.

    Raises:
        ModelError: the model cannot be found or used; names the file.
        InvalidInput: an option that does not exist or does not apply to this kind of model.
        WrongType: ``model`` is none of these.
    """
    limits = Limits(max_active_terms, min_weight)
    if model is None or model == bundled_encoder().name:
        return bundled_encoder() if limits == Limits() else load_onnx_folder(BUNDLED, limits)
    if isinstance(model, str | os.PathLike):
        path = find_folder(model)
        if (path / "spladelite.json").exists():
            return load_onnx_folder(path, limits)
    if is_model_name(model):
        from spladelite.encoders.torch import load_checkpoint

        return load_checkpoint(find_checkpoint(model, pooling), limits, device, dtype)
    from spladelite.encoders.objects import from_functions, from_sparse_encoder, is_sparse_encoder

    if is_sparse_encoder(model):
        return from_sparse_encoder(model, limits)
    if isinstance(model, Encoder):
        return model
    if isinstance(model, tuple) and len(model) == 2 and all(callable(part) for part in model):
        documents, queries = model
        name = f"{_qualified(documents)} / {_qualified(queries)}"
        return from_functions(documents, queries, tokenizer=bundled_encoder().tokenizer, name=name, limits=limits)
    raise WrongType(
        "model must be None, a folder, a hub name, a SparseEncoder, a pair of functions or an encoder, "
        f"got {type(model).__name__}"
    )


def installed_models() -> dict[str, Path]:
    """Folders by name of the models that installed packages bring; none of their code runs.

    Raises:
        ModelError: a package is registered and its files are gone.
    """
    found = {}
    for entry in entry_points(group=INSTALLED):
        package = find_spec(entry.value)
        if package is None or not package.submodule_search_locations:
            raise ModelError(f"the package {entry.value} with the model {entry.name} is gone; install it again")
        found[entry.name] = Path(package.submodule_search_locations[0])
    return found


def find_folder(model: str | os.PathLike[str]) -> Path:
    """The folder of a path, of an installed model's name or of a hub name.

    Raises:
        ModelError: none of these.
    """
    path = Path(model)
    if path.exists():
        return path
    if isinstance(model, str) and model == path.name:
        installed = installed_models()
        if model in installed:
            return installed[model]
        hint = f"; pip install spladelite-{model} brings it" if model in PACKAGED else ""
        known = ", ".join([BUNDLED.name, *installed])
        raise ModelError(
            f"{model}: no such folder, no installed model (there is {known}), no hub name (owner/name){hint}"
        )
    from spladelite.encoders.hub import fetch, looks_like_name

    if isinstance(model, str) and looks_like_name(model):
        return fetch(model)
    raise ModelError(f"{path}: no such folder, and not the name of a hub model (owner/name)")


def is_model_name(model: object) -> TypeGuard[ModelName]:
    """Whether it is a path or hub name, or a pair of them."""
    parts = model if isinstance(model, tuple) and len(model) == 2 else (model,)
    return all(isinstance(part, str | os.PathLike) for part in parts)


def find_checkpoint(model: ModelName, pooling: str | None = None) -> Checkpoint:
    """The checkpoint of a path or hub name, or of one for documents and one for queries.

    Raises:
        ModelError: it is not there or not a checkpoint.
        InvalidInput: unknown ``pooling``, or the folder says its pooling itself.
    """
    from spladelite.encoders.checkpoint import read_checkpoint

    if isinstance(model, tuple):
        return read_checkpoint(find_folder(model[0]), find_folder(model[1]), pooling)
    return read_checkpoint(find_folder(model), pooling=pooling)


def _qualified(function: object) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"
