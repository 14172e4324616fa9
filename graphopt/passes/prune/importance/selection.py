"""Choose which units of a group stay, for as many as are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from graphopt.passes.prune.importance.base import Importance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.passes.prune.importance.base import Evidence

    Array = np.ndarray[Any, Any]

CHUNK = 0.07
"""Share of the units that go before the rest is scored again."""
SWAPS = 0.1
"""Share of the kept units that are first tried to be exchanged."""
LARGEST_SWAPPED = 1536
"""Features of a consumer beyond which nothing is exchanged: each try inverts their moments."""


@runtime_checkable
class Exchanging(Importance, Protocol):
    """A criterion that can also say what comes back and what a choice costs, so units are swapped.

    All three are in the same unit: ``scores`` what the loss grows by, ``gains`` what it falls by.
    """

    def gains(self, evidence: Evidence, kept: Array) -> Array:
        """Return what is won when each unit that is gone comes back; float64 [units]."""
        ...

    def loss(self, evidence: Evidence, kept: Array) -> float:
        """Return what is lost when only ``kept`` is left; never negative."""
        ...


def choose_units(
    evidence: Evidence, criterion: Importance, count: int, cells: Array | None = None
) -> Array:
    """Return which units stay: the worst go in chunks, then some are exchanged.

    Units of the lowest score go, a chunk at a time, and the others are scored again. With a
    criterion that is ``Exchanging``, the units that then matter least are exchanged for the ones
    that would help most, where that lowers the loss (the local search of Meng et al. 2024,
    "OSSCAR"), as long as consumers have no more than ``LARGEST_SWAPPED`` features. Of equal scores
    the later unit goes.

    Args:
        evidence: what is known of the group.
        criterion: gives the scores.
        count: units that are wanted; where cells do not allow it the next larger number is kept,
            and at least one unit of each cell.
        cells: cell of each unit; every cell loses the same number. int64 [units]; one by default.

    Returns:
        bool [units].
    """
    *_, last = nested_choices(evidence, criterion, [count], cells)
    return last


def nested_choices(
    evidence: Evidence, criterion: Importance, counts: list[int], cells: Array | None = None
) -> Iterator[Array]:
    """Yield which units stay for several counts, in descending order of them.

    Chunks go by the same schedule whatever is asked for, and a count between two takes a part of
    the next: what stays for a count does not depend on which others were asked for. So many counts
    cost little more than one; the swaps of each are its own.
    """
    cells = np.zeros(evidence.units, dtype=np.int64) if cells is None else cells
    parts = np.unique(cells)
    smallest = int(np.unique(cells, return_counts=True)[1].min())
    chunk = _chunk(evidence.units, parts.size)
    kept = np.ones(evidence.units, dtype=bool)
    scores: Array | None = None
    gone = 0
    for count in sorted(counts, reverse=True):
        wanted = min(max(evidence.units - count, 0) // max(parts.size, 1), smallest - 1)
        while wanted - gone >= chunk:
            scores = criterion.scores(evidence, kept) if scores is None else scores
            kept, scores = _without(kept, scores, cells, chunk), None
            gone += chunk
        found = kept
        if wanted > gone:
            scores = criterion.scores(evidence, kept) if scores is None else scores
            found = _without(kept, scores, cells, wanted - gone)
        yield _exchanged(evidence, criterion, found, cells)


def _chunk(units: int, parts: int) -> int:
    return max(1, int(CHUNK * units / max(parts, 1)))


def _without(kept: Array, scores: Array, cells: Array, step: int) -> Array:
    """Return ``kept`` without the ``step`` lowest of each cell."""
    made = kept.copy()
    for cell in np.unique(cells):
        mine = np.flatnonzero(kept & (cells == cell))
        made[_lowest(mine, scores[mine], step)] = False
    return made


def _lowest(numbers: Array, scores: Array, step: int) -> Array:
    """Return the numbers with the lowest scores; of equal ones those that come last."""
    return np.asarray(numbers[np.lexsort((-numbers, scores))[:step]])


def _exchanged(evidence: Evidence, criterion: Importance, kept: Array, cells: Array) -> Array:
    """Return a choice of as many units that costs no more."""
    features = max((len(view.weight) for view in evidence.consumers), default=0)
    if not isinstance(criterion, Exchanging) or kept.all() or features > LARGEST_SWAPPED:
        return kept.copy()
    counts = [int((mask & (cells == c)).sum()) for c in np.unique(cells) for mask in (kept, ~kept)]
    step = min(max(1, int(SWAPS * min(counts[::2]))), *counts)
    loss = criterion.loss(evidence, kept)
    while step >= 1:
        found = _swapped(evidence, criterion, kept, cells, step)
        better = criterion.loss(evidence, found) if found is not None else loss
        # Rounding must not decide between choices that are as good.
        if found is not None and better < loss * (1.0 - 1e-9):
            kept, loss = found, better
        step //= 2
    return kept.copy()


def _swapped(
    evidence: Evidence, criterion: Exchanging, kept: Array, cells: Array, step: int
) -> Array | None:
    smaller = _without(kept, criterion.scores(evidence, kept), cells, step)
    if not smaller.any():
        return None
    gains = criterion.gains(evidence, smaller)
    made = smaller.copy()
    for cell in np.unique(cells):
        away = np.flatnonzero(~smaller & (cells == cell))
        # Of equal gains the earlier unit comes back: the opposite of what goes.
        made[away[np.lexsort((away, -gains[away]))[:step]]] = True
    return None if np.array_equal(made, kept) else made
