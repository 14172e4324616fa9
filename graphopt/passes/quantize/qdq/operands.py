"""Which inputs of an operator carry data, and whether a target can execute it in integer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from graphopt.passes.quantize.qdq.lower import is_lowered
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.fusion import FusionRule, FusionTable

_TINY_MATRIX = 5
_ALL_DATA = frozenset({"Add", "Mul", "Concat"})


def data_inputs(node: Node) -> tuple[tuple[int, Value], ...]:
    """Return (position, value) of the inputs that are quantized as activations.

    Weights and biases of heavy operators, shapes, axes and the like are not among them.
    """
    return tuple((i, v) for i in _positions(node) if (v := node.inputs[i]) is not None)


def _positions(node: Node) -> Iterable[int]:
    if node.op in _ALL_DATA:
        return range(len(node.inputs))
    if node.op == "Where":
        return (1, 2)
    return (0, 1) if node.op == "MatMul" and multiplies_activations(node) else (0,)


def multiplies_activations(product: Node) -> bool:
    """Whether both operands of a product are computed at run time, as in attention."""
    return all(v is not None and not v.is_constant for v in product.inputs[:2])


def activations(node: Node) -> tuple[Value, ...]:
    """Return the data inputs that are computed at run time."""
    return tuple(v for _, v in data_inputs(node) if not v.is_constant)


def obstacle(node: Node, rule: FusionRule, graph: Graph) -> str | None:
    """Return why ``node`` cannot be executed in integer, or None when it can."""
    if graph.opset < rule.min_opset:
        return f"{node.op} is integer from opset {rule.min_opset} on; the model has {graph.opset}"
    for key, wanted in rule.attributes.items():
        if node.attribute(key, wanted) != wanted:
            return f"{node.op} is integer only with {key}={wanted}"
    wrong = next((v for _, v in data_inputs(node) if v.dtype is not DType.FLOAT), None)
    if wrong is not None:
        kind = wrong.dtype.name.lower() if wrong.dtype else "of unknown type"
        return f"its input `{wrong.name}` is {kind}, not float32"
    if not activations(node):
        return "all its inputs are constant"
    check = _OBSTACLES.get(node.op)
    return check(node) if check is not None else None


def _weight_obstacle(node: Node) -> str | None:
    weight = node.inputs[1]
    if weight is None or not weight.is_constant or weight.dtype is not DType.FLOAT:
        return "its weight is computed at run time, or is not float32"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not bias.is_constant:
        return "its bias is computed at run time"
    return None


def _gemm_obstacle(node: Node) -> str | None:
    if node.attribute("alpha", 1.0) != 1.0 or node.attribute("beta", 1.0) != 1.0:
        return "integer Gemm needs alpha = beta = 1"
    if node.attribute("transA", 0):
        return "integer Gemm cannot transpose its first input"
    return _weight_obstacle(node) or _bias_obstacle(node)


def _bias_obstacle(node: Node) -> str | None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or bias.array().size == 1 or bias.array().shape[-1] == bias.array().size:
        return None
    return "its bias differs from row to row"


def _matmul_obstacle(node: Node) -> str | None:
    weight = node.inputs[1]
    if multiplies_activations(node):
        return None
    if weight is not None and weight.is_constant and len(weight.shape or ()) != 2:
        return "its constant operand is not a matrix"
    sizes = [d for d in (weight.shape if weight is not None else None) or () if isinstance(d, int)]
    if weight is not None and math.prod(sizes) < _TINY_MATRIX:
        return "its matrix is so small that Q and DQ would cost more than the product"
    return _weight_obstacle(node)


def _average_pool_obstacle(node: Node) -> str | None:
    if any(d != 1 for d in node.attribute("dilations", [])):
        return "integer AveragePool has no dilations"
    if node.attribute("ceil_mode", 0) and node.attribute("count_include_pad", 0):
        # The integer kernel divides by the whole window where it hangs over the edge.
        return "integer AveragePool cannot both round its size up and count padding"
    return None


def _max_pool_obstacle(node: Node) -> str | None:
    return "integer MaxPool has no indices" if len(node.outputs) > 1 else None


def _split_obstacle(node: Node) -> str | None:
    unused = any(not v.uses and not v.is_output for v in node.outputs)
    return "a part that nobody reads would have no Q behind it" if unused else None


_OBSTACLES = {
    "AveragePool": _average_pool_obstacle,
    "Conv": _weight_obstacle,
    "Gemm": _gemm_obstacle,
    "MatMul": _matmul_obstacle,
    "MaxPool": _max_pool_obstacle,
    "Split": _split_obstacle,
}


def absorb(node: Node, table: FusionTable) -> tuple[Node | None, Value]:
    """Return the activation that the following Q makes redundant, and the tensor after it."""
    output = node.outputs[0]
    is_last = output.is_output or len(output.uses) != 1 or len(node.outputs) > 1
    if is_last or is_lowered(node):
        return None, output
    reader = output.consumers[0]
    rule = table.rule(reader.op, reader.domain)
    if rule is None or rule.role != "absorbed" or reader.graph is not node.graph:
        return None, output
    if reader.op == "Clip" and not _clips_at_zero(reader):
        return None, output
    return reader, reader.outputs[0]


def _clips_at_zero(clip: Node) -> bool:
    """Whether the lower bound is exactly zero, which the zero point can express."""
    low = clip.inputs[1] if len(clip.inputs) > 1 else None
    return low is not None and low.is_constant and float(np.squeeze(low.array())) == 0.0


def hidden_by_activation(node: Node) -> bool:
    """Whether the runtime looks for a Q behind the Relu or Clip that follows a product.

    It does where that activation has one reader; finding another operator there, it computes the
    product in float, with its weights dequantized at every run.
    """
    output = node.outputs[0]
    if output.is_output or len(output.uses) != 1:
        return False
    reader = output.consumers[0]
    if reader.op not in {"Relu", "Clip"} or reader.domain:
        return False
    after = reader.outputs[0]
    return not after.is_output and len(after.uses) == 1


def bias_add_after(node: Node) -> Node | None:
    """Return the Add of a constant vector that alone reads the node's output, if there is one."""
    add, other = _add_after(node)
    is_vector = other is not None and other.is_constant and len(other.shape or ()) == 1
    return add if is_vector else None


def becomes_gemm(node: Node) -> bool:
    """Whether the runtime merges a MatMul and the float Add after it into a Gemm with float bias.

    It does where that Add is of a vector, or where all is matrices, constant or not. A constant
    vector beside an output of higher rank does not count: it can be given another shape.
    """
    _, other = _add_after(node)
    if other is None:
        return False
    if len(node.outputs[0].shape or ()) > 2:
        return other.shape is not None and len(other.shape) == 1 and not other.is_constant
    return other.shape is None or 0 < len(other.shape) < 3


def _add_after(node: Node) -> tuple[Node | None, Value | None]:
    """Return the Add that alone reads the node's output, and what it adds."""
    output = node.outputs[0]
    if output.is_output or len(output.uses) != 1:
        return None, None
    add = output.consumers[0]
    if add.op != "Add" or add.graph is not node.graph:
        return None, None
    return add, next((v for v in add.inputs if v is not None and v is not output), None)
