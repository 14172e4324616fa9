"""The blocked layout of float convolutions on x86: which operators onnxruntime executes in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis import static_shape
from graphopt.cost.shapes import dims
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Node, Value

IMAGE = 4
"""Rank of what the blocked layout is for."""

ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "HardSigmoid", "Gelu", "QuickGelu"})
"""Activations that are executed in the layout of what they read."""

_ALIGNED = 4
"""Channels that a convolution reads in the blocked layout are a multiple of this."""

_POOLS = frozenset({"MaxPool", "AveragePool"})
_GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
_SIZED_RESIZE = 11
"""Operator set from which Resize has modes."""


class Blocks:
    """What is in the blocked layout so far, and what can follow it.

    Args:
        block: channels in a block; None where convolutions are executed as in the file.
    """

    def __init__(self, block: int | None) -> None:
        self.block = block or 1
        self.used = block is not None
        self.channels: dict[Value, int] = {}
        """Channels of every tensor that is in the blocked layout, without padding."""

    def of(self, value: Value | None) -> int:
        """Return the channels of a blocked tensor; 0 for a plain one."""
        return self.channels.get(value, 0) if value is not None else 0

    def of_all(self, node: Node) -> list[int]:
        """Return the channels of all inputs where all are blocked; else nothing."""
        found = [self.of(v) for v in node.inputs if v is not None]
        return found if all(found) else []

    def takes(self, node: Node, known: Callable[[Value], bool]) -> bool:
        """Whether a Conv is executed in the blocked layout."""
        weight, shape = node.inputs[1], dims(node.inputs[1])
        if not self.used or len(shape) != IMAGE or weight is None or not known(weight):
            return False
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if weight.dtype not in {None, DType.FLOAT} or (bias is not None and not known(bias)):
            return False
        outputs, inputs, groups = shape[0], shape[1], max(int(node.attribute("group", 1)), 1)
        if groups == 1:
            return inputs < self.block or inputs % _ALIGNED == 0
        if inputs == 1 and outputs == groups:
            return outputs % _ALIGNED == 0
        return inputs % self.block == 0 and outputs // groups % self.block == 0

    def reads_plain(self, node: Node) -> bool:
        """Whether a blocked Conv reads its few input channels in the plain layout."""
        return dims(node.inputs[1])[1] < self.block and int(node.attribute("group", 1)) == 1

    def followed(self, node: Node, name: str) -> int:
        """Return the channels of what any other operator makes in the blocked layout, or 0."""
        if not self.used:
            return 0
        if name in _POOLS:
            return self._pooled(node)
        if name in {"Resize", "Upsample"}:
            return self._resized(node)
        given = self.of_all(node)
        if name == "Concat":
            aligned = all(c % self.block == 0 for c in given)
            return sum(given) if aligned and node.attribute("axis") == 1 else 0
        if name in {"Add", "Sum", "Mul"}:
            return given[0] if given and have_one_shape(node) else 0
        first = node.inputs[0] if node.inputs else None
        return self.of(first) if name in ACTIVATIONS | _GLOBAL_POOLS else 0

    def _pooled(self, node: Node) -> int:
        """Return the channels of a pooling, which is worth a copy into the layout."""
        value, shape = node.inputs[0], dims(node.inputs[0])
        if len(shape) != IMAGE or len([v for v in node.outputs if v.name]) != 1:
            return 0
        is_float = value is not None and value.dtype in {None, DType.FLOAT}
        return shape[1] if is_float and shape[1] % self.block == 0 else 0

    def _resized(self, node: Node) -> int:
        """Return the channels of an enlargement by whole factors that repeats its pixels."""
        source, out = dims(node.inputs[0]), dims(node.outputs[0])
        if node.attribute("mode", "nearest") != "nearest" or {len(source), len(out)} != {IMAGE}:
            return 0
        if node.op == "Resize" and node.graph.opset >= _SIZED_RESIZE:
            mode = node.attribute("coordinate_transformation_mode", "half_pixel")
            rounding = node.attribute("nearest_mode", "round_prefer_floor")
            if len(node.inputs) != 3 or (mode, rounding) != ("asymmetric", "floor"):
                return 0
        whole = all(new % old == 0 for old, new in zip(source, out, strict=True))
        return self.of(node.inputs[0]) if whole and source[:2] == out[:2] else 0


def have_one_shape(node: Node) -> bool:
    """Whether all inputs are images of the same known shape."""
    shapes = [static_shape(v) for v in node.inputs]
    return all(s is not None and len(s) == IMAGE and s == shapes[0] for s in shapes)


def scales_channels(node: Node, channels: int, known: Callable[[Value], bool]) -> bool:
    """Whether an operator multiplies every channel by a number of its own."""
    rest = [v for v in node.inputs[1:] if v is not None]
    if not rest or not all(known(v) for v in rest):
        return False
    shape = static_shape(rest[0])
    return node.op == "BatchNormalization" or shape in {(channels, 1, 1), (1, channels, 1, 1)}
