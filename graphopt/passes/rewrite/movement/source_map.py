"""Where every element of a tensor comes from, through operators that only move data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import integers, static_shape

if TYPE_CHECKING:
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

MOVING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split", "Concat",
          "Gather", "Identity", "Pad")  # fmt: skip
MAX_ELEMENTS = 1 << 15
"""Larger tensors are left alone: what moving them costs is not the number of operators."""


class SourceMap:
    """Numbers the elements of all sources, and follows the numbers through moving operators."""

    def __init__(self) -> None:
        self._starts: dict[Value, int] = {}
        self._codes: dict[Value, Array] = {}
        self._order: list[Value] = []
        self._next = 0

    def codes(self, value: Value) -> Array:
        """Return the numbers of the elements of ``value``; of a source, consecutive ones."""
        if value not in self._codes:
            shape = static_shape(value)
            assert shape is not None
            size = math.prod(shape)
            self._starts[value] = self._next
            self._order.append(value)
            self._codes[value] = np.arange(self._next, self._next + size).reshape(shape)
            self._next += size
        return self._codes[value]

    def start(self, source: Value) -> int:
        """Return the number of a source's first element."""
        return self._starts[source]

    def source_of(self, code: int) -> Value:
        """Return the source that the element with this number belongs to."""
        starts = [self._starts[v] for v in self._order]
        return self._order[int(np.searchsorted(starts, code, side="right")) - 1]

    def follow(self, node: Node) -> bool:
        """Derive the numbers of a moving operator's outputs; False when it is not understood."""
        if not _is_plain(node):
            return False
        results = _move(node, [self.codes(v) for v in _data(node)])
        if results is None or any(
            r.shape != static_shape(v) for r, v in zip(results, node.outputs, strict=True)
        ):
            return False
        self._codes.update(zip(node.outputs, results, strict=True))
        return True


def _is_plain(node: Node) -> bool:
    if node.op not in MOVING or node.domain:
        return False
    for value in (*_data(node), *node.outputs):
        shape = static_shape(value)
        if shape is None or not 0 < math.prod(shape) <= MAX_ELEMENTS or value.dtype is None:
            return False
    return bool(node.inputs) and all(v is not None for v in _data(node))


def _data(node: Node) -> list[Value]:
    taken = node.inputs if node.op == "Concat" else node.inputs[:1]
    return [v for v in taken if v is not None]


def _move(node: Node, data: list[Array]) -> list[Array] | None:
    x = data[0]
    match node.op:
        case "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity":
            shape = static_shape(node.outputs[0])
            return [x.reshape(shape)] if shape and math.prod(shape) == x.size else None
        case "Transpose":
            order = node.attribute("perm")
            return [x.transpose(order if order is not None else range(x.ndim)[::-1])]
        case "Concat":
            return [np.concatenate(data, axis=node.attribute("axis", 0))]
        case "Split":
            return _split(node, x)
        case "Slice":
            return _slice(node, x)
        case "Gather":
            return _gather(node, x)
    return _unpadded(node, x)


def _split(node: Node, x: Array) -> list[Array] | None:
    axis = node.attribute("axis", 0)
    shapes = [static_shape(v) for v in node.outputs]
    sizes = [s[axis] for s in shapes if s is not None and len(s) == x.ndim]
    if len(sizes) != len(shapes) or sum(sizes) != x.shape[axis]:
        return None
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def _slice(node: Node, x: Array) -> list[Array] | None:
    if len(node.inputs) < 3:
        return None
    given = [integers(v) if v is not None else None for v in node.inputs[1:]]
    starts, ends = given[0], given[1]
    if (
        starts is None
        or ends is None
        or any(g is None and v is not None for g, v in zip(given, node.inputs[1:], strict=True))
    ):
        return None
    axes = given[2] if len(given) > 2 and given[2] is not None else list(range(len(starts)))
    steps = given[3] if len(given) > 3 and given[3] is not None else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            return None
        x = x[(*[slice(None)] * (axis % x.ndim), slice(start, end, step))]
    return [x]


def _gather(node: Node, x: Array) -> list[Array] | None:
    index = node.inputs[1]
    if index is None or not index.is_constant:
        return None
    axis = node.attribute("axis", 0)
    places = np.asarray(index.array())
    if np.any((places < -x.shape[axis]) | (places >= x.shape[axis])):
        return None
    return [np.take(x, places, axis=axis)]


def _unpadded(node: Node, x: Array) -> list[Array] | None:
    """Return the input of a Pad that adds nothing."""
    pads = integers(node.inputs[1]) if len(node.inputs) > 1 else None
    return [x] if pads is not None and not any(pads) else None
