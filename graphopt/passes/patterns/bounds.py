"""How low and how high the elements of a mask can be, from how it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import integers
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

_DEEPEST = 60
"""Longer chains of operators are not followed."""
LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Bounds:
    """An interval that holds every element.

    Args:
        low: the least, -inf where nothing is known.
        high: the greatest.
        infinite: whether the model itself makes infinities of constants or by overflow; what comes
            from outside, or is computed of it, is taken to be finite.
    """

    low: float = -math.inf
    high: float = math.inf
    infinite: bool = False

    def joined(self, other: Bounds) -> Bounds:
        """Return the bounds of elements of both."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Bounds(low, high, self.infinite or other.infinite)


_UNKNOWN = Bounds()
_TRUTH = Bounds(0.0, 1.0)


class BoundsOf:
    """Bounds of the tensors of one graph, each computed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Value, bool], Bounds] = {}

    def all(self, value: Value) -> Bounds:
        """Return the bounds of all elements."""
        return self._of(value, first=False, depth=0)

    def first_column(self, value: Value) -> Bounds:
        """Return the bounds of the elements that come first on the last axis."""
        return self._of(value, first=True, depth=0)

    def _of(self, value: Value | None, *, first: bool, depth: int) -> Bounds:
        if value is None:
            return _UNKNOWN
        if (value, first) not in self._known:
            self._known[value, first] = self._found(value, first=first, depth=depth + 1)
        return self._known[value, first]

    def _found(self, value: Value, *, first: bool, depth: int) -> Bounds:
        if value.tensor is not None:
            return _of_constant(value, first=first)
        node = value.producer
        if node is None or node.domain or depth > _DEEPEST or value is not node.outputs[0]:
            return _TRUTH if value.dtype is DType.BOOL else _UNKNOWN
        if node.op in _MOVING:
            keeps = first and _keeps_first(node)
            return self._of(node.inputs[0], first=keeps, depth=depth)
        if node.op == "Where":
            return self._chosen(node, first=first, depth=depth)
        if node.op == "Concat":
            return self._together(node, first=first, depth=depth)
        if node.op == "Cast":
            return _cast(self._of(node.inputs[0], first=first, depth=depth), node.attribute("to"))
        if node.op == "Trilu":
            return _triangle(node, self._of(node.inputs[0], first=False, depth=depth), first=first)
        rule = _RULES.get(node.op)
        if rule is not None:
            return rule(*(self._of(v, first=first, depth=depth) for v in node.inputs))
        if node.op == "ConstantOfShape":
            return _of_fill(node)
        return _TRUTH if value.dtype is DType.BOOL else _UNKNOWN

    def _chosen(self, node: Node, *, first: bool, depth: int) -> Bounds:
        test, one, other = (self._of(v, first=first, depth=depth) for v in node.inputs)
        if test.low >= 1.0:
            return one
        return other if test.high <= 0.0 else one.joined(other)

    def _together(self, node: Node, *, first: bool, depth: int) -> Bounds:
        shape = node.outputs[0].shape
        last = shape is not None and node.attribute("axis") in {-1, len(shape) - 1}
        parts = node.inputs[:1] if first and last else node.inputs
        keeps = first and shape is not None
        found = [self._of(v, first=keeps, depth=depth) for v in parts]
        made = found[0]
        for other in found[1:]:
            made = made.joined(other)
        return made


_MOVING = frozenset(
    {"Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice",
     "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)  # fmt: skip


def _of_constant(value: Value, *, first: bool) -> Bounds:
    tensor = value.tensor
    if tensor is None or tensor.dtype is DType.STRING or not tensor.size:
        return _UNKNOWN
    array: Array = value.array()
    if first and array.ndim:
        array = array[..., 0]
    return _of_numbers(array.astype(np.float64))


def _of_numbers(array: Array) -> Bounds:
    low, high = float(array.min()), float(array.max())
    if math.isnan(low):
        return Bounds(infinite=True)
    return Bounds(low, high, infinite=bool(np.isinf(array).any()))


def _of_fill(node: Node) -> Bounds:
    """Return the bounds of a ConstantOfShape."""
    fill = node.attribute("value")
    return Bounds(0.0, 0.0) if fill is None else _of_numbers(fill.array().astype(np.float64))


def _cast(one: Bounds, kind: DType | int | None) -> Bounds:
    """Return the bounds after a conversion; small types may overflow to infinity."""
    if kind == DType.BOOL:
        return _TRUTH
    if kind in {DType.FLOAT, DType.DOUBLE}:
        overflows = math.isfinite(one.low) and is_overflow(one.low)
        return Bounds(one.low, one.high, one.infinite or overflows)
    if kind in {DType.INT32, DType.INT64} and math.isfinite(one.low) and math.isfinite(one.high):
        return Bounds(math.floor(one.low), math.ceil(one.high))
    return Bounds(infinite=True)


def _triangle(node: Node, one: Bounds, *, first: bool) -> Bounds:
    """Return the bounds of a Trilu, which keeps no first column above the main diagonal."""
    offset = integers(node.inputs[1]) if len(node.inputs) > 1 else [0]
    if first and node.attribute("upper", 1) and offset is not None and offset[0] >= 1:
        return Bounds(0.0, 0.0)
    return one.joined(Bounds(0.0, 0.0))


def _keeps_first(node: Node) -> bool:
    """Whether the elements that come first on the last axis came first before."""
    source, made = node.inputs[0], node.outputs[0]
    if source is None or not source.shape or not made.shape:
        return False
    if node.op in {"Identity", "Expand"}:
        return True
    if node.op == "Unsqueeze":
        axes = integers(node.inputs[1]) if len(node.inputs) > 1 else node.attribute("axes")
        return axes is not None and not {-1, len(made.shape) - 1} & set(axes)
    if node.op == "Transpose":
        order = node.attribute("perm")
        return bool(order) and order[-1] == len(order) - 1
    return node.op == "Slice" and _starts_first(node, len(source.shape) - 1)


def _starts_first(node: Node, last: int) -> bool:
    """Whether a Slice of known axes begins at the first element of the last one."""
    if len(node.inputs) < 4:
        return False
    starts, axes = integers(node.inputs[1]), integers(node.inputs[3])
    steps = integers(node.inputs[4]) if len(node.inputs) > 4 else None
    if starts is None or axes is None or (len(node.inputs) > 4 and steps is None):
        return False
    forward = steps is None or all(s > 0 for s in steps)
    return forward and all(
        start == 0 for start, axis in zip(starts, axes, strict=True) if axis in {-1, last}
    )


def _sum(one: Bounds, other: Bounds) -> Bounds:
    low, high = one.low + other.low, one.high + other.high
    overflows = is_overflow(low) and math.isfinite(one.low) and math.isfinite(other.low)
    return Bounds(low, high, one.infinite or other.infinite or overflows)


def is_overflow(number: float) -> bool:
    """Whether a sum that is so low is -inf in float32: half a step below the lowest, or more."""
    return number <= LOWEST - 2.0**103


def _negated(one: Bounds) -> Bounds:
    return Bounds(-one.high, -one.low, one.infinite)


def _product(one: Bounds, other: Bounds) -> Bounds:
    ends = [a * b if a and b else 0.0 for a in (one.low, one.high) for b in (other.low, other.high)]
    # 0 times an infinity is NaN.
    return Bounds(min(ends), max(ends), one.infinite or other.infinite)


def _not(one: Bounds) -> Bounds:
    return Bounds(1.0 - one.high, 1.0 - one.low)


def _least(*each: Bounds) -> Bounds:
    low, high = min(b.low for b in each), min(b.high for b in each)
    return Bounds(low, high, any(b.infinite for b in each))


def _greatest(*each: Bounds) -> Bounds:
    low, high = max(b.low for b in each), max(b.high for b in each)
    return Bounds(low, high, all(b.infinite for b in each))


_RULES: dict[str, Callable[..., Bounds]] = {
    "Add": _sum,
    "Sub": lambda one, other: _sum(one, _negated(other)),
    "Neg": _negated,
    "Mul": _product,
    "Not": _not,
    "And": _least,
    "Or": _greatest,
    "Min": _least,
    "Max": _greatest,
}
