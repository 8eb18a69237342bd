"""An exported model's ONNX graph as the web's encoder reads it: a JSON header and the tensors' bytes.

::

    graph  := uint32 length, JSON, padding, tensor bytes      gzipped as a whole; each tensor begins at a multiple of 8
    JSON   := {"nodes": [{"op", "in", "out", ...attributes}], "tensors": {name: [dtype, shape, start]}, "rows": {...}}
    rows   := (row of a tensor, crc32) × vocabulary           a file of its own: single rows are fetched

A large table that only ``Gather`` reads, with the text's token ids, is left out of the graph: of 30,522 rows of word
embeddings a query needs ten. The protocol buffers of ONNX are read here so that exporting needs no further package.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from spladelite.errors import ModelError
from spladelite.upkeep.web.lists import with_checksum

# TensorProto.DataType: name on the web, bytes an item.
_TYPES = {1: ("f32", 4), 2: ("u8", 1), 3: ("i8", 1), 6: ("i32", 4), 7: ("i64", 8), 10: ("f16", 2)}
_LARGE = 1 << 20

Field = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An initialiser: its dtype as ``f32``, ``i8`` and so on."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """One operation."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """A parsed model: one input, one output."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read_graph(content: bytes) -> Graph:
    """Parse an ONNX model.

    Raises:
        ModelError: it is not one, or uses tensors that an export of this project does not have.
    """
    try:
        graph = Graph()
        for number, value in _fields(_one(content, 7)):
            if number == 1:
                graph.nodes.append(_node(value))
            elif number == 5:
                name, tensor = _tensor(value)
                graph.tensors[name] = tensor
            elif number in (11, 12):
                (graph.inputs if number == 11 else graph.outputs).append(_one(value, 1).decode())
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"the model's graph cannot be read for the web: {type(error).__name__}: {error}") from error
    return graph


def write_graph(graph: Graph, settings: dict[str, Any]) -> tuple[bytes, bytes]:
    """The graph and the rows of the module docstring; ``settings`` go into the header."""
    header: dict[str, Any] = {
        "nodes": [{"op": node.op, "in": node.inputs, "out": node.outputs, **node.attributes} for node in graph.nodes],
        "input": graph.inputs[0],
        "output": graph.outputs[0],
        "tensors": {},
        "rows": {},
        **settings,
    }
    parts: list[bytes] = []
    rows: list[bytes] = []
    start = row_start = 0
    for name, tensor in graph.tensors.items():
        if _fetched_by_row(graph, name, tensor):
            width = len(tensor.content) // tensor.shape[0]
            header["rows"][name] = [tensor.dtype, list(tensor.shape), row_start, width + 4]
            rows += [with_checksum(tensor.content[i : i + width]) for i in range(0, len(tensor.content), width)]
            row_start += len(tensor.content) + 4 * tensor.shape[0]
            continue
        header["tensors"][name] = [tensor.dtype, list(tensor.shape), start]
        parts.append(_padded(tensor.content))
        start += len(parts[-1])
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join([len(text).to_bytes(4, "little"), text, *parts]), b"".join(rows)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)


def _fetched_by_row(graph: Graph, name: str, tensor: Tensor) -> bool:
    if len(tensor.shape) != 2 or len(tensor.content) < _LARGE:
        return False
    users = [node for node in graph.nodes if name in node.inputs]
    return all(node.op == "Gather" and node.inputs == [name, graph.inputs[0]] for node in users)


def _node(content: bytes) -> Node:
    node = Node("", [], [], {})
    op = ""
    for number, value in _fields(content):
        if number == 1:
            node.inputs.append(value.decode())
        elif number == 2:
            node.outputs.append(value.decode())
        elif number == 4:
            op = value.decode()
        elif number == 5:
            name, attribute = _attribute(value)
            node.attributes[name] = attribute
    return Node(op, node.inputs, node.outputs, node.attributes)


def _attribute(content: bytes) -> tuple[str, Any]:
    name, single = "", None
    ints: list[int] = []
    for number, value in _fields(content):
        if number == 1:
            name = value.decode()
        elif number == 2:
            (single,) = struct.unpack("<f", value)
        elif number == 3:
            single = _signed(value)
        elif number == 4:
            single = value.decode()
        elif number == 8:
            ints += _integers(value)
    return name, ints or single


def _tensor(content: bytes) -> tuple[str, Tensor]:
    name, kind, raw, shape = "", 0, b"", []
    for number, value in _fields(content):
        if number == 1:
            shape += _integers(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = value.decode()
        elif number == 9:
            raw = value
    dtype, size = _TYPES[kind]
    if len(raw) != size * math.prod(shape):
        raise ValueError(f"tensor {name} has {len(raw)} bytes for the shape {shape}")
    if dtype == "i64":  # JavaScript counts in doubles and 32-bit integers; these are shapes and axes
        numbers = struct.unpack(f"<{len(raw) // 8}q", raw)
        raw, dtype = struct.pack(f"<{len(numbers)}i", *(max(min(n, 2**31 - 1), -(2**31)) for n in numbers)), "i32"
    return name, Tensor(dtype, tuple(shape), raw)


def _one(content: bytes, wanted: int) -> Any:
    for number, value in _fields(content):
        if number == wanted:
            return value
    raise ValueError(f"field {wanted} is missing")


def _fields(content: bytes) -> Iterator[Field]:
    """The fields of a protocol buffer message: numbers, or bytes (fixed-width numbers too)."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(content, place)
            yield key >> 3, value
            continue
        length = 8 if kind == 1 else 4 if kind == 5 else 0
        if kind == 2:
            length, place = _varint(content, place)
        elif not length:
            raise ValueError(f"wire type {kind}")
        if place + length > len(content):
            raise ValueError("it ends in the middle of a field")
        yield key >> 3, content[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7


def _integers(value: int | bytes) -> list[int]:
    """A repeated integer, packed or one a field."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(_signed(number))
    return numbers


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
