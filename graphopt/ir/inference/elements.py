"""What small tensors of whole numbers hold: the arithmetic that exporters do on shapes."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import dims as d
from graphopt.ir.inference import scalars
from graphopt.ir.inference.fact import Elements, objects
from graphopt.ir.inference.rules.generated import range_length
from graphopt.ir.inference.rules.indexing import part
from graphopt.ir.inference.slicing import taken, windows_of
from graphopt.ir.tensor import Tensor
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from graphopt.ir.inference.operands import Operands

    Evaluate = Callable[[Operands, tuple[int, ...], DType], Elements | None]
    """From operands, and shape and element type of the result, to what it holds."""

EVALUATED: dict[str, Evaluate] = {}


def _evaluates(*ops: str) -> Callable[[Evaluate], Evaluate]:
    def keep(function: Evaluate) -> Evaluate:
        EVALUATED.update(dict.fromkeys(ops, function))
        return function

    return keep


def _filled(values: list[Any], shape: tuple[int, ...]) -> Elements | None:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made.reshape(shape) if made.size == np.prod(shape, dtype=int) else None


@_evaluates("Shape")
def _shape(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    dims = o.dims(0)
    return None if dims is None else _filled(list(part(o, dims)), shape)


@_evaluates("Size")
def _size(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    dims = o.dims(0)
    return None if dims is None else _filled([d.product(dims)], shape)


@_evaluates("Constant")
def _constant(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    held = o.node.constant_tensor()
    return None if held is None else objects(held.array())


@_evaluates("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten")
def _same(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found = o.elements(0)
    return (
        None if found is None or found.size != np.prod(shape, dtype=int) else found.reshape(shape)
    )


@_evaluates("Transpose")
def _transpose(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found = o.elements(0)
    return None if found is None else found.transpose(o.attribute("perm"))


@_evaluates("Expand")
def _expand(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found = o.elements(0)
    return None if found is None else np.broadcast_to(found, shape)


@_evaluates("Tile")
def _tile(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found, times = o.elements(0), o.numbers(1)
    return None if found is None or times is None else np.tile(found, times)


@_evaluates("Concat")
def _concatenate(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    parts = [o.elements(i) for i in range(len(o.facts))]
    known = [p for p in parts if p is not None]
    if len(known) != len(parts):
        return None
    return np.concatenate(known, axis=int(o.attribute("axis", 0)))


@_evaluates("Slice")
def _slice(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found, windows = o.elements(0), windows_of(o)
    if found is None or windows is None:
        return None
    places: list[slice] = [slice(None)] * found.ndim
    for start, end, axis, step in windows:
        place = taken(found.shape[axis], start, end, step)
        if place is None:
            return None
        places[axis] = place
    return found[tuple(places)]


@_evaluates("Gather")
def _gather(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found, index = o.elements(0), o.elements(1)
    if found is None or index is None or any(isinstance(i, d.Expr) for i in index.reshape(-1)):
        return None
    rows = np.take(found, index.astype(np.int64).reshape(-1), axis=int(o.attribute("axis", 0)))
    return rows.reshape(shape)


@_evaluates("ScatterND")
def _scatter(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found, index, fresh = o.elements(0), o.elements(1), o.elements(2)
    numbers = o.numbers(1)
    if found is None or fresh is None or numbers is None or index is None:
        return None
    if found.ndim != 1 or index.shape[-1] != 1 or o.attribute("reduction", "none") != "none":
        return None
    made = found.copy()
    made[numbers] = fresh.reshape(-1)
    return made


@_evaluates("ConstantOfShape")
def _fill(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    value = o.attribute("value")
    held = objects(value.array()).reshape(-1)[0] if isinstance(value, Tensor) else 0.0
    return _filled([held] * int(np.prod(shape, dtype=int)), shape)


@_evaluates("Range")
def _range(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    start, _, step = (o.numbers(i) for i in range(3))
    if not start or not step or dtype not in {DType.INT64, DType.INT32}:
        return None
    count = range_length(start[0], (o.numbers(1) or start)[0], step[0])
    return _filled([start[0] + i * step[0] for i in range(shape[0])], shape) if count else None


@_evaluates("NonZero")
def _nonzero(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found = o.elements(0)
    if found is None or any(isinstance(e, d.Expr) for e in found.reshape(-1)):
        return None
    return objects(np.array(np.nonzero(found.astype(np.float64)), dtype=np.int64))


@_evaluates("Cast")
def _cast(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found = o.elements(0)
    if found is None:
        return None
    return _filled([scalars.cast(e, dtype) for e in found.reshape(-1)], shape)


@_evaluates(*scalars.UNARY)
def _unary(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found, compute = o.elements(0), scalars.UNARY[o.node.op]
    return None if found is None else _filled([compute(e) for e in found.reshape(-1)], shape)


@_evaluates(*scalars.BINARY)
def _binary(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    compute = scalars.BINARY[o.node.op]
    sides = [o.elements(i) for i in range(len(o.facts))]
    known = [np.broadcast_to(s, shape).reshape(-1) for s in sides if s is not None]
    if len(known) != len(sides) or (o.node.op == "Mod" and o.attribute("fmod", 0)):
        return None
    held: list[Any] = list(known[0])
    single = o.dtype(0) is DType.FLOAT
    for side in known[1:]:
        held = [
            None if one is None else compute(one, other, o.is_length, single)
            for one, other in zip(held, side, strict=True)
        ]
    return _filled([v if scalars.fits(v, dtype) else None for v in held], shape)


@_evaluates("Where")
def _where(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    sides = [o.elements(i) for i in range(3)]
    known = [np.broadcast_to(s, shape).reshape(-1) for s in sides if s is not None]
    if len(known) != 3:
        return None
    triples = zip(*known, strict=True)
    return _filled([scalars.choose(test, one, other) for test, one, other in triples], shape)


_FOLDS: Mapping[str, Callable[[list[d.Dim]], d.Dim]] = {
    "ReduceMax": lambda sizes: reduce(d.larger, sizes),
    "ReduceMin": lambda sizes: reduce(d.smaller, sizes),
    "ReduceProd": d.product,
    "ReduceSum": d.total,
}


@_evaluates(*_FOLDS)
def _reduce(o: Operands, shape: tuple[int, ...], dtype: DType) -> Elements | None:
    found, fold = o.elements(0), _FOLDS[o.node.op]
    if found is None or found.size == 0 or int(np.prod(shape, dtype=int)) != 1:
        return None
    values = found.reshape(-1).tolist()
    if any(isinstance(v, float) for v in values):
        # Sums of floats depend on their order; an extreme does not.
        extreme = o.node.op in {"ReduceMax", "ReduceMin"} and all(type(v) is float for v in values)
        return _filled([(max if "Max" in o.node.op else min)(values)], shape) if extreme else None
    return _filled([fold([v if isinstance(v, d.Expr) else int(v) for v in values])], shape)


def split_elements(o: Operands, shapes: list[tuple[int, ...]]) -> list[Elements] | None:
    """Return what the parts of a Split hold."""
    found = o.elements(0)
    if found is None:
        return None
    axis = int(o.attribute("axis", 0)) % max(found.ndim, 1)
    ends = np.cumsum([s[axis] for s in shapes])[:-1]
    return list(np.split(found, ends, axis=axis))
