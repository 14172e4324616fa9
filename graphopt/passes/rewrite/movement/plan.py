"""The shortest way to move data: Transpose and Split to read, Concat and Transpose to write."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import static_shape
from graphopt.passes.patterns import building

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from graphopt.ir import Graph, Value
    from graphopt.passes.rewrite.movement.source_map import SourceMap

    Array = np.ndarray[Any, Any]
    Shape = tuple[int, ...]

RELABEL = 0.5
"""Cost of an operator that copies nothing (Reshape), where one that copies costs 1."""
_MAX_AXES = 4
"""Tensors with more axes longer than 1 are not tried in every order."""


@dataclass(frozen=True)
class Layout:
    """Rows of ``inner`` along one axis: [1, …, 1, n, *inner]."""

    axis: int
    inner: Shape

    @classmethod
    def of(cls, shape: Shape) -> Layout:
        """Return the layout in which parts of this shape lie one after the other."""
        axis = next((i for i, d in enumerate(shape) if d != 1), max(len(shape) - 1, 0))
        return cls(axis, shape[axis + 1 :])

    @property
    def step(self) -> int:
        """Number of elements of one row."""
        return math.prod(self.inner)

    def shape(self, elements: int) -> Shape:
        """Return the shape of so many elements in this layout."""
        return (*[1] * self.axis, elements // self.step, *self.inner)


def orders(shape: Shape) -> Iterator[tuple[int, ...]]:
    """Yield the orders of the axes worth trying: as they are, then one axis moved, then others."""
    long = [i for i, d in enumerate(shape) if d != 1]
    unit = [i for i, d in enumerate(shape) if d == 1]
    yield tuple(range(len(shape)))
    if len(long) > _MAX_AXES:
        return
    others = sorted(itertools.permutations(long), key=_moved_axes)
    yield from ((*unit, *order) for order in others[1:])


def _moved_axes(order: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Prefer orders that differ by moving one axis: the runtime has a fast copy for them."""
    rest = sorted(order)
    single = any([a for a in order if a != axis] == [a for a in rest if a != axis] for axis in rest)
    return (0 if list(order) == rest else 1 if single else 2), tuple(order)


# -- reading -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadPlan:
    """Some parts of one source: at most one Transpose, one Reshape and one Split."""

    source: Value
    order: tuple[int, ...]
    layout: Layout
    pieces: tuple[tuple[int, int], ...]
    """(start, size) in elements, of everything that the Split returns."""
    targets: tuple[tuple[Value, int], ...]
    """Each target with the piece that it is."""

    @property
    def cost(self) -> float:
        """Number of operators, weighted."""
        shape = static_shape(self.source) or ()
        moved = list(self.order) != sorted(self.order)
        before = tuple(shape[i] for i in self.order)
        cost = 1.0 if moved else 0.0
        if len(self.pieces) > 1:
            cost += 1.0 + RELABEL * (before != self.layout.shape(math.prod(shape)))
        for target, piece in self.targets:
            held = self.layout.shape(self.pieces[piece][1]) if len(self.pieces) > 1 else before
            cost += RELABEL * (static_shape(target) != held)
        return cost

    def emit(self, graph: Graph) -> dict[Value, Value]:
        """Add the operators; return what replaces each target."""
        moved = building.transpose(graph, self.source, self.order)
        parts = self._parts(graph, moved) if len(self.pieces) > 1 else {0: moved}
        return {
            target: building.reshape(graph, parts[piece], static_shape(target) or ())
            for target, piece in self.targets
        }

    def _parts(self, graph: Graph, moved: Value) -> dict[int, Value]:
        elements = math.prod(static_shape(self.source) or ())
        flat = building.reshape(graph, moved, self.layout.shape(elements))
        axis, step = self.layout.axis, self.layout.step
        wanted = sorted({piece for _, piece in self.targets})
        if len(wanted) == 1:
            start, size = self.pieces[wanted[0]]
            return {wanted[0]: building.cut(graph, flat, axis, start // step, size // step)}
        sizes = [size // step for _, size in self.pieces]
        return dict(enumerate(building.split(graph, flat, axis, sizes)))


def plan_reads(source: Value, targets: Sequence[Value], known: SourceMap) -> ReadPlan | None:
    """Return the cheapest way to read all targets, which are parts of one source."""
    plans = []
    for order in orders(static_shape(source) or ()):
        found = _pieces(source, targets, known, order)
        if found is not None:
            pieces, places = found
            plans += [
                ReadPlan(source, order, layout, pieces, places)
                for layout in dict.fromkeys(Layout.of(static_shape(t) or ()) for t in targets)
                if all(size % layout.step == 0 for _, size in pieces)
            ]
    return min(plans, key=lambda p: p.cost, default=None)


def _pieces(
    source: Value, targets: Sequence[Value], known: SourceMap, order: tuple[int, ...]
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[Value, int], ...]] | None:
    """Cut the transposed source so that each target is one piece, if that is possible."""
    numbers = known.codes(source).transpose(order).reshape(-1) - known.start(source)
    place = np.empty_like(numbers)
    place[numbers] = np.arange(numbers.size)
    spans = []
    for target in targets:
        at = place[known.codes(target).reshape(-1) - known.start(source)]
        if not np.array_equal(at, at[0] + np.arange(at.size)):
            return None
        spans.append((int(at[0]), int(at.size)))
    pieces: list[tuple[int, int]] = []
    end = 0
    for start, size in sorted(set(spans)):
        if start < end:
            return None
        if start > end:
            pieces.append((end, start - end))
        pieces.append((start, size))
        end = start + size
    if end < numbers.size:
        pieces.append((end, numbers.size - end))
    where = {piece: i for i, piece in enumerate(pieces)}
    return tuple(pieces), tuple((t, where[s]) for t, s in zip(targets, spans, strict=True))


# -- writing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class WritePlan:
    """Several sources, each whole, in one target: Concat, Reshape and at most one Transpose."""

    target: Value
    order: tuple[int, ...]
    layout: Layout
    sources: tuple[Value, ...]

    @property
    def cost(self) -> float:
        """Number of operators, weighted."""
        shape = static_shape(self.target) or ()
        moved = list(self.order) != sorted(self.order)
        before = tuple(shape[i] for i in self.order)
        joined = self.layout.shape(math.prod(shape))
        relabelled = sum(
            static_shape(s) != self.layout.shape(math.prod(static_shape(s) or ()))
            for s in self.sources
        )
        return 1.0 + moved + RELABEL * ((joined != before) + relabelled)

    def emit(self, graph: Graph) -> dict[Value, Value]:
        """Add the operators; return what replaces the target."""
        shape = static_shape(self.target) or ()
        parts = [
            building.reshape(graph, s, self.layout.shape(math.prod(static_shape(s) or ())))
            for s in self.sources
        ]
        joined = building.concat(
            graph, parts, self.layout.axis, self.layout.shape(math.prod(shape))
        )
        shaped = building.reshape(graph, joined, tuple(shape[i] for i in self.order))
        back = [self.order.index(axis) for axis in range(len(shape))]
        return {self.target: building.transpose(graph, shaped, back)}


def plan_write(target: Value, known: SourceMap) -> WritePlan | None:
    """Return the cheapest way to join the sources of a target."""
    plans = []
    shape = static_shape(target) or ()
    for order in orders(shape):
        sources = _whole_sources(known.codes(target).transpose(order).reshape(-1), known)
        if sources is None:
            continue
        shapes = [*(static_shape(s) or () for s in sources), tuple(shape[i] for i in order)]
        plans += [
            WritePlan(target, order, layout, sources)
            for layout in dict.fromkeys(Layout.of(s) for s in shapes)
            if all(math.prod(static_shape(s) or ()) % layout.step == 0 for s in sources)
        ]
    return min(plans, key=lambda p: p.cost, default=None)


def _whole_sources(numbers: Array, known: SourceMap) -> tuple[Value, ...] | None:
    """Return the sources that follow each other here, if each is there whole and in order."""
    found = []
    at = 0
    while at < numbers.size:
        source = known.source_of(int(numbers[at]))
        size = math.prod(static_shape(source) or ())
        expected = known.start(source) + np.arange(size)
        if not np.array_equal(numbers[at : at + size], expected):
            return None
        found.append(source)
        at += size
    return tuple(found)
