"""Recognise a layer normalization that is spelled out and write it as one operator.

y = (x - mean(x)) / sqrt(mean((x - mean(x))²) + ε) * scale + shift, over the last axis, which is
LayerNormalization of opset 17. onnxruntime knows some spellings and joins them itself; not the one
that squares by a product with itself, nor two separate differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import (
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

_OPSET = 17


@dataclass(frozen=True)
class FuseLayerNorm:
    """Turn spelled-out layer normalizations over the last axis into LayerNormalization."""

    name: ClassVar[str] = "fuse-layer-norm"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match; needs opset 17."""
        if graph.opset < _OPSET or not graph.nodes("Sqrt", "Pow"):
            return PassResult(False)
        ir.infer_shapes(graph)
        fused = 0
        for division in graph.nodes("Div"):
            found = _match(division)
            if found is not None:
                _fuse(graph, found)
                fused += 1
        if not fused:
            return PassResult(False)
        building.remove_unread(graph)
        graph.sort()
        note = counted(fused, "layer normalization", "fused")
        return PassResult(True, (note,), {"fused": fused})


@dataclass(frozen=True)
class _Norm:
    x: Value
    epsilon: float
    scale: Value
    shift: Value
    result: Value


def _match(division: Node) -> _Norm | None:
    """Return the normalization whose centred values this division scales."""
    if division.domain or len(division.inputs) != 2:
        return None
    centred, root = division.inputs
    x = _centred(centred)
    epsilon = _deviation_epsilon(root, x) if x is not None else None
    if x is None or epsilon is None or epsilon < 0 or not _is_float(x):
        return None
    times = sole_reader(division.outputs[0], division, "Mul")
    plus = sole_reader(times.outputs[0], division, "Add") if times is not None else None
    if times is None or plus is None:
        return None
    scale, shift = partner(times, division.outputs[0]), partner(plus, times.outputs[0])
    if not _is_row(scale, x) or not _is_row(shift, x):
        return None
    assert scale is not None
    assert shift is not None
    return _Norm(x, epsilon, scale, shift, plus.outputs[0])


def _is_float(x: Value) -> bool:
    return x.dtype is DType.FLOAT and isinstance((x.shape or (None,))[-1], int)


def _is_row(value: Value | None, x: Value) -> bool:
    """Whether a constant holds one number per element of the last axis of ``x``."""
    if value is None or value.tensor is None or x.shape is None:
        return False
    return value.tensor.shape == x.shape[-1:]


def _centred(value: Value | None) -> Value | None:
    """Return x of x - mean(x)."""
    node = made_by(value, "Sub")
    if node is None or len(node.inputs) != 2 or node.inputs[0] is None:
        return None
    x, mean = node.inputs
    return x if x is not None and mean_over_last(mean) is x else None


def _deviation_epsilon(value: Value | None, x: Value) -> float | None:
    """Return ε of sqrt(mean((x - mean(x))²) + ε)."""
    root = made_by(value, "Sqrt")
    add = made_by(root.inputs[0], "Add") if root is not None else None
    if add is None:
        return None
    for variance in add.inputs:
        if variance is None:
            continue
        epsilon = number_beside(partner(add, variance), x)
        deviation = squared(mean_over_last(variance))
        if epsilon is not None and deviation is not None and _centred(deviation) is x:
            return epsilon
    return None


def _fuse(graph: Graph, norm: _Norm) -> None:
    made = building.add_operator(
        graph,
        "LayerNormalization",
        [norm.x, norm.scale, norm.shift],
        norm.x.shape,
        {"axis": -1, "epsilon": norm.epsilon},
        like=norm.result,
    )
    graph.replace_uses(norm.result, made)
