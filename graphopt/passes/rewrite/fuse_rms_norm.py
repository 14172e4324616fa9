"""Recognise a root-mean-square normalization that is spelled out and write it as one operator.

y = x / sqrt(mean(x²) + ε) * scale over the last axis (Zhang and Sennrich 2019, equation 4) is
RMSNormalization of opset 23. For models of older sets onnxruntime joins the operators itself, so
that nothing is to be gained by rewriting them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import (
    is_onnxruntime,
    made_by,
    mean_over_last,
    number_beside,
    partner,
    sole_reader,
    squared,
)
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_OPSET = 23


@dataclass(frozen=True)
class FuseRmsNorm:
    """Turn spelled-out root-mean-square normalizations over the last axis into RMSNormalization."""

    name: ClassVar[str] = "fuse-rms-norm"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match in a model for opset 23 or newer."""
        if graph.opset < _OPSET or not is_onnxruntime(context.target):
            return PassResult(False)
        found = _matches(graph)
        if not found:
            return PassResult(False)
        for match in found:
            _fuse(graph, match)
        building.remove_unread(graph)
        graph.sort()
        note = counted(len(found), "normalization", "fused")
        return PassResult(True, (note,), {"fused": len(found)})


@dataclass(frozen=True)
class _Norm:
    x: Value
    epsilon: float
    scale: Value
    result: Value


def _matches(graph: Graph) -> list[_Norm]:
    if not graph.nodes("ReduceMean"):
        return []
    ir.infer_shapes(graph)
    found = (_match(node) for node in graph.nodes("Mul", "Div"))
    return [norm for norm in found if norm is not None]


def _match(node: Node) -> _Norm | None:
    """Return the normalization that this product of x and 1 / sqrt(...) begins."""
    found = _normalized(node)
    times = sole_reader(node.outputs[0], node, "Mul")
    scale = partner(times, node.outputs[0]) if times is not None else None
    if found is None or times is None or scale is None or scale.tensor is None:
        return None
    x, epsilon = found
    last = x.shape[-1] if x.shape else None
    same_type = x.dtype is DType.FLOAT and scale.tensor.dtype is DType.FLOAT
    if not same_type or scale.tensor.shape != (last,) or epsilon < 0:
        return None
    return _Norm(x, epsilon, scale, times.outputs[0])


def _normalized(node: Node) -> tuple[Value, float] | None:
    """Return (x, ε) of x * (1 / sqrt(mean(x²) + ε)), or of x / sqrt(mean(x²) + ε)."""
    if node.domain or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if node.op == "Div":
        return _under_root(second, first)
    return _under_root(_inverted(second), first) or _under_root(_inverted(first), second)


def _inverted(value: Value | None) -> Value | None:
    """Return d of 1 / d."""
    node = made_by(value, "Div", "Reciprocal")
    if node is None:
        return None
    divisor = node.inputs[-1]
    if node.op == "Div" and number_beside(node.inputs[0], divisor) != 1.0:
        return None
    return divisor


def _under_root(value: Value | None, x: Value | None) -> tuple[Value, float] | None:
    root = made_by(value, "Sqrt")
    add = made_by(root.inputs[0], "Add") if root is not None else None
    for mean in add.inputs if add is not None else ():
        if add is None or mean is None or x is None or squared(mean_over_last(mean)) is not x:
            continue
        epsilon = number_beside(partner(add, mean), x)
        if epsilon is not None:
            return x, epsilon
    return None


def _fuse(graph: Graph, norm: _Norm) -> None:
    made = building.add_operator(
        graph,
        "RMSNormalization",
        [norm.x, norm.scale],
        norm.x.shape,
        {"axis": -1, "epsilon": norm.epsilon},
        like=norm.result,
    )
    graph.replace_uses(norm.result, made)
