"""Slice: a window on one axis or several, which is found again in what is left of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    operand,
    position,
    rank,
    result,
    together,
    whole_numbers,
)
from graphopt.analysis.coupling.rules.shape_operands import patch
from graphopt.analysis.symbols import Symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

BY_INPUT = 10
"""The first operator set in which Slice takes its window as inputs."""
_BEFORE_FIRST = -(2**31)
"""An end that is in front of the first index, however long the axis is."""


class _Window(NamedTuple):
    """What is taken of one axis, as Slice says it; None where a bound is computed from symbols."""

    start: int | None
    end: int | None
    step: int

    def picks(self, size: int) -> Array | None:
        """Return the indices that are taken, in order; None when they are not known."""
        if self.start is None or self.end is None or self.step == 0:
            return None
        # Python starts nowhere where ONNX starts at the first index.
        return np.arange(size)[max(self.start, -size) : self.end : self.step]


def _windows(
    node: Node, vector: Callable[[Value | None], Sequence[int | str] | None]
) -> dict[int, _Window] | None:
    """Return {axis: window}; None when even the axes are not known."""
    count = rank(operand(node, 0))
    if node.graph.opset < BY_INPUT:
        given = [node.attribute(name) for name in ("starts", "ends", "axes")] + [None]
    else:
        given = [vector(operand(node, index)) for index in range(1, 5)]
    starts, ends, axes, steps = given
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    if any(operand(node, i) is not None and given[i - 1] is None for i in (3, 4)):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    places = [position(axis, count) for axis in axes]
    if None in places or not len(starts) == len(places) == len(steps) == len(set(places)):
        return None
    if not all(isinstance(step, int) for step in steps):
        return None
    bounds = zip(places, starts, ends, steps, strict=True)
    return {place: _Window(_known(a), _known(b), step) for place, a, b, step in bounds}  # type: ignore[misc]


def _known(bound: int | str) -> int | None:
    return bound if isinstance(bound, int) else None


def _couple_slice(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    windows = _windows(node, links.symbols.vector)
    if source is None or made is None or rank(source) != rank(made) or windows is None:
        links.freeze_node(node, f"the window of Slice `{node.label}` is not known")
        return
    for place in range(rank(source)):
        one, other = Axis(source, place), Axis(made, place)
        if place not in windows:
            together(links, node, [one, other])
            continue
        picks = windows[place].picks(one.size) if one.size is not None else None
        if picks is None or other.size not in {picks.size, None}:
            for axis in (one, other):
                links.freeze(axis, f"the window of Slice `{node.label}` is not known")
        elif other.size:
            links.tie(one, other, picks)


# -- after a cut ---------------------------------------------------------------------------


def _resize_slice(node: Node, cut: Cut) -> None:
    """Find the windows again; where what is left of one has gaps, gather it instead."""
    source = operand(node, 0)
    kept = {i: cut.keep(source, i) for i in range(rank(source))} if source is not None else {}
    if not any(keep is not None for keep in kept.values()):
        return
    windows = _windows(node, _reader(node)) or {}
    gathered: dict[int, Array] = {}
    for entry, (place, window) in enumerate(windows.items()):
        keep = kept.get(place)
        picks = window.picks(keep.size) if keep is not None else None
        if keep is None or picks is None:
            continue
        left = (np.cumsum(keep) - 1)[picks[keep[picks]]]
        found = _regular(left, any_step=operand(node, 4) is not None)
        if found is None:
            gathered[place] = left
            found = _Window(0, left.size, 1)
        _write(node, entry, found)
    _gather(node, gathered, cut)


def _reader(node: Node) -> Callable[[Value | None], Sequence[int | str] | None]:
    if all(value is None or value.is_constant for value in node.inputs[1:]):
        return whole_numbers
    return Symbols(node.graph).vector


def _regular(picks: Array, *, any_step: bool) -> _Window | None:
    """Return the window that takes these indices; None when they are not evenly spaced."""
    steps = np.unique(np.diff(picks)).tolist() or [1]
    if len(steps) > 1 or not picks.size or (steps != [1] and not any_step):
        return None
    end = int(picks[-1]) + (1 if steps[0] > 0 else -1)
    return _Window(int(picks[0]), end if end >= 0 else _BEFORE_FIRST, steps[0])


def _write(node: Node, entry: int, window: _Window) -> None:
    assert window.start is not None
    assert window.end is not None
    if node.graph.opset < BY_INPUT:
        for name, bound in (("starts", window.start), ("ends", window.end)):
            bounds = list(node.attribute(name))
            bounds[entry] = bound
            node.set_attribute(name, bounds)
        return
    patch(node, 1, {entry: window.start})
    patch(node, 2, {entry: window.end})
    patch(node, 4, {entry: window.step})


def _gather(node: Node, gathered: Mapping[int, Array], cut: Cut) -> None:
    """Take indices of some axes in front of a Slice."""
    graph, source = node.graph, operand(node, 0)
    if source is None or source.shape is None or not gathered:
        return
    shape = [
        size if cut.keep(source, i) is None else cut.size(source, i)
        for i, size in enumerate(source.shape)
    ]
    dtype = source.dtype
    for place, picks in gathered.items():
        numbers = graph.add_constant(f"{node.label}_picks", picks.astype(np.int64))
        name = graph.unique_name(f"{node.label}_picked")
        source = graph.add_node("Gather", [source, numbers], [name], {"axis": place}).outputs[0]
        shape[place] = picks.size
        source.dtype, source.shape = dtype, tuple(shape)
    node.set_input(0, source)
    graph.sort()


RULES: tuple[CouplingRule, ...] = (CouplingRule("Slice", _couple_slice, _resize_slice),)
