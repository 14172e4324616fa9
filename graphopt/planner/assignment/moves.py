"""The best mixture of two labellings: each vertex keeps its label or takes the proposed one.

With two labels, mixing "all the one" and "all the other" is the whole problem, and exact. With
more, proposing one label everywhere is an alpha-expansion. Vertices on which both agree are no part
of the network: mixing two labellings that are nearly right is cheap.

Source: Lempitsky, Rother, Roth, Blake 2010, "Fusion moves for Markov random field optimization".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.planner.assignment.binary import BinaryEnergy

if TYPE_CHECKING:
    from graphopt.planner.assignment.problem import Border, Labels, Problem, Shared


def mixed(problem: Problem, weight: float, current: Labels, proposed: Labels) -> Labels:
    """Return the mixture of least time + weight * noise that a minimum cut finds.

    Exact where the move has no term that a cut cannot express, as every expansion of a problem with
    repaired borders; otherwise such terms are left out, and ``current`` is returned where the
    result is no better.
    """
    energy = BinaryEnergy()
    free = frozenset(v for v, c in enumerate(current) if c != proposed[v])
    for vertex in sorted(free):
        costs = problem.times[vertex], problem.noises[vertex]
        zero, one = (
            costs[0][labels[vertex]] + weight * costs[1][labels[vertex]]
            for labels in (current, proposed)
        )
        energy.add(vertex, zero, one)
    for border in problem.borders:
        _add_border(energy, border, current, proposed)
    for index, shared in enumerate(problem.shared):
        _Sharing(energy, ("shared", index), shared, current, proposed).add()
    taken = energy.minimum()
    found = tuple(proposed[v] if v in taken else label for v, label in enumerate(current))
    if not energy.truncated:
        return found
    return min(current, found, key=lambda chosen: problem.energy(chosen, weight))


def _add_border(energy: BinaryEnergy, border: Border, current: Labels, proposed: Labels) -> None:
    tail, head, table = border.tail, border.head, border.table
    tails, heads = (current[tail], proposed[tail]), (current[head], proposed[head])
    if tails[0] == tails[1] and heads[0] == heads[1]:
        return
    if heads[0] == heads[1]:
        energy.add(tail, table[tails[0]][heads[0]], table[tails[1]][heads[0]])
    elif tails[0] == tails[1]:
        energy.add(head, table[tails[0]][heads[0]], table[tails[0]][heads[1]])
    else:
        a, b, c, d = (table[i][j] for i in tails for j in heads)
        energy.add_pair(tail, head, (a, b, c, d))


class _Sharing:
    """The terms of one conversion: paid where any reader asks, by the writer's label."""

    def __init__(
        self,
        energy: BinaryEnergy,
        key: tuple[str, int],
        shared: Shared,
        current: Labels,
        proposed: Labels,
    ) -> None:
        self.energy = energy
        self.key = key
        self.writer = shared.writer
        self.before = shared.costs[current[shared.writer]]
        self.after = shared.costs[proposed[shared.writer]]
        self.is_free = current[shared.writer] != proposed[shared.writer]
        asks = [(r, current[r] == shared.wanted, proposed[r] == shared.wanted)
                for r in shared.readers]  # fmt: skip
        self.always = any(before and after for _, before, after in asks)
        self.starting = [r for r, before, after in asks if after and not before]
        self.stopping = [r for r, before, after in asks if before and not after]

    def add(self) -> None:
        """Add the terms; another vertex says whether anybody asks."""
        if self.always:
            if self.is_free:
                self.energy.add(self.writer, self.before, self.after)
            return
        most = max(self.before, self.after)
        if not most or not (self.starting or self.stopping):
            return
        if self.starting:
            asked = (*self.key, "starting")
            for reader in self.starting:  # a reader that is one makes it one
                self.energy.add_pair(asked, reader, (0.0, most, 0.0, 0.0))
            self._pay(asked, (0.0, self.before, 0.0, self.after))
        if self.stopping:
            unasked = (*self.key, "stopping")
            for reader in self.stopping:  # a reader that is zero makes it zero
                self.energy.add_pair(reader, unasked, (0.0, most, 0.0, 0.0))
            self._pay(unasked, (self.before, 0.0, self.after, 0.0))

    def _pay(self, asked: tuple[str, int, str], costs: tuple[float, float, float, float]) -> None:
        if self.is_free:
            self.energy.add_pair(self.writer, asked, costs)
        else:
            self.energy.add(asked, costs[0], costs[1])
