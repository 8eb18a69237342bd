"""From what a user names to an encoder."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from spladelite.encoders.base import Encoder
from spladelite.encoders.onnx import load_onnx_folder
from spladelite.encoders.routed import RoutedEncoder
from spladelite.encoders.rows import Limits

BUNDLED = Path(__file__).parent.parent / "models" / "splade-tiny"


@cache
def bundled_encoder() -> RoutedEncoder:
    """The bundled model, one instance a process.

    Making it reads two JSON files: its ``name``, ``fingerprint``, ``vocabulary`` and ``window`` are there without
    ONNX Runtime, which is loaded with the first text.
    """
    return load_onnx_folder(BUNDLED, Limits())


def load_encoder(model: object = None) -> Encoder:
    """The encoder for ``SpladeLite(model=...)``.

    Args:
        model: None for the bundled model, the path of a model folder, or an encoder.

    Raises:
        ModelError: the folder cannot be used as a model.
        TypeError: ``model`` is none of these.
    """
    if model is None:
        return bundled_encoder()
    if isinstance(model, str | os.PathLike):
        return load_onnx_folder(Path(model), Limits())
    if isinstance(model, Encoder):
        return model
    raise TypeError(f"model must be None, a folder or an encoder, got {type(model).__name__}")
