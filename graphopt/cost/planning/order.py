"""An order of the operators that needs less memory: dynamic programming over what was executed.

What is alive depends only on the set of executed steps, not on their order, so of two orders of the
same set only the one with the lower peak can matter. Steps that lower what is alive without raising
the peak are taken at once (delaying them never helps); only where several branches are open does
the search branch. Where more sets are open than ``width``, the worst are dropped, and the result is
no longer known to be the best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt.analysis import Step

WIDTH = 64
"""Sets of executed steps that are kept among those of equal size."""

EXPANSIONS = 30_000
"""Steps that the whole search tries, at most; about half a second."""


@dataclass(frozen=True)
class Ordering:
    """What a search for an order found.

    Args:
        order: positions of the steps as given; None when nothing undercuts what was asked.
        peak: the most bytes alive at once in that order, or what was to be undercut.
        exact: whether the search was complete: no order has a lower peak.
    """

    order: tuple[int, ...] | None
    peak: int
    exact: bool


@dataclass(frozen=True)
class _State:
    done: int
    ready: tuple[int, ...]
    live: int
    peak: int
    last: int
    before: _State | None


@dataclass(frozen=True)
class _Effect:
    """What executing a step does: bytes while it runs, and after it."""

    during: int
    after: int


def find_order(
    steps: Sequence[Step],
    sizes: Mapping[str, int],
    inputs: Iterable[str],
    outputs: Iterable[str],
    *,
    below: int,
    width: int = WIDTH,
    expansions: int = EXPANSIONS,
) -> Ordering:
    """Return the order with the lowest peak below ``below``, if there is one.

    It is complete while no more than ``width`` sets of a size are open, and as long as no step may
    write something smaller over its input (the search counts such memory as separate).

    Args:
        steps: in some order that respects dependencies.
        sizes: bytes of every tensor.
        inputs: tensors that the caller feeds; alive until their last use.
        outputs: tensors that the caller gets; alive until the end.
        below: peak that must be undercut, bytes.
        width: sets of executed steps that are kept among those of equal size.
        expansions: steps that are tried before the search gives up.
    """
    model = _Liveness(steps, sizes, inputs, outputs)
    levels: dict[int, dict[int, _State]] = {0: {0: model.start()}}
    tried, exact = 0, model.counts_exactly
    for count in range(len(steps)):
        level = levels.pop(count, {})
        exact &= len(level) <= width
        for state in sorted(level.values(), key=lambda s: (s.peak, s.live, s.done))[:width]:
            children = model.children(state, below)
            tried += len(children)
            following = levels.setdefault(count + 1, {})
            for child in children:
                known = following.get(child.done)
                if known is None or child.peak < known.peak:
                    following[child.done] = child
        if tried > expansions:
            return Ordering(None, below, exact=False)
    final = levels.get(len(steps), {})
    if not final or not steps:
        return Ordering(None, below, exact)
    best = min(final.values(), key=lambda s: s.peak)
    return Ordering(_trace(best), best.peak, exact)


def step_bound(
    steps: Sequence[Step],
    sizes: Mapping[str, int],
    inputs: Iterable[str],
    outputs: Iterable[str],
) -> int:
    """Return a peak that no order undercuts: what the hungriest step needs by itself."""
    model = _Liveness(steps, sizes, inputs, outputs)
    return max((model.alone(i) for i in range(len(steps))), default=0)


class _Liveness:
    """What is alive after any set of steps; sets are bits of an integer."""

    def __init__(
        self,
        steps: Sequence[Step],
        sizes: Mapping[str, int],
        inputs: Iterable[str],
        outputs: Iterable[str],
    ) -> None:
        self._steps = steps
        self._group = _view_groups(steps)
        self._fed = {self._of(name) for name in inputs}
        self._kept = {self._of(name) for name in outputs}
        self._size: dict[str, int] = {}
        for name, size in sizes.items():
            group = self._of(name)
            self._size[group] = max(self._size.get(group, 0), size)
        self._users: dict[str, int] = {}
        self._makers: dict[str, int] = {}
        for index, step in enumerate(steps):
            for group in map(self._of, step.reads):
                self._users[group] = self._users.get(group, 0) | 1 << index
            for group in map(self._of, step.writes):
                self._makers[group] = self._makers.get(group, 0) | 1 << index
        self._needs, self._followers = _dependencies(steps)
        # What nobody feeds or makes takes no memory.
        real = self._fed | self._makers.keys()
        self._reads = [{g for g in map(self._of, s.reads) if g in real} for s in steps]
        self._touched = [
            tuple(dict.fromkeys([*sorted(reads), *map(self._of, step.writes)]))
            for reads, step in zip(self._reads, steps, strict=True)
        ]

    @property
    def counts_exactly(self) -> bool:
        """Whether what is alive is what the plan's own liveness says, for every order."""
        pairs = [pair for step in self._steps for pair in step.in_place]
        return all(self._size[self._of(w)] == self._size[self._of(r)] for w, r in pairs)

    def start(self) -> _State:
        """Return the state before the first step: the inputs are there."""
        ready = tuple(i for i, needs in enumerate(self._needs) if not needs)
        live = sum(self._size[group] for group in self._fed)
        return _State(0, ready, live, live, -1, None)

    def children(self, state: _State, below: int) -> list[_State]:
        """Return the states after one more step; a single one where a step is free to take."""
        found: list[_State] = []
        for index in state.ready:
            effect = self._effect(state, index)
            if effect.during >= below:
                continue
            child = self._after(state, index, effect)
            if effect.during <= state.peak and effect.after <= state.live:
                return [child]
            found.append(child)
        return found

    def alone(self, index: int) -> int:
        """Return the bytes that a step needs even when nothing else is alive."""
        most = max((self._size[w] for w, _ in self._reusable(index, ~0)), default=0)
        return sum(self._size[group] for group in self._touched[index]) - most

    def _effect(self, state: _State, index: int) -> _Effect:
        done = state.done | 1 << index
        reads = self._reads[index]
        new = [
            group
            for group in self._touched[index]
            if group not in reads
            and group not in self._fed
            and not self._makers.get(group, 0) & state.done
        ]
        during = state.live + sum(self._size[group] for group in new)
        dead = sum(self._size[g] for g in self._touched[index] if self._is_dead(g, done))
        # A smaller output leaves the rest of its input's memory taken: no gain to count on.
        equal = [
            self._size[w] for w, r in self._reusable(index, done) if self._size[w] == self._size[r]
        ]
        reused = max(equal, default=0)
        return _Effect(during - reused, during - dead)

    def _reusable(self, index: int, done: int) -> list[tuple[str, str]]:
        """Return (written, read) pairs that may share memory once all of ``done`` is executed."""
        pairs = [(self._of(w), self._of(r)) for w, r in self._steps[index].in_place]
        return [
            (w, r) for w, r in pairs
            if w != r and r in self._reads[index] and r not in self._fed
            and self._size[w] <= self._size[r] and self._is_dead(r, done)
        ]  # fmt: skip

    def _is_dead(self, group: str, done: int) -> bool:
        return group not in self._kept and not self._users.get(group, 0) & ~done

    def _after(self, state: _State, index: int, effect: _Effect) -> _State:
        done = state.done | 1 << index
        opened = [f for f in self._followers[index] if not self._needs[f] & ~done]
        ready = tuple(sorted({*state.ready, *opened} - {index}))
        return _State(done, ready, effect.after, max(state.peak, effect.during), index, state)

    def _of(self, name: str) -> str:
        return self._group.get(name, name)


def _view_groups(steps: Sequence[Step]) -> dict[str, str]:
    """Return, for every view, the tensor whose memory it is."""
    group: dict[str, str] = {}
    for step in steps:
        for written, read in step.views:
            group[written] = group.get(read, read)
    return group


def _dependencies(steps: Sequence[Step]) -> tuple[list[int], list[list[int]]]:
    """Return the steps that each needs, as bits, and those that each is needed by.

    A tensor may be written more than once (a DequantizeLinear that every reader repeats): its
    writers keep their order, and a reader needs those before it.
    """
    writers: dict[str, int] = {}
    needs = [0] * len(steps)
    for index, step in enumerate(steps):
        for name in (*step.reads, *step.writes):
            needs[index] |= writers.get(name, 0)
        for name in step.writes:
            writers[name] = writers.get(name, 0) | 1 << index
    followers: list[list[int]] = [[] for _ in steps]
    for index, bits in enumerate(needs):
        for other in range(index):
            if bits >> other & 1:
                followers[other].append(index)
    return needs, followers


def _trace(state: _State) -> tuple[int, ...]:
    order: list[int] = []
    at: _State | None = state
    while at is not None and at.before is not None:
        order.append(at.last)
        at = at.before
    return tuple(reversed(order))
