"""What a change of representation costs on a target: Q or DQ, and the copies between layouts.

Asked of the cost model itself, with a model of two kernels and the border between them: what the
runtime executes between the two is the price. So a border costs what the whole model's estimate
will count for it, layouts and all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt import ir
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.cost.base import CostModel
    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.base import Target
    from graphopt.types import Shape

_IMAGE_RANK = 4
_OPSET = 21
_READER = "reader"
_WRITER = "writer"


class BorderPrices:
    """Prices of borders for one target, in microseconds; each shape is asked for once.

    Args:
        cost: the cost model.
        target: where the model shall run.
    """

    def __init__(self, cost: CostModel, target: Target) -> None:
        self._cost = cost
        self._target = target
        self._known: dict[tuple[str, Shape, Node | None], float] = {}

    def quantize(self, shape: Shape, pooling: Node | None = None) -> float:
        """Return the price of an integer kernel that reads what a float kernel wrote.

        Args:
            shape: of what was written.
            pooling: a MaxPool between the two; what it takes between floats is not in the price.
        """
        return self._price("quantize", shape, pooling) - self._pooled(shape, pooling)

    def dequantize(self, shape: Shape, pooling: Node | None = None) -> float:
        """Return the price of a float kernel that reads what an integer kernel wrote."""
        return self._price("dequantize", shape, pooling) - self._pooled(shape, pooling)

    def add(self, shape: Shape) -> float:
        """Return the time of a float Add of its own, which a float convolution takes in."""
        return self._price("add", shape, None)

    def _pooled(self, shape: Shape, pooling: Node | None) -> float:
        return self._price("float", shape, pooling) if pooling is not None else 0.0

    def _price(self, what: str, shape: Shape, pooling: Node | None) -> float:
        key = (what, shape, pooling)
        if key not in self._known:
            self._known[key] = self._asked(what, shape, pooling)
        return self._known[key]

    def _asked(self, what: str, shape: Shape, pooling: Node | None) -> float:
        graph = _two_kernels(what, shape, pooling)
        ir.infer_shapes(graph)
        kernels = self._cost.estimate(graph, self._target).kernels
        names = [set(k.nodes) for k in kernels]
        first = next((i for i, n in enumerate(names) if _WRITER in n), -1)
        last = next((i for i, n in enumerate(names) if _READER in n), len(kernels))
        return sum(k.latency_us for k in kernels[first + 1 : last])


def _two_kernels(what: str, shape: Shape, pooling: Node | None) -> Graph:
    """Return a model of a writer, the border, and a reader; only the border where no image is."""
    graph = ir.Graph("border")
    graph.opsets[""] = _OPSET
    value = graph.new_value("x")
    value.dtype, value.shape = DType.FLOAT, shape
    graph.add_input(value)
    image = len(shape) == _IMAGE_RANK and isinstance(shape[1], int)
    before, after = what == "dequantize", what == "quantize"
    if what == "add":
        value = graph.add_node("Add", [value, value], ["sum"], name="sum").outputs[0]
    elif image:
        value = _convolution(graph, value, _WRITER, integer=before)
        if what == "dequantize":
            value = _after_pair(graph, value, "border")
        if pooling is not None:
            value = _pooled(graph, value, pooling)
        if what == "dequantize" and pooling is not None:
            value = _after_pair(graph, value, "pooled")
        value = _convolution(graph, value, _READER, integer=after)
    elif after or what == "float":
        value = _quantized(graph, value, "border")
    else:
        value = _dequantized(graph, _integers(graph, shape), "border")
    graph.set_outputs([value])
    return graph


def _integers(graph: Graph, shape: Shape) -> Value:
    """Return a new input of 8-bit integers."""
    value = graph.new_value("integers")
    value.dtype, value.shape = DType.UINT8, shape
    graph.add_input(value)
    return value


def _convolution(graph: Graph, value: Value, name: str, *, integer: bool) -> Value:
    """Append a convolution with a window of 1 that keeps the shape."""
    channels = next(v.shape for v in graph.inputs if v.shape is not None)[1]
    assert isinstance(channels, int)
    weights = np.zeros((channels, channels, 1, 1), np.int8 if integer else np.float32)
    weight = graph.add_constant(f"{name}_weight", weights)
    if integer:
        value = _after_pair(graph, value, f"{name}_in")
        scale = graph.add_constant(f"{name}_scale", np.float32(1.0))
        inputs = [weight, scale]
        weight = graph.add_node("DequantizeLinear", inputs, [f"{name}_w"]).outputs[0]
    made = graph.add_node("Conv", [value, weight], [f"{name}_out"], name=name).outputs[0]
    made.dtype, made.shape = DType.FLOAT, value.shape
    return _after_pair(graph, made, f"{name}_made") if integer and name == _READER else made


def _pooled(graph: Graph, value: Value, pooling: Node) -> Value:
    made = graph.add_node("MaxPool", [value], ["pooled"])
    for attribute in pooling.attributes.values():
        made.put_attribute(attribute)
    made.outputs[0].dtype = DType.FLOAT
    return made.outputs[0]


def _after_pair(graph: Graph, value: Value, name: str) -> Value:
    return _dequantized(graph, _quantized(graph, value, name), name)


def _quantized(graph: Graph, value: Value, name: str) -> Value:
    made = graph.add_node("QuantizeLinear", [value, *_parameters(graph, name)], [f"{name}_q"])
    made.outputs[0].dtype, made.outputs[0].shape = DType.UINT8, value.shape
    return made.outputs[0]


def _dequantized(graph: Graph, value: Value, name: str) -> Value:
    made = graph.add_node("DequantizeLinear", [value, *_parameters(graph, name)], [f"{name}_dq"])
    made.outputs[0].dtype, made.outputs[0].shape = DType.FLOAT, value.shape
    return made.outputs[0]


def _parameters(graph: Graph, name: str) -> list[Value]:
    scale = graph.add_constant(f"{name}_s", np.float32(1.0))
    return [scale, graph.add_constant(f"{name}_z", np.uint8(0))]
