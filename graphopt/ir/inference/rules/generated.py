"""Operators whose result is as long as their operands' elements say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import rule
from graphopt.ir.tensor import Tensor
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.operands import Operands, Result

_SIZES_BY_OPERAND = 11


@rule("Constant")
def constant(o: Operands) -> list[Result] | None:
    """What it holds."""
    held = o.node.constant_tensor()
    return None if held is None else [(held.dtype, held.shape)]


@rule("ConstantOfShape")
def fill(o: Operands) -> list[Result]:
    """As the operand says."""
    value = o.attribute("value")
    kind = value.dtype if isinstance(value, Tensor) else DType.FLOAT
    sizes, count = o.sizes(0), o.dims(0)
    if sizes is not None:
        return [(kind, sizes)]
    rank = count[0] if count else None
    return [(kind, [None] * rank if isinstance(rank, int) and rank < 64 else None)]


@rule("Range")
def count(o: Operands) -> list[Result]:
    """As many steps as fit between start and limit."""
    ends = [o.elements(i) for i in range(3)]
    start, limit, step = (None if e is None or e.size != 1 else e.reshape(-1)[0] for e in ends)
    return [(o.dtype(0), [range_length(start, limit, step)])]


def range_length(start: Any, limit: Any, step: Any) -> Dim | None:
    """Return max(ceil((limit - start) / step), 0); None where it depends on an unknown sign."""
    numbers = all(isinstance(v, int | float) for v in (start, limit, step))
    if numbers:
        return max(math.ceil((limit - start) / step), 0) if step else None
    whole = all(isinstance(v, int | d.Expr) for v in (start, limit))
    if not whole or not isinstance(step, int) or step == 0:
        return None
    way = d.subtract(limit, start) if step > 0 else d.subtract(start, limit)
    steps = d.ceil_divide(way, abs(step))
    return None if steps is None else d.larger(steps, 0)


@rule("EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli")
def imitate(o: Operands) -> list[Result]:
    """As the operand, of a type that may be another."""
    kind = o.attribute("dtype")
    return [(o.dtype(0) if kind is None else DType(kind), o.dims(0))]


@rule("Upsample")
def upsample(o: Operands) -> list[Result]:
    """Each axis so many times as long, rounded down."""
    scales = _floats(o, 1) if o.has(1) else o.attribute("scales")
    return [(o.dtype(0), _scaled(o, scales, None))]


@rule("Resize")
def resize(o: Operands) -> list[Result] | None:
    """As long as the sizes say, or so many times as long, rounded down."""
    if o.opset < _SIZES_BY_OPERAND:
        return [(o.dtype(0), _scaled(o, _floats(o, 1), None))]
    if o.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    if str(o.attribute("coordinate_transformation_mode", "")).startswith("tf_crop"):
        return None
    axes = o.attribute("axes")
    if not o.has(3):
        return [(o.dtype(0), _scaled(o, _floats(o, 2), axes))]
    dims, sizes = o.dims(0), o.sizes(3)
    if dims is None:
        return [(o.dtype(0), None)]
    places = [a % len(dims) for a in axes] if axes else list(range(len(dims)))
    made: list[Dim | None] = list(dims)
    for i, axis in enumerate(places):
        made[axis] = sizes[i] if sizes is not None and len(sizes) == len(places) else None
    return [(o.dtype(0), made)]


def _floats(o: Operands, index: int) -> list[float] | None:
    elements = o.elements(index)
    if elements is None or any(isinstance(e, d.Expr) for e in elements.reshape(-1)):
        return None
    return [float(e) for e in elements.reshape(-1)] or None


def _scaled(
    o: Operands, scales: list[float] | None, axes: list[int] | None
) -> list[Dim | None] | None:
    dims = o.dims(0)
    if dims is None:
        return None
    places = [a % len(dims) for a in axes] if axes else list(range(len(dims)))
    made: list[Dim | None] = list(dims)
    for i, axis in enumerate(places):
        known = scales is not None and len(scales) == len(places)
        made[axis] = _times(dims[axis], scales[i]) if known and scales is not None else None
    return made


def _times(size: Dim, scale: float) -> Dim | None:
    if isinstance(size, int):
        return math.floor(np.float32(size) * np.float32(scale))
    if scale == int(scale):
        return d.multiply(size, int(scale))
    parts = 1 / scale
    return d.floor_divide(size, int(parts)) if parts == int(parts) else None
