"""Operators that move elements and compute none: reshaping, joining, cutting, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import rule
from graphopt.ir.inference.rules.elementwise import broadcast_all
from graphopt.ir.inference.slicing import cut, windows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.operands import Operands, Result

_LEFT_OVER, _COPIED = -1, 0
_SPLIT_BY_COUNT = 18
"""From this operator set on the last part of a Split may be shorter."""


@rule("Identity")
def pass_on(o: Operands) -> list[Result] | None:
    """The same; what is no tensor is left to onnx."""
    return None if o.fact(0).proto is not None else [(o.dtype(0), o.dims(0))]


@rule("Reshape")
def reshape(o: Operands) -> list[Result]:
    """As the second operand says: 0 copies a dimension, -1 is what is left."""
    if o.has(1):
        target, count = o.sizes(1), o.dims(1)
    else:
        target, count = o.attribute("shape"), None
    if target is None:
        rank = count[0] if count is not None and len(count) == 1 else None
        return [(o.dtype(0), [None] * rank if isinstance(rank, int) and rank < 64 else None)]
    return [(o.dtype(0), _reshaped(o, target))]


def _reshaped(o: Operands, target: Sequence[Dim]) -> list[Dim | None]:
    """Return the dimensions that a Reshape to ``target`` gives.

    A symbol in the target is taken not to be 0: there a Reshape would copy, which no exporter
    means by it.
    """
    source = o.dims(0)
    made: list[Dim | None] = []
    for i, size in enumerate(target):
        if size == _COPIED and not o.attribute("allowzero", 0):
            made.append(source[i] if source is not None and i < len(source) else None)
            continue
        made.append(size if d.is_at_least(size, 0) or o.is_length(size) else None)
    if _LEFT_OVER in target and list(target).count(_LEFT_OVER) == 1:
        at = list(target).index(_LEFT_OVER)
        made[at] = _rest(source, [*made[:at], *made[at + 1 :]])
    return made


def _rest(source: Dims | None, others: Sequence[Dim | None]) -> Dim | None:
    """Return the dimension that is left for -1."""
    known = [o for o in others if o is not None]
    if source is None or len(known) != len(others):
        return None
    whole, taken = d.product(source), d.product(known)
    if taken == 0:
        return 0 if whole == 0 else None
    return d.floor_divide(whole, taken)


@rule("Flatten")
def flatten(o: Operands) -> list[Result]:
    """Two dimensions: the axes before one, and the others."""
    dims = o.dims(0)
    if dims is None:
        return [(o.dtype(0), [None, None])]
    axis = int(o.attribute("axis", 1))
    axis += len(dims) if axis < 0 else 0
    return [(o.dtype(0), [d.product(dims[:axis]), d.product(dims[axis:])])]


@rule("Transpose")
def transpose(o: Operands) -> list[Result]:
    """The axes in another order."""
    dims = o.dims(0)
    if dims is None:
        return [(o.dtype(0), None)]
    order = o.attribute("perm") or list(range(len(dims)))[::-1]
    return [(o.dtype(0), [dims[axis] for axis in order])]


@rule("Squeeze")
def squeeze(o: Operands) -> list[Result]:
    """Axes of length 1 are gone: those that are named, or all."""
    dims = o.dims(0)
    given, axes = o.listed("axes", 1)
    if dims is None or (given and axes is None):
        return [(o.dtype(0), None)]
    if not given:
        if any(not isinstance(size, int) and (d.least(size) or 0) < 2 for size in dims):
            return [(o.dtype(0), None)]
        axes = [i for i, size in enumerate(dims) if size == 1]
    gone = {a % len(dims) for a in axes or ()} if dims else set()
    return [(o.dtype(0), [size for i, size in enumerate(dims) if i not in gone])]


@rule("Unsqueeze")
def unsqueeze(o: Operands) -> list[Result]:
    """Axes of length 1 are inserted."""
    dims = o.dims(0)
    _, axes = o.listed("axes", 1)
    if dims is None or axes is None:
        return [(o.dtype(0), None)]
    made: list[Dim] = list(dims)
    rank = len(dims) + len(axes)
    for axis in sorted(a % rank for a in axes):
        made.insert(axis, 1)
    return [(o.dtype(0), made)]


@rule("Expand")
def expand(o: Operands) -> list[Result]:
    """Both shapes stretched to each other."""
    target = o.sizes(1)
    if target is None:
        return [(o.dtype(0), _of_rank(o, 1))]
    return [(o.dtype(0), broadcast_all([o.dims(0), tuple(target)]))]


def _of_rank(o: Operands, index: int) -> list[Dim | None] | None:
    """Return as many unknown dimensions as a shape operand of unknown elements has elements."""
    count, dims = o.dims(index), o.dims(0)
    if not count or not isinstance(count[0], int) or dims is None or count[0] > 64:
        return None
    return [None] * max(count[0], len(dims))


@rule("Tile")
def tile(o: Operands) -> list[Result] | None:
    """Each axis so many times as long."""
    dims, times = o.dims(0), o.sizes(1)
    if o.opset < 6 or dims is None:
        return None
    if times is None or len(times) != len(dims):
        return [(o.dtype(0), [None] * len(dims))]
    pairs = zip(dims, times, strict=True)
    return [(o.dtype(0), [d.multiply(size, count) for size, count in pairs])]


@rule("Concat")
def concatenate(o: Operands) -> list[Result]:
    """Lengths along one axis add up; the others are those of any operand."""
    shapes = [o.dims(i) for i in range(len(o.facts))]
    known = [s for s in shapes if s is not None]
    kind = next((t for i in range(len(shapes)) if (t := o.dtype(i)) is not None), None)
    if not known or len({len(s) for s in known}) != 1 or not known[0]:
        return [(kind, None)]
    axis = int(o.attribute("axis", 1)) % len(known[0])
    made: list[Dim | None] = [
        next((s[i] for s in known if isinstance(s[i], int)), known[0][i])
        for i in range(len(known[0]))
    ]
    made[axis] = d.total(s[axis] for s in known) if len(known) == len(shapes) else None
    return [(kind, made)]


@rule("Split")
def split(o: Operands) -> list[Result]:
    """Parts of one axis."""
    dims, count = o.dims(0), len(o.node.outputs)
    if dims is None:
        return [(o.dtype(0), None)] * count
    axis = int(o.attribute("axis", 0)) % max(len(dims), 1)
    parts = _parts(o, dims[axis], count)
    return [(o.dtype(0), [*dims[:axis], part, *dims[axis + 1 :]]) for part in parts]


def _parts(o: Operands, size: Dim, count: int) -> Sequence[Dim | None]:
    if o.has(1):
        given = o.sizes(1)
        return given if given is not None and len(given) == count else [None] * count
    named = o.attribute("split")
    if named:
        return list(named) if len(named) == count else [None] * count
    equal = d.exact_quotient(size, count)
    if equal is not None:
        return [equal] * count
    if o.opset >= _SPLIT_BY_COUNT and isinstance(size, int):
        whole = -(-size // count)
        return [*[whole] * (count - 1), size - whole * (count - 1)]
    return [None] * count


@rule("Slice")
def slice_(o: Operands) -> list[Result]:
    """From start to end along each axis."""
    dims = o.dims(0)
    found = windows_of(o)
    if dims is None or found is None:
        return [(o.dtype(0), [None] * len(dims) if dims is not None and not found else None)]
    made: list[Dim | None] = list(dims)
    for start, end, axis, step in found:
        made[axis] = cut(dims[axis], start, end, step, o.is_length)
    return [(o.dtype(0), made)]


@rule("Pad")
def pad(o: Operands) -> list[Result]:
    """Longer at both ends of each axis."""
    dims = o.dims(0)
    pads = o.sizes(1) if o.has(1) else o.attribute("pads") or o.attribute("paddings")
    if dims is None or (o.has(3) and o.numbers(3) is None):
        return [(o.dtype(0), None if dims is None else [None] * len(dims))]
    axes = [a % len(dims) for a in o.numbers(3) or ()] if o.has(3) else list(range(len(dims)))
    if pads is None or len(pads) != 2 * len(axes):
        return [(o.dtype(0), [None] * len(dims))]
    made: list[Dim | None] = list(dims)
    for i, axis in enumerate(axes):
        made[axis] = d.add(dims[axis], d.add(pads[i], pads[len(axes) + i]))
    return [(o.dtype(0), made)]
