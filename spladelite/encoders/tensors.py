"""safetensors files: the header checked before anything is read or allocated, and single tensors without torch.

The format: eight bytes little-endian header length, a JSON object ``{name: {dtype, shape, data_offsets}}``, the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import ModelError

_MAX_HEADER = 100 << 20  # the safetensors library's own limit
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: where it lies. ``start`` and ``end`` are byte positions in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, Tensor]:
    """Names, types, shapes and places of a safetensors file, all checked against the file's size.

    Raises:
        ModelError: the file is missing or its header contradicts itself or the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise ModelError(f"{path}: its header claims {length} bytes, the file has {size}; it is damaged")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise ModelError(f"{path}: missing; the model's weights were expected there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its header cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise ModelError(f"{path}: its header must be a JSON object")
    header.pop("__metadata__", None)
    return {name: _checked(path, name, entry, 8 + length, size) for name, entry in header.items()}


def _checked(path: Path, name: str, entry: Any, base: int, size: int) -> Tensor:
    try:
        dtype, shape = str(entry["dtype"]), tuple(entry["shape"])
        start, end = entry["data_offsets"]
        counts = all(isinstance(n, int) and n >= 0 for n in (*shape, start, end))
        if not counts or end - start != math.prod(shape) * _ITEM_BYTES[dtype] or base + end > size:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            f"{path}: tensor {name!r:.80} has an unknown type or lies outside the file: {entry!r:.200}"
        ) from None
    return Tensor(dtype, shape, base + start, base + end)


def read_static(path: Path, terms: int) -> NDArray[np.float32]:
    """The static ``weight`` of each term, float32 ``(terms,)``.

    Raises:
        ModelError: no such tensor, another type or length, or a weight that is not finite.
    """
    header = read_header(path)
    tensor = header.get("weight")
    if tensor is None or tensor.dtype != "F32" or tensor.shape != (terms,):
        found = {name: (t.dtype, t.shape) for name, t in header.items()}
        raise ModelError(f"{path}: one F32 tensor 'weight' of shape ({terms},) was expected, found {found!r:.200}")
    with path.open("rb") as file:
        file.seek(tensor.start)
        weights = np.frombuffer(file.read(tensor.end - tensor.start), "<f4").astype(np.float32)
    if not np.isfinite(weights).all():
        raise ModelError(f"{path}: {int((~np.isfinite(weights)).sum())} weights are NaN or infinite")
    return weights
