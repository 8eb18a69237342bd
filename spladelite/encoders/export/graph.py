"""A small writer of ONNX graphs. ``onnx`` is imported when a graph is written, never to run one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 20

Weights = Mapping[str, NDArray[Any]]


class Graph:
    """Nodes and initialisers of an ONNX graph under construction.

    Attributes:
        half: matrices are stored as float16 and widened when the model is loaded; they compute in float32.
    """

    def __init__(self, half: bool = False) -> None:
        self.half = half
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def const(self, array: NDArray[Any]) -> str:
        """Store an array as it is."""
        from onnx import numpy_helper

        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        """Store an int64 vector."""
        return self.const(np.array(values, np.int64))

    def floats(self, array: NDArray[Any] | float) -> str:
        """Store as float32."""
        return self.const(np.asarray(array, np.float32))

    def matrix(self, array: NDArray[Any]) -> str:
        """A weight matrix, stored as float16 if ``half``."""
        if not self.half:
            return self.floats(array)
        return self.op("Cast", self.const(np.asarray(array, np.float16)), to=1)

    def linear(self, x: str, weight: NDArray[Any], bias: NDArray[Any] | None) -> str:
        """``x @ weight.T + bias`` with ``weight`` as torch stores it, ``(out, in)``."""
        bias = np.zeros(len(weight)) if bias is None else bias
        return self.op("Gemm", x, self.matrix(weight.T), self.floats(bias))

    def norm(self, x: str, gain: NDArray[Any], bias: NDArray[Any], epsilon: float) -> str:
        """LayerNormalization over the last axis."""
        return self.op("LayerNormalization", x, self.floats(gain), self.floats(bias), axis=-1, epsilon=epsilon)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; gives the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with ``count`` outputs; gives their names."""
        from onnx import helper

        names = [f"{kind.lower()}{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def model(self, output: str, shape: list[int | str]) -> bytes:
        """The finished model: input ``ids`` int64 ``(T,)``, output ``pooled`` float32."""
        from onnx import TensorProto, helper

        self.nodes.append(helper.make_node("Identity", [output], ["pooled"]))
        graph = helper.make_graph(
            self.nodes,
            "splade",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])],
            [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, shape)],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="spladelite")
        serialized: bytes = model.SerializeToString(deterministic=True)
        return serialized
