"""A choice of precision for every kernel: what each choice costs, and each border between two."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Labels = tuple[int, ...]
"""The label of each vertex, as a position in ``Problem.labels``."""

Table = tuple[tuple[float, ...], ...]
"""``table[i][j]``: cost when the first has label i and the second label j; 0 where i is j."""


@dataclass(frozen=True)
class Border:
    """What two neighbours cost together, by their labels, in microseconds."""

    tail: int
    head: int
    table: Table


@dataclass(frozen=True)
class Shared:
    """A conversion that is paid once, however many readers want it.

    Args:
        writer: vertex that makes the tensor.
        readers: vertices that read it.
        wanted: the label that asks for the conversion.
        costs: microseconds by the writer's label; 0 for ``wanted``.
    """

    writer: int
    readers: tuple[int, ...]
    wanted: int
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Problem:
    """Vertices with a time and a noise per label, and borders between them.

    Args:
        names: of the vertices.
        labels: precisions.
        times: ``times[v][l]``, microseconds; math.inf where the vertex does not have the label.
        noises: ``noises[v][l]``, noise power over signal power at the model's outputs.
        borders: between neighbours.
        shared: conversions for several readers.
        constant: microseconds that no label changes.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    times: Table
    noises: Table
    borders: tuple[Border, ...] = ()
    shared: tuple[Shared, ...] = ()
    constant: float = 0.0

    def time(self, chosen: Sequence[int]) -> float:
        """Return the microseconds of a choice: kernels, borders and conversions."""
        total = self.constant + sum(t[c] for t, c in zip(self.times, chosen, strict=True))
        total += sum(b.table[chosen[b.tail]][chosen[b.head]] for b in self.borders)
        return total + sum(_shared_cost(s, chosen) for s in self.shared)

    def noise(self, chosen: Sequence[int]) -> float:
        """Return the noise of a choice: those of its kernels, added up."""
        return sum(n[c] for n, c in zip(self.noises, chosen, strict=True))

    def energy(self, chosen: Sequence[int], weight: float) -> float:
        """Return time + weight * noise."""
        return self.time(chosen) + weight * self.noise(chosen)

    def time_around(self, chosen: Sequence[int], vertices: Sequence[int]) -> float:
        """Return the part of the time that depends on the labels of these vertices."""
        borders, shared = set[int](), set[int]()
        for vertex in vertices:
            borders.update(self._near[vertex][0])
            shared.update(self._near[vertex][1])
        total = sum(self.times[v][chosen[v]] for v in vertices)
        for index in borders:
            border = self.borders[index]
            total += border.table[chosen[border.tail]][chosen[border.head]]
        return total + sum(_shared_cost(self.shared[index], chosen) for index in shared)

    def allowed(self, vertex: int) -> tuple[int, ...]:
        """Return the labels that a vertex may have."""
        return tuple(i for i, t in enumerate(self.times[vertex]) if math.isfinite(t))

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """The vertices that share a border or a conversion with each vertex."""
        found: list[dict[int, None]] = [{} for _ in self.names]
        pairs = [(b.tail, b.head) for b in self.borders]
        pairs += [(s.writer, r) for s in self.shared for r in s.readers]
        for one, other in pairs:
            if one != other:
                found[one][other] = found[other][one] = None
        return tuple(tuple(sorted(f)) for f in found)

    @cached_property
    def _near(self) -> tuple[tuple[list[int], list[int]], ...]:
        near: tuple[tuple[list[int], list[int]], ...] = tuple(([], []) for _ in self.names)
        for index, border in enumerate(self.borders):
            for vertex in {border.tail, border.head}:
                near[vertex][0].append(index)
        for index, shared in enumerate(self.shared):
            for vertex in {shared.writer, *shared.readers}:
                near[vertex][1].append(index)
        return near


def _shared_cost(shared: Shared, chosen: Sequence[int]) -> float:
    asked = any(chosen[r] == shared.wanted for r in shared.readers)
    return shared.costs[chosen[shared.writer]] if asked else 0.0


@dataclass
class ProblemDraft:
    """A problem in the making: vertices by name, and what is known of them so far."""

    labels: tuple[str, ...]
    times: dict[str, dict[str, float]] = field(default_factory=dict)
    noises: dict[str, dict[str, float]] = field(default_factory=dict)
    borders: defaultdict[tuple[str, str], dict[tuple[str, str], float]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    shared: list[tuple[str, tuple[str, ...], str, dict[str, float]]] = field(default_factory=list)
    constant: float = 0.0

    def charge(self, tail: str, head: str, pair: tuple[str, str], cost: float) -> None:
        """Add to what a pair of labels costs between two vertices; what is not positive is free."""
        table = self.borders[tail, head]
        table[pair] = table.get(pair, 0.0) + max(cost, 0.0)

    def problem(self) -> Problem:
        """Return the problem, its borders repaired to satisfy the triangle inequality."""
        position = {name: i for i, name in enumerate(self.times)}
        borders = tuple(
            Border(position[tail], position[head], metric_closure(self._table(costs)))
            for (tail, head), costs in self.borders.items()
            if any(costs.values())
        )
        shared = tuple(
            Shared(
                position[writer],
                tuple(position[r] for r in readers),
                self.labels.index(wanted),
                tuple(0.0 if n == wanted else max(costs.get(n, 0.0), 0.0) for n in self.labels),
            )
            for writer, readers, wanted, costs in self.shared
        )
        times = tuple(_row(t, self.labels, math.inf) for t in self.times.values())
        noises = tuple(_row(self.noises.get(n, {}), self.labels, 0.0) for n in self.times)
        return Problem(
            tuple(self.times), self.labels, times, noises, borders, shared, self.constant
        )

    def _table(self, costs: Mapping[tuple[str, str], float]) -> Table:
        return tuple(
            tuple(0.0 if a == b else costs.get((a, b), 0.0) for b in self.labels)
            for a in self.labels
        )


def _row(found: Mapping[str, float], labels: Sequence[str], missing: float) -> tuple[float, ...]:
    return tuple(found.get(label, missing) for label in labels)


def metric_closure(table: Table) -> Table:
    """Return the cheapest way from each label to each other, over others where that is cheaper.

    Afterwards ``d[i][k] <= d[i][j] + d[j][k]``, which alpha-expansion needs. A conversion that goes
    through a third precision is one that a runtime can execute, so nothing is lost by it.

    Source: Floyd 1962, "Algorithm 97: Shortest path"; Warshall 1962.
    """
    count = range(len(table))
    closed = [list(row) for row in table]
    for over in count:
        for one in count:
            for other in count:
                through = closed[one][over] + closed[over][other]
                closed[one][other] = min(closed[one][other], through)
    return tuple(tuple(row) for row in closed)
