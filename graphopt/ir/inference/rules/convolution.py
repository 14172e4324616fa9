"""Convolutions and pooling: how far a window gets along each axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import MICROSOFT, rule
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.operands import Operands, Result


@rule("Conv")
@rule("FusedConv", domain=MICROSOFT)
def convolve(o: Operands) -> list[Result]:
    """Batch, filters, and the positions of the window."""
    return [(o.dtype(0), convolved(o, o.dims(0), o.dims(1)))]


@rule("ConvInteger")
def convolve_integers(o: Operands) -> list[Result]:
    """Sums of products of bytes."""
    return [(DType.INT32, convolved(o, o.dims(0), o.dims(1)))]


def convolved(o: Operands, dims: Dims | None, weight: Dims | None) -> list[Dim | None] | None:
    """Return the dimensions of a convolution with that weight."""
    rank = len(dims) if dims is not None else len(weight) if weight is not None else 0
    if rank < 3:
        return None
    batch = dims[0] if dims is not None else None
    filters = weight[0] if weight is not None else None
    kernel = o.attribute("kernel_shape") or (weight[2:] if weight is not None else None)
    sizes = dims[2:] if dims is not None else None
    return [batch, filters, *windows(o, sizes, kernel, rank - 2)]


def windows(
    o: Operands, sizes: Dims | None, kernel: list[int] | Dims | None, axes: int
) -> list[Dim | None]:
    """Return the number of positions of a window along each axis."""
    if sizes is None or kernel is None or len(kernel) != len(sizes):
        return [None] * axes
    return [_positions(o, size, kernel[i], i, axes) for i, size in enumerate(sizes)]


def _positions(o: Operands, size: Dim, kernel: Dim, axis: int, axes: int) -> Dim | None:
    stride = (o.attribute("strides") or [1] * axes)[axis]
    padding = o.attribute("auto_pad", "NOTSET")
    if padding in {"SAME_UPPER", "SAME_LOWER"}:
        return d.ceil_divide(size, stride)
    if not isinstance(kernel, int):
        return None
    wide = (kernel - 1) * (o.attribute("dilations") or [1] * axes)[axis] + 1
    pads = o.attribute("pads") if padding == "NOTSET" else None
    before, after = (pads[axis], pads[axes + axis]) if pads else (0, 0)
    room = d.add(size, before + after - wide)
    if o.attribute("ceil_mode", 0):
        return _rounded_up(size, room, stride, before)
    found = d.floor_divide(room, stride)
    return None if found is None else d.add(found, 1)


def _rounded_up(size: Dim, room: Dim, stride: int, before: int) -> Dim | None:
    """Windows may reach over the end, but none starts there."""
    if not isinstance(size, int) or not isinstance(room, int):
        return None
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + before else count


@rule("AveragePool", "MaxPool", "LpPool")
def pool(o: Operands) -> list[Result] | None:
    """Batch and channels stay."""
    dims = o.dims(0)
    kernel = o.attribute("kernel_shape")
    if dims is None or kernel is None or len(dims) < 3:
        return [(o.dtype(0), None), (DType.INT64, None)]
    made = [*dims[:2], *windows(o, dims[2:], kernel, len(dims) - 2)]
    return [(o.dtype(0), made), (DType.INT64, made)]


@rule("ConvTranspose")
def convolve_back(o: Operands) -> list[Result]:
    """Batch, filters, and as far as the windows of all positions reach."""
    dims, weight = o.dims(0), o.dims(1)
    if dims is None or weight is None or len(dims) < 3 or len(weight) != len(dims):
        return [(o.dtype(0), None)]
    filters = d.multiply(weight[1], int(o.attribute("group", 1)))
    sizes = [_reach(o, size, i, weight) for i, size in enumerate(dims[2:])]
    return [(o.dtype(0), [dims[0], filters, *sizes])]


def _reach(o: Operands, size: Dim, axis: int, weight: Dims) -> Dim | None:
    axes = len(weight) - 2
    wanted = o.attribute("output_shape")
    if wanted:
        return int(wanted[axis - axes])
    stride = (o.attribute("strides") or [1] * axes)[axis]
    padding = o.attribute("auto_pad", "NOTSET")
    if padding in {"SAME_UPPER", "SAME_LOWER"}:
        return d.multiply(size, stride)
    kernel = (o.attribute("kernel_shape") or weight[2:])[axis]
    if not isinstance(kernel, int):
        return None
    wide = (kernel - 1) * (o.attribute("dilations") or [1] * axes)[axis] + 1
    pads = (o.attribute("pads") if padding == "NOTSET" else None) or [0] * (2 * axes)
    extra = (o.attribute("output_padding") or [0] * axes)[axis]
    fixed = extra + wide - stride - pads[axis] - pads[axes + axis]
    return d.add(d.multiply(size, stride), fixed)


@rule("DepthToSpace", "SpaceToDepth")
def regroup(o: Operands) -> list[Result]:
    """Channels become pixels, or the other way round."""
    dims = o.dims(0)
    if dims is None or len(dims) != 4:
        return [(o.dtype(0), None)]
    block = int(o.attribute("blocksize"))
    batch, channels, *area = dims
    if o.node.op == "DepthToSpace":
        sizes = [d.multiply(size, block) for size in area]
        return [(o.dtype(0), [batch, d.floor_divide(channels, block * block), *sizes])]
    parts = [d.floor_divide(size, block) for size in area]
    return [(o.dtype(0), [batch, d.multiply(channels, block * block), *parts])]
