"""Which inputs of an operator carry data, and whether a target can execute it in integer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.fusion import FusionRule

_ALL_DATA = frozenset({"Add", "Mul", "Concat"})


def data_inputs(node: Node) -> tuple[tuple[int, Value], ...]:
    """Return (position, value) of the inputs that are quantized as activations.

    Weights and biases of heavy operators, shapes, axes and the like are not among them.
    """
    positions = range(len(node.inputs)) if node.op in _ALL_DATA else (0,)
    return tuple((i, v) for i in positions if (v := node.inputs[i]) is not None)


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
    check = {"Conv": _weight_obstacle, "Gemm": _gemm_obstacle, "MatMul": _matmul_obstacle}
    return check[node.op](node) if node.op in check else None


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
    return _weight_obstacle(node)


def _matmul_obstacle(node: Node) -> str | None:
    weight = node.inputs[1]
    if weight is not None and weight.is_constant and len(weight.shape or ()) != 2:
        return "its constant operand is not a matrix"
    if weight is not None and not weight.is_constant:
        return "both operands are activations"
    return _weight_obstacle(node)


def bias_add_after(node: Node) -> Node | None:
    """Return the Add of a constant vector that alone reads the node's output, if there is one."""
    output = node.outputs[0]
    if output.is_output or len(output.uses) != 1:
        return None
    add = output.consumers[0]
    if add.op != "Add" or add.graph is not node.graph:
        return None
    other = next((v for v in add.inputs if v is not None and v is not output), None)
    is_vector = other is not None and other.is_constant and len(other.shape or ()) == 1
    return add if is_vector else None
