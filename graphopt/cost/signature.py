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
        window: elements that a pooling reads for one output; 1 elsewhere.
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
        window=_window(kernel.node) if kernel.kind == "pool" else 1,
    )


def _attention(node: Node) -> Product | None:
    """Return the products of a fused attention as one product with as many outputs."""
    macs, out = macs_of(node), dims(node.outputs[0])
    if not macs or not out:
        return None
    rows = max(math.prod(out[:-1]), 1)
    return Product(rows, out[-1], max(macs // (rows * out[-1]), 1))


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

    0 where one matrix is transposed as a whole, for which the runtime has fast code.
    """
    order = node.attribute("perm", ())
    order = tuple(int(axis) for axis in order) or tuple(reversed(range(len(out))))
    leading = 0
    while leading < len(out) and order[leading] == leading:
        leading += 1
    moved = [axis for place, axis in enumerate(order) if out[place] > 1]
    if math.prod(out[:leading]) == 1 and _is_one_matrix(moved):
        return 0
    kept = 0
    while kept < len(out) and order[len(out) - 1 - kept] == len(out) - 1 - kept:
        kept += 1
    return math.prod(out[len(out) - kept :])


def _is_one_matrix(order: list[int]) -> bool:
    """Whether a permutation swaps two blocks of neighbouring axes: the transpose of a matrix."""
    if not order:
        return True
    ranks = sorted(order)
    start = ranks.index(order[0])
    return order == ranks[start:] + ranks[:start]


def _joined_run(node: Node, out: tuple[int, ...]) -> int:
    """Return how many elements an operator along an axis copies at once."""
    axis = _axis(node, len(out), 0 if node.op in {"Split", "Gather"} else len(out) - 1)
    inner = math.prod(out[axis + 1 :])
    return inner if node.op == "Gather" else inner * out[axis]


def _axis(node: Node, rank: int, default: int) -> int:
    axis = node.attribute("axis", default)
    axis = int(axis) if isinstance(axis, int) else default
    return min(max(axis + rank if axis < 0 else axis, 0), max(rank - 1, 0))


def _window(node: Node) -> int:
    """Return how many elements a pooling reads for one output; a global one reads its input."""
    window = node.attribute("kernel_shape")
    if window is not None:
        return math.prod(int(size) for size in window)
    return max(1, elements(node.inputs[0]) // max(elements(node.outputs[0]), 1))
