"""Spelled-out normalizations: means over the last axes, deviations, scales, and writing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis import integers
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import remove_unread
from graphopt.passes.patterns.matching import (
    made_by,
    number_beside,
    partner,
    sole_reader,
    squared,
)
from graphopt.passes.patterns.newer_opset import for_opset
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node, Value


@dataclass(frozen=True)
class Normalization:
    """What a fused normalization is given.

    Args:
        x: the normalized tensor.
        axis: the first of the axes that are averaged over, from the end.
        epsilon: what is added to the mean of the squares.
        scale: one factor for each element of those axes; None for ones.
        shift: what is added to each of them; None for nothing.
        result: what the operators made.
        usual: whether onnxruntime joins this spelling itself.
    """

    x: Value
    axis: int
    epsilon: float
    scale: Value | None
    shift: Value | None
    result: Value
    usual: bool


@dataclass(frozen=True)
class Mean:
    """The mean of ``of`` over its last axes, from ``axis`` on, which are kept with length 1."""

    of: Value
    axis: int


def mean_of(value: Value | None) -> Mean | None:
    """Return what a ReduceMean over the last axes that keeps them averages."""
    node = made_by(value, "ReduceMean")
    source = node.inputs[0] if node is not None else None
    if node is None or source is None or not source.shape or not node.attribute("keepdims", 1):
        return None
    axes = integers(node.inputs[1]) if len(node.inputs) > 1 else node.attribute("axes")
    rank = len(source.shape)
    found = sorted(a % rank - rank for a in axes or ())
    if not found or found != list(range(-len(found), 0)):
        return None
    return Mean(source, found[0])


@dataclass(frozen=True)
class Divided:
    """numerator / sqrt(inner), and which operator made it."""

    numerator: Value
    inner: Value
    usual: bool


def divided_by_root(node: Node) -> list[Divided]:
    """Return the ways to read a Div or Mul as a division by a square root."""
    if node.domain or len(node.inputs) != 2:
        return []
    first, second = node.inputs
    if first is None or second is None:
        return []
    if node.op == "Div":
        root = made_by(second, "Sqrt")
        inner = root.inputs[0] if root is not None else None
        return [Divided(first, inner, usual=True)] if inner is not None else []
    found = []
    for numerator, inverse in ((first, second), (second, first)):
        inner, usual = inverse_root(inverse)
        if inner is not None:
            found.append(Divided(numerator, inner, usual))
    return found


def inverse_root(value: Value | None) -> tuple[Value | None, bool]:
    """Return x of 1 / sqrt(x), and whether it is written as that division."""
    node = made_by(value, "Div", "Reciprocal", "Pow", "Sqrt")
    if node is None:
        return None, False
    if node.op == "Pow":
        is_root = number_beside(node.inputs[1], node.inputs[0]) == -0.5
        return (node.inputs[0] if is_root else None), False
    if node.op == "Div" and number_beside(node.inputs[0], node.inputs[1]) != 1.0:
        return None, False
    # 1 / sqrt(x), or sqrt(1 / x).
    other = "Reciprocal" if node.op == "Sqrt" else "Sqrt"
    inner = made_by(node.inputs[-1], other)
    return (inner.inputs[0] if inner is not None else None), node.op == "Div"


def stabilized(value: Value | None) -> tuple[Value, float] | None:
    """Return (x, ε) of x + ε."""
    add = made_by(value, "Add")
    for mean in add.inputs if add is not None else ():
        epsilon = number_beside(partner(add, mean), mean) if add is not None and mean else None
        if mean is not None and epsilon is not None and epsilon >= 0:
            return mean, epsilon
    return None


def centred(value: Value | None) -> Mean | None:
    """Return x of x - mean(x), and over what axes."""
    node = made_by(value, "Sub")
    if node is None or len(node.inputs) != 2 or node.inputs[0] is None:
        return None
    mean = mean_of(node.inputs[1])
    return mean if mean is not None and mean.of is node.inputs[0] else None


def mean_square(value: Value | None) -> Mean | None:
    """Return what mean(x²) averages the squares of."""
    mean = mean_of(value)
    base = squared(mean.of) if mean is not None else None
    return Mean(base, mean.axis) if mean is not None and base is not None else None


def is_float(x: Value, axis: int) -> bool:
    """Whether x is float32 of known sizes along the normalized axes, none of them empty."""
    sizes = x.shape[axis:] if x.shape is not None else ()
    known = bool(sizes) and all(isinstance(d, int) and d > 0 for d in sizes)
    return x.dtype is DType.FLOAT and known


def is_per_element(value: Value | None, x: Value, axis: int) -> bool:
    """Whether a constant holds one number per element of the last axes of ``x``, or just one."""
    if value is None or value.tensor is None or x.shape is None or value.dtype is not DType.FLOAT:
        return False
    shape, sizes = value.tensor.shape, tuple(x.shape[axis:])
    if len(shape) > len(x.shape):
        return False
    outer = (1,) * max(len(shape) - len(sizes), 0)
    return shape == (*outer, *sizes) or (value.tensor.size == 1)


def scaled(value: Value, x: Value, axis: int, maker: Node) -> tuple[Value | None, Value]:
    """Return (scale, result) where the next reader multiplies by constants; None without."""
    return _combined("Mul", value, x, axis, maker)


def shifted(value: Value, x: Value, axis: int, maker: Node) -> tuple[Value | None, Value]:
    """Return (shift, result) where the next reader adds constants; None without."""
    return _combined("Add", value, x, axis, maker)


def _combined(
    op: str, value: Value, x: Value, axis: int, maker: Node
) -> tuple[Value | None, Value]:
    node = sole_reader(value, maker, op)
    constant = partner(node, value) if node is not None else None
    if node is None or not is_per_element(constant, x, axis):
        return None, value
    return constant, node.outputs[0]


def operand(graph: Graph, value: Value | None, found: Normalization) -> Value:
    """Return a scale or shift as the operator takes it: all elements, and no other axes."""
    assert found.x.shape is not None
    sizes = tuple(int(d) for d in found.x.shape[found.axis :] if isinstance(d, int))
    if value is not None and value.tensor is not None and value.tensor.shape == sizes:
        return value
    array = value.array() if value is not None else np.ones(1, np.float32)
    whole = np.broadcast_to(array.reshape(-1) if array.size == 1 else array.reshape(sizes), sizes)
    name = graph.unique_name(f"{found.result.name}_row")
    return graph.add_constant(name, np.ascontiguousarray(whole, dtype=np.float32))


def write_normalizations(
    graph: Graph,
    version: int,
    matches: Callable[[Graph], list[Normalization]],
    write: Callable[[Graph, Normalization, Value], Value],
    noun: str,
) -> PassResult:
    """Write every normalization that is found as one operator, in the opset that has it.

    Args:
        graph: is changed in place, where anything is found.
        version: opset of the operator.
        matches: finds normalizations, from the inputs to the outputs.
        write: puts one operator down, on the operand given, and returns its result.
        noun: what the note calls them.
    """
    trial, notes = for_opset(graph, version)
    found = matches(trial) if trial is not None else []
    if trial is None or not found:
        return PassResult(False, notes)
    written: dict[Value, Value] = {}
    for each in found:
        written[each.result] = write(trial, each, written.get(each.x, each.x))
    remove_unread(trial)
    trial.sort()
    graph.assign(trial)
    return PassResult(True, (counted(len(found), noun, "fused"),), {"fused": len(found)})
