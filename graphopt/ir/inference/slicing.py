"""How long a slice is, of an axis whose length may be a symbol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.operands import Operands

_ENDLESS = 2**31 - 1
"""Ends from here on mean the end of the axis: no axis is as long."""
_BY_OPERANDS = 10
"""The operator set from which on starts and ends are operands."""

Window = tuple["Dim", "Dim", int, int]
"""Start, end, axis, step."""


def windows_of(o: Operands) -> list[Window] | None:
    """Return what a Slice takes of each axis; None where axes or steps are not known.

    Empty when there are too few operands to know even the axes.
    """
    if o.opset < _BY_OPERANDS:
        starts, ends = o.attribute("starts"), o.attribute("ends")
        axes, steps = o.attribute("axes"), None
    else:
        starts, ends = o.sizes(1), o.sizes(2)
        axes, steps = o.numbers(3), o.numbers(4)
        if (o.has(3) and axes is None) or (o.has(4) and steps is None):
            return None
    dims = o.dims(0)
    if starts is None or ends is None or dims is None:
        return None
    axes = [a % len(dims) for a in axes] if axes is not None else list(range(len(starts)))
    steps = steps if steps is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        return None
    return list(zip(starts, ends, axes, steps, strict=True))


def _bound(at: Dim, size: Dim, is_length: Callable[[Dim], bool]) -> Dim | None:
    """Return a start or an end, counted from the front, between 0 and the length."""
    if isinstance(at, int):
        if at >= _ENDLESS:
            return size
        if at <= -_ENDLESS:
            return 0
        return d.smaller(at, size) if at >= 0 else d.larger(d.add(size, at), 0)
    if d.is_at_least(at, 0) or is_length(at):
        return d.smaller(at, size)
    # -T of an axis of T + P is P.
    counted = d.add(size, at)
    if d.is_at_least(d.multiply(at, -1), 1):
        return d.larger(counted, 0)
    return None


def cut(size: Dim, start: Dim, end: Dim, step: int, is_length: Callable[[Dim], bool]) -> Dim | None:
    """Return how many elements a slice takes; None where that depends on unknown signs."""
    if step == 0:
        return None
    known = (size, start, end)
    if all(isinstance(v, int) for v in known):
        length, first, last = [v for v in known if isinstance(v, int)]
        return len(range(*slice(first, last, step).indices(length)))
    if step < 0:
        return _reversed(size, start, end, -step)
    first_, last_ = _bound(start, size, is_length), _bound(end, size, is_length)
    if first_ is None or last_ is None:
        return None
    if isinstance(start, int) and start < 0 and last_ == size:
        length_ = d.smaller(size, -start)
    else:
        # Behind the end of the axis there is nothing, however far behind.
        from_ = start if d.is_at_least(start, 0) else first_
        length_ = d.larger(d.subtract(last_, from_), 0)
    return length_ if step == 1 else d.ceil_divide(length_, step)


def _reversed(size: Dim, start: Dim, end: Dim, step: int) -> Dim | None:
    """Return the length of a whole axis walked backwards."""
    from_end = isinstance(start, int) and (start >= _ENDLESS or start == -1)
    to_front = isinstance(end, int) and end <= -_ENDLESS
    return d.ceil_divide(size, step) if from_end and to_front else None


def taken(count: int, start: Dim, end: Dim, step: int) -> slice | None:
    """Return the Python slice of an axis of ``count`` elements, where all is known."""
    if not isinstance(start, int) or not isinstance(end, int) or step == 0:
        return None
    found = range(count)[start:end:step]
    if step > 0:
        return slice(found.start, found.stop, step)
    return slice(found.start, found.stop if found.stop >= 0 else None, step)
