"""Where one linear operator has to look to make what a run of operators makes.

A convolution, or a pooling, of stride s, reach r and padding p makes floor((n + a) / s) positions
of n, a = p - r + s, and position i is centred on s i + c, c = (r - 1) / 2 - p_begin. Behind each
other two of them are one with s = s1 s2, a = a1 + s1 a2, c = c1 + s1 c2. So a kernel of size k
needs the padding a + k - s, of which k // 2 - c in front, to make as many positions in their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.branches import Chain
    from graphopt.ir import Node, Value

_WINDOWS = frozenset({"AveragePool", "Conv", "FusedConv", "LpPool", "MaxPool", "QLinearConv"})
_FIRST = frozenset({"BatchNormalization", "Conv", "ConvTranspose", "FusedConv",
                    "GroupNormalization", "InstanceNormalization"})  # fmt: skip
"""Operators whose channels are along axis 1."""
_LAST = frozenset({"Attention", "Gemm", "LayerNormalization", "MatMul", "RMSNormalization",
                   "SimplifiedLayerNormalization"})  # fmt: skip
"""Operators whose channels are along the last axis."""


@dataclass(frozen=True)
class Axis:
    """Positions along one spatial axis: stride, and what the module calls a and c."""

    stride: int = 1
    slack: int = 0
    centre: float = 0.0

    def then(self, other: Axis) -> Axis:
        """Return both behind each other."""
        return Axis(
            self.stride * other.stride,
            self.slack + self.stride * other.slack,
            self.centre + self.stride * other.centre,
        )

    def padding(self, kernel: int) -> tuple[int, int] | None:
        """Return (front, back) of a kernel in their place; None if it would have to crop."""
        total = self.slack + kernel - self.stride
        if total < 0:
            return None
        front = min(max(kernel // 2 - floor(self.centre), 0), total)
        return front, total - front


@dataclass(frozen=True)
class Placement:
    """How a linear operator reads the entry of a chain.

    Args:
        inputs: channels of the entry.
        outputs: channels of the exit.
        space: one for each spatial axis; None where channels are along the last axis and a matrix
            product is what fits.
    """

    inputs: int
    outputs: int
    space: tuple[Axis, ...] | None

    @property
    def channel_axis(self) -> int:
        """The axis of channels."""
        return -1 if self.space is None else 1


def placement_of(chain: Chain) -> Placement | str:
    """Return how one linear operator can take the place of a chain, or why none can."""
    one, other = chain.entry.shape, chain.exit.shape
    if one is None or other is None:
        return "the shapes of its ends are not known"
    if len(one) != len(other) or len(one) < 2:
        return f"it makes a tensor of rank {len(other)} of one of rank {len(one)}"
    if chain.entry.dtype is None or not chain.entry.dtype.is_float:
        return f"`{chain.entry.name}` is not floating-point"
    if chain.entry.dtype is not chain.exit.dtype:
        return "its ends are of different types"
    axis = 1 if _is_channels_first(chain) else -1
    inputs, outputs = one[axis], other[axis]
    if not isinstance(inputs, int) or not isinstance(outputs, int):
        return "its channels are not counted"
    if axis == -1:
        return Placement(inputs, outputs, None)
    space = _geometry(chain)
    if space is None:
        return "how its positions lie over those of its input is not known"
    return Placement(inputs, outputs, space)


def _is_channels_first(chain: Chain) -> bool:
    """Whether channels are along axis 1: what the first operators that mind say."""
    rank = len(chain.entry.shape or ())
    if rank < 3:
        return False
    layout = {chain.entry}
    for node in chain.nodes:
        if not layout.intersection(v for v in node.inputs if v is not None):
            continue
        if node.op in _FIRST:
            return True
        if node.op in _LAST:
            return False
        if node.op not in {"Reshape", "Transpose", "Flatten"}:
            layout.update(node.outputs)
    return rank > 3


def _geometry(chain: Chain) -> tuple[Axis, ...] | None:
    rank = len(chain.entry.shape or ())
    known: dict[Value, tuple[Axis, ...]] = {chain.entry: (Axis(),) * (rank - 2)}
    for node in chain.nodes:
        if node.outputs:
            found = _through(node, known)
            if found is not None:
                known[node.outputs[0]] = found
    return known.get(chain.exit) or _by_sizes(chain.entry, chain.exit)


def _through(node: Node, known: dict[Value, tuple[Axis, ...]]) -> tuple[Axis, ...] | None:
    """Return how positions of a node's output lie over the entry."""
    if node.op in _WINDOWS:
        source = node.inputs[0]
        before = known.get(source) if source is not None else None
        own = _window(node, len(before)) if before is not None else None
        if before is None or own is None:
            return None
        return tuple(one.then(other) for one, other in zip(before, own, strict=True))
    shape = node.outputs[0].shape
    if shape is None or node.op in {"Reshape", "Transpose"}:
        return None
    same = (known[v] for v in node.inputs if v in known and _same_space(v, shape))
    return next(same, None)


def _same_space(value: Value, shape: Sequence[int | str | None]) -> bool:
    mine = value.shape or ()
    return len(mine) == len(shape) and all(
        one == other for one, other in zip(mine[2:], shape[2:], strict=True)
    )


def _window(node: Node, space: int) -> tuple[Axis, ...] | None:
    if node.attribute("ceil_mode", 0):
        return None
    kernel = node.attribute("kernel_shape")
    if kernel is None:
        weight = node.inputs[3 if node.op == "QLinearConv" else 1]
        kernel = (weight.shape or ())[2:] if weight is not None else ()
    strides = node.attribute("strides") or [1] * space
    dilations = node.attribute("dilations") or [1] * space
    if not all(isinstance(k, int) for k in kernel):
        return None
    if not len(kernel) == len(strides) == len(dilations) == space:
        return None
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(node, reach, strides)
    triples = zip(pads, reach, strides, strict=True)
    return tuple(
        Axis(stride, front + back - width + stride, (width - 1) / 2 - front)
        for (front, back), width, stride in triples
    )


def _pads(node: Node, reach: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    mode = node.attribute("auto_pad", "NOTSET")
    space = len(reach)
    if mode in {"NOTSET", ""}:
        given = node.attribute("pads") or [0] * (2 * space)
        return list(zip(given[:space], given[space:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * space
    # ceil(n / s) positions whatever n is; where s divides n this is the padding.
    source = node.inputs[0]
    sizes = (source.shape or ())[2:] if source is not None else ()
    found = []
    for index, (width, stride) in enumerate(zip(reach, strides, strict=True)):
        size = sizes[index] if index < len(sizes) else None
        over = size % stride if isinstance(size, int) else 0
        total = max(width - (over or stride), 0)
        half = total // 2 if mode == "SAME_UPPER" else total - total // 2
        found.append((half, width - 1 - half))
    return found


def _by_sizes(entry: Value, made: Value) -> tuple[Axis, ...] | None:
    """Return strides that sizes suggest where operators do not tell."""
    pairs = zip((entry.shape or ())[2:], (made.shape or ())[2:], strict=True)
    found = []
    for one, other in pairs:
        if one is not None and one == other:
            found.append(Axis())
        elif isinstance(one, int) and isinstance(other, int) and other and not one % other:
            found.append(Axis(one // other, one // other - 1))
        else:
            return None
    return tuple(found)
