"""What decides the time of one kernel, as plain numbers: it can be measured, stored and fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.shapes import dims, elements, nbytes
from graphopt.cost.work import CONVOLUTIONS, Product, is_channels_last, macs_of, product_of

if TYPE_CHECKING:
    from graphopt.cost.kernels import Kernel
    from graphopt.ir import Node

_IMAGE_RANK = 3
"""Rank from which a tensor has channels and places."""

_JOINS = frozenset({"Concat", "Split", "QLinearConcat", "Slice", "Pad", "Gather"})


@dataclass(frozen=True)
class Signature:
    """One kernel without its graph.

    Args:
        kernel: the runtime's operator, such as ``QLinearConv``.
        kind: cost class, as in ``KernelCost``.
        dtype: what the arithmetic is done in: float32, float16 or int8.
        layout: plain, blocked or channels_last.
        product: the matrix product inside; None for kernels without one.
        elements: outputs.
        read_bytes: activations read.
        weight_bytes: constants read.
        write_bytes: activations written.
        line: outputs that lie side by side and are processed together: the width of the image of a
            convolution or pooling, the axis of a softmax or normalization, the run of elements
            that a copy keeps together or that meets one run of another operand; 0 where all of
            them are, or nothing is known.
        window: elements that a pooling reads for one output; times that a transposed matrix with a
            short side fits into a tile; 1 elsewhere.
    """

    kernel: str
    kind: str
    dtype: str
    layout: str
    product: Product | None
    elements: int
    read_bytes: int
    weight_bytes: int
    write_bytes: int
    line: int = 0
    window: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, without padding."""
        return self.product.macs if self.product is not None else 0


def signature_of(kernel: Kernel) -> Signature:
    """Return what decides the time of ``kernel``; tensors of unknown size count as small."""
    product = product_of(kernel.node) or _attention(kernel.node)
    attends = product is not None and kernel.kind == "other"
    return Signature(
        kernel=kernel.name,
        kind="attention" if attends else kernel.kind,
        dtype=kernel.dtype,
        layout=kernel.layout,
        product=product,
        elements=sum(elements(v) for v in kernel.writes),
        read_bytes=0 if kernel.is_view else sum(nbytes(v) for v in kernel.reads),
        weight_bytes=sum(nbytes(v) for v in kernel.constants),
        write_bytes=0 if kernel.is_view else sum(nbytes(v) for v in kernel.writes),
        line=_line(kernel.node, kernel.kind),
        window=_window(kernel.node, kernel.kind),
    )


def _attention(node: Node) -> Product | None:
    """Return the products of a fused attention as one with the rows of all heads."""
    macs, out = macs_of(node), dims(node.outputs[0])
    if not macs or not out:
        return None
    heads = node.attribute("q_num_heads", node.attribute("num_heads", 1))
    heads = heads if isinstance(heads, int) and heads > 0 and out[-1] % heads == 0 else 1
    heads = heads if len(out) <= _IMAGE_RANK else 1
    rows, columns = max(math.prod(out[:-1]), 1) * heads, max(out[-1] // heads, 1)
    return Product(rows, columns, max(macs // (rows * columns), 1))


def _line(node: Node, kind: str) -> int:
    """Return how many outputs are processed side by side; 0 where nothing is known."""
    out = dims(node.outputs[0])
    if not out:
        return 0
    if node.op == "Transpose":
        return _kept_run(node, out)
    if node.op in _JOINS:
        return _joined_run(node, out)
    if kind == "elementwise":
        return _met_run(node, out)
    if kind == "reduction":
        given = dims(node.inputs[0])
        return given[_axis(node, len(given), -1)] if given else 0
    if node.op in CONVOLUTIONS or kind == "pool":
        return _width(node, out)
    return out[-1]


def _width(node: Node, out: tuple[int, ...]) -> int:
    if len(out) < _IMAGE_RANK:
        return 0
    return out[-2] if is_channels_last(node) else out[-1]


def _met_run(node: Node, out: tuple[int, ...]) -> int:
    """Return how many outputs read one run or one element of a smaller operand; 0 for all."""
    run = 0
    for value in node.inputs:
        shape = dims(value)
        if value is None or math.prod(shape) in {1, math.prod(out)}:
            continue
        run = min(run or math.prod(out), _trailing(shape, out))
    return run


def _trailing(shape: tuple[int, ...], out: tuple[int, ...]) -> int:
    """Return the product of the last axes of ``out`` that an operand has whole, or not at all."""
    padded = (1,) * (len(out) - len(shape)) + shape
    has = padded[-1] == out[-1]
    count = 1
    for own, axis in zip(reversed(padded), reversed(out), strict=True):
        if axis > 1 and (own == axis) != has:
            break
        count *= axis
    return count


def _kept_run(node: Node, out: tuple[int, ...]) -> int:
    """Return how many elements lie together before and after a transposition.

    0 where matrices are transposed as a whole, for which the runtime has fast code.
    """
    kept, moved, ranks = _moved(node, out)
    return kept if (kept > 1 and moved) or not _shorter_side(moved, ranks) else 0


def _moved(node: Node, out: tuple[int, ...]) -> tuple[int, list[tuple[int, int]], list[int]]:
    """Return the elements that stay together, and axes with sizes that move, and those in order."""
    order = node.attribute("perm", ())
    order = tuple(int(axis) for axis in order) or tuple(reversed(range(len(out))))
    moved = [(axis, out[place]) for place, axis in enumerate(order) if out[place] > 1]
    ranks = sorted(axis for axis, _ in moved)
    while moved and moved[0][0] == ranks[0]:
        del moved[0], ranks[0]
    kept = 1
    while moved and moved[-1][0] == ranks[-1]:
        kept *= moved.pop()[1]
        ranks.pop()
    return kept, moved, ranks


_TILE = 16
"""Side from which a matrix is transposed in tiles."""


def _shorter_side(moved: list[tuple[int, int]], ranks: list[int]) -> int:
    """Return the shorter side of the matrix whose transpose a permutation is; 0 if it is none.

    One axis trades places with the neighbouring ones beside it: the runtime moves single axes.
    """
    if not moved:
        return _TILE
    order = [axis for axis, _ in moved]
    start = ranks.index(order[0])
    if order != ranks[start:] + ranks[:start] or min(start, len(order) - start) > 1:
        return 0
    first = math.prod(size for axis, size in moved if axis >= ranks[start])
    return min(first, math.prod(size for _, size in moved) // first)


def _joined_run(node: Node, out: tuple[int, ...]) -> int:
    """Return how many elements an operator along an axis copies at once."""
    axis = _axis(node, len(out), 0 if node.op in {"Split", "Gather"} else len(out) - 1)
    inner = math.prod(out[axis + 1 :])
    return inner if node.op == "Gather" else inner * out[axis]


def _axis(node: Node, rank: int, default: int) -> int:
    axis = node.attribute("axis", default)
    axis = int(axis) if isinstance(axis, int) else default
    return min(max(axis + rank if axis < 0 else axis, 0), max(rank - 1, 0))


def _window(node: Node, kind: str) -> int:
    """Return how many elements a pooling reads for one output; a global one reads its input.

    For the transposition of a matrix, how often its shorter side fits into a tile.
    """
    if node.op == "Transpose":
        kept, moved, ranks = _moved(node, dims(node.outputs[0]))
        side = _shorter_side(moved, ranks) if kept == 1 else 0
        return math.ceil(_TILE / side) if side else 1
    if kind != "pool":
        return 1
    window = node.attribute("kernel_shape")
    if window is not None:
        return math.prod(int(size) for size in window)
    return max(1, elements(node.inputs[0]) // max(elements(node.outputs[0]), 1))
