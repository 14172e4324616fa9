"""Write a convolution over one point as a matrix product.

A 1-dimensional convolution of kernel 1 over a sequence of length 1 is y = W x + b. As a product it
takes part in everything that is done for products (bias in one operator, 8-bit weights, merging
with its neighbours), and the transposes to and from channels-first become shapes. Two-dimensional
convolutions are left alone: the runtime has a blocked layout for them, which products would break.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import static_shape
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_UNPADDED = frozenset({"NOTSET", "VALID"})
_FUSED = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})


@dataclass(frozen=True)
class ConvertConvToMatmul:
    """Turn 1-wide Conv over length 1 into MatMul and Add.

    Args:
        max_rows: largest batch for which it is done; beyond it nobody has measured a gain.
    """

    name: ClassVar[str] = "convert-conv-to-matmul"
    effect: ClassVar[Effect] = Effect.EXACT
    max_rows: int = 1

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Convert every convolution whose input is known to be one point a channel."""
        if not graph.nodes("Conv"):
            return PassResult(False)
        ir.infer_shapes(graph)
        converted = 0
        for node in graph.nodes("Conv"):
            if node.domain or not _is_pointwise(node) or not self._fits(node):
                continue
            if _is_fused(node):
                context.explain(node, "stays a convolution: it runs as one with its activation")
            else:
                _convert(graph, node)
                converted += 1
        if not converted:
            return PassResult(False)
        graph.sort()
        note = counted(converted, "convolution", "converted")
        return PassResult(True, (note,), {"converted": converted})

    def _fits(self, node: Node) -> bool:
        shape = static_shape(node.inputs[0])
        return shape is not None and len(shape) == 3 and shape[2] == 1 and shape[0] <= self.max_rows


def _is_pointwise(node: Node) -> bool:
    weight = node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or weight.tensor is None or weight.tensor.dtype is not DType.FLOAT:
        return False
    if bias is not None and not bias.is_constant:
        return False
    # With strides a padded point may be the only one that is left of the output.
    if any(node.attribute("pads", [])) or node.attribute("auto_pad", "NOTSET") not in _UNPADDED:
        return False
    shape = static_shape(node.outputs[0])
    kernel = math.prod(weight.tensor.shape[2:])
    return (
        kernel == 1 and node.attribute("group", 1) == 1 and shape is not None and shape[2:] == (1,)
    )


def _is_fused(node: Node) -> bool:
    """Whether the runtime computes the activation after it in the same kernel."""
    output = node.outputs[0]
    readers = output.consumers
    alone = len(readers) == 1 and not output.is_output
    return alone and readers[0].op in _FUSED and not readers[0].domain


def _convert(graph: Graph, node: Node) -> None:
    x, weight, *rest = node.inputs
    output = node.outputs[0]
    shape = static_shape(x)
    assert x is not None
    assert weight is not None
    assert shape is not None
    columns = np.ascontiguousarray(weight.array().reshape(weight.array().shape[:2]).T)
    stored = graph.add_constant(f"{weight.name}_columns", columns)
    rows = building.reshape(graph, x, shape[:2])
    made = _product(graph, rows, stored, rest[0] if rest else None, output)
    graph.replace_uses(output, building.reshape(graph, made, (shape[0], columns.shape[1], 1)))
    graph.remove(node)


def _product(graph: Graph, x: Value, weight: Value, bias: Value | None, like: Value) -> Value:
    """Return x @ weight + bias for x [M, K], named after ``like``."""
    shape = (*(x.shape or ())[:-1], weight.array().shape[1])
    made = building.add_operator(graph, "MatMul", [x, weight], shape, like=like)
    if bias is None:
        return made
    return building.add_operator(graph, "Add", [made, bias], shape, like=like)
