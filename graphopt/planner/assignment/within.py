"""The fastest labelling whose noise stays within a bound.

The sweep gives the fastest ones for some prices of noise; a bound between two corners of the hull
is kept by the quieter corner with noise to spare. From the corners on both sides a local search
goes on: single kernels, neighbours, whole islands, and what other corners do differently, and
exchanges of one such change for another, as long as the time falls and the noise is within bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.planner.assignment.sweep import corner_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from graphopt.planner.assignment.problem import Labels, Problem
    from graphopt.planner.assignment.sweep import Corner

_STEPS = 200
_EXCHANGED = 24
"""Changes of either kind that are exchanged for each other."""
_STARTS = 2
"""Corners on either side of the bound to start from."""
_TINY = 1e-9


@dataclass(frozen=True)
class _Change:
    """Other labels for some vertices, and what that changes in time and noise."""

    labels: tuple[tuple[int, int], ...]
    time: float
    noise: float


def fastest_within(problem: Problem, bound: float, corners: Sequence[Corner]) -> Corner | None:
    """Return the fastest labelling found with a noise of at most ``bound``; None if there is none.

    Args:
        problem: what to label.
        bound: noise power over signal power.
        corners: of the problem's sweep.
    """
    ordered = sorted(corners, key=lambda c: c.noise)
    quiet = [c for c in ordered if c.noise <= bound]
    loud = [c for c in ordered if c.noise > bound]
    starts = [*quiet[-_STARTS:], *loud[:_STARTS]]
    found = [_Descent(problem, bound, corners, start).run() for start in starts]
    kept = [c for c in found if c is not None]
    return min(kept, key=lambda c: (c.time, c.noise, c.chosen), default=None)


def neighbours_of(
    problem: Problem, chosen: Labels, bound: float, corners: Sequence[Corner]
) -> list[Labels]:
    """Return the labellings that one change makes of this one, or an exchange that is faster.

    Args:
        problem: what is labelled.
        chosen: where to start.
        bound: noise that an exchange may lead to.
        corners: of the problem's sweep.
    """
    descent = _Descent(problem, bound, corners, corner_of(problem, chosen))
    changes = list(descent.changes())
    found: dict[Labels, None] = {}
    for change in (*changes, *descent.exchanges(changes)):
        labels = dict(change.labels)
        found[tuple(labels.get(v, c) for v, c in enumerate(chosen))] = None
    found.pop(chosen, None)
    return list(found)


class _Descent:
    """One local search from one labelling."""

    def __init__(
        self, problem: Problem, bound: float, corners: Sequence[Corner], start: Corner
    ) -> None:
        self.problem = problem
        self.bound = bound
        self.corners = corners
        self.chosen = list(start.chosen)
        self.noise = start.noise

    def run(self) -> Corner | None:
        """Return the labelling that no change makes faster within the bound."""
        for _ in range(_STEPS):
            changes = list(self.changes())
            change = self._quieter(changes) if self.noise > self.bound else self._faster(changes)
            if change is None:
                break
            for vertex, label in change.labels:
                self.chosen[vertex] = label
            self.noise = self.problem.noise(self.chosen)
        found = corner_of(self.problem, tuple(self.chosen))
        return found if found.noise <= self.bound else None

    def _quieter(self, changes: Sequence[_Change]) -> _Change | None:
        """Return the change that buys most silence for its time."""
        enough = self.noise - self.bound
        useful = [c for c in changes if c.noise < 0]
        return max(useful, key=lambda c: min(-c.noise, enough) / max(c.time, _TINY), default=None)

    def _faster(self, changes: Sequence[_Change]) -> _Change | None:
        """Return the change, or the exchange of two, that saves most time within the bound."""
        spare = self.bound - self.noise
        single = [c for c in changes if c.time < -_TINY and c.noise <= spare]
        if single:
            return min(single, key=lambda c: (c.time, c.labels))
        return min(self.exchanges(changes), key=lambda c: (c.time, c.labels), default=None)

    def exchanges(self, changes: Sequence[_Change]) -> Iterator[_Change]:
        """Yield pairs of changes, one that saves time and one that saves noise, that pay."""
        spare = self.bound - self.noise
        savers = sorted((c for c in changes if c.time < -_TINY), key=lambda c: c.time)
        calming = (c for c in changes if c.noise < 0 < c.time)
        calmers = sorted(calming, key=lambda c: c.noise / c.time)[:_EXCHANGED]
        for saver in savers[:_EXCHANGED]:
            for calmer in calmers:
                gain = saver.time + calmer.time
                if gain >= -_TINY or saver.noise + calmer.noise > spare:
                    continue
                if {v for v, _ in saver.labels}.isdisjoint(v for v, _ in calmer.labels):
                    both = self._change((*saver.labels, *calmer.labels))
                    if both.time < -_TINY and both.noise <= spare:
                        yield both

    def changes(self) -> Iterator[_Change]:
        """Yield everything that may change at once."""
        found = dict.fromkeys(self._groups())
        return (self._change(labels) for labels in found)

    def _groups(self) -> Iterator[tuple[tuple[int, int], ...]]:
        """Yield what may change together."""
        problem, chosen = self.problem, self.chosen
        for vertex in range(len(chosen)):
            for label in problem.allowed(vertex):
                if label == chosen[vertex]:
                    continue
                yield ((vertex, label),)
                alike = [
                    n
                    for n in problem.neighbours[vertex]
                    if n > vertex and chosen[n] != label and label in problem.allowed(n)
                ]
                yield from (((vertex, label), (n, label)) for n in alike)
                yield self._island(vertex, label)
        for corner in self.corners:
            yield from _parts(problem, chosen, corner.chosen)

    def _island(self, vertex: int, label: int) -> tuple[tuple[int, int], ...]:
        """Return the connected vertices of the same label as this one, with another label."""
        own = self.chosen[vertex]
        able = (v for v, c in enumerate(self.chosen) if c == own)
        within = {v for v in able if label in self.problem.allowed(v)}
        return tuple((v, label) for v in sorted(_connected(self.problem, vertex, within)))

    def _change(self, labels: tuple[tuple[int, int], ...]) -> _Change:
        problem, vertices = self.problem, [v for v, _ in labels]
        before = problem.time_around(self.chosen, vertices)
        old = [self.chosen[v] for v in vertices]
        noise = sum(problem.noises[v][n] - problem.noises[v][self.chosen[v]] for v, n in labels)
        for vertex, label in labels:
            self.chosen[vertex] = label
        after = problem.time_around(self.chosen, vertices)
        for vertex, label in zip(vertices, old, strict=True):
            self.chosen[vertex] = label
        return _Change(labels, after - before, noise)


def _parts(
    problem: Problem, chosen: Sequence[int], other: Labels
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield the connected parts in which two labellings differ."""
    left = {v for v, (a, b) in enumerate(zip(chosen, other, strict=True)) if a != b}
    while left:
        part = _connected(problem, min(left), left)
        left -= part
        yield tuple((v, other[v]) for v in sorted(part))


def _connected(problem: Problem, start: int, within: Iterable[int]) -> set[int]:
    inside, found, stack = set(within), {start}, [start]
    while stack:
        for near in problem.neighbours[stack.pop()]:
            if near in inside and near not in found:
                found.add(near)
                stack.append(near)
    return found
