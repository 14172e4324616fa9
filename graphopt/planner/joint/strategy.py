"""What a search tries next, given what it has seen.

First the precisions, each alone; then the best of them with less and less of the model left; then
what lies between the last share that holds and the first that does not. Accuracy falls with what
is removed nearly monotonously, so bisecting finds about as much as can go. Every decision rests on
estimates and on scores alone, so that one worker and many try the same.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.planner.joint.luck import with_expected

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from graphopt.planner.joint.budgets import Budgets
    from graphopt.planner.joint.candidates import Candidate, Figures, Made
    from graphopt.planner.joint.effort import Effort

    Rounds = Generator[Sequence[Candidate], Sequence[Made], None]
    Timed = Callable[[Sequence[Made]], Sequence[Made]]

_MARGIN = 0.99
"""Goals for a bound are a little harder than it: what is reached is never just what was asked."""
_CLOSEST = 0.03
"""Share of latency between two goals below which nothing is tried between them."""
_HARDEST = 0.08
_USUAL = "normal"
_PARTS = 3
_POLISHED = (0.96, 0.91, 0.86, 0.81)
"""Shares of the hardest goal that held, which are tried with more care."""
_HARDER = 0.8
"""Share of the hardest goal that is tried next where all hold."""
_GOALS = {"max_latency": "latency", "max_energy": "latency", "max_size": "size", "max_ram": "ram"}


@dataclass(frozen=True)
class Wanted:
    """What a model has to be.

    Args:
        budgets: upper bounds of its figures.
        original: the figures of the model that was given.
        max_drop: largest drop of accuracy, in the unit of the score; None where none was stated.
    """

    budgets: Budgets
    original: Figures
    max_drop: float | None = None

    def is_accurate(self, made: Made) -> bool:
        """Whether the drop is within what was allowed, here and as is expected elsewhere."""
        if made.score is None:
            return False
        lost = made.score.drop
        if made.score.expected is not None:
            lost = max(lost, made.score.expected)
        return self.max_drop is None or lost <= self.max_drop

    def excesses(self, made: Made) -> dict[str, float]:
        """Return by how much a model exceeds each bound that it exceeds."""
        if made.figures is None:
            return {"max_latency": math.inf}
        return self.budgets.excesses(made.figures, self.original)

    def holds(self, made: Made) -> bool:
        """Whether a model is accurate enough, and fits."""
        return self.is_accurate(made) and not self.excesses(made)


def rounds(
    formats: Sequence[Candidate], wanted: Wanted, effort: Effort, timed: Timed | None = None
) -> Rounds:
    """Yield what to make, round by round; is sent what came out of each.

    Args:
        formats: ways to store and compute what there is, the whole model each.
        wanted: says which models hold.
        effort: how much to try.
        timed: times formats against each other where there is a clock, and returns them with
            latencies on the scale of the estimates.
    """
    # What is worth removing is the same in every format, and is found out while those are made.
    likely = formats[min(1, len(formats) - 1)]
    ahead = [_pruned(likely, _goal("latency", g), effort) for g in effort.goals[1:2]]
    seen = [*(yield [*formats, *(ahead if wanted.max_drop is not None else [])])]
    made = with_expected(seen)[: len(formats)]
    for leading in _leading(made if timed is None else timed(made), wanted, effort.formats):
        if wanted.max_drop is None:
            yield from _fit(leading, wanted, effort)
        else:
            yield from _descend(leading, wanted, effort, seen)


def most_pruned(effort: Effort) -> int:
    """Return how many pruned models are made at most, where a largest drop is stated."""
    each = len(effort.goals) + effort.bisections * (_PARTS - 1)
    return effort.formats * each + most_polished(effort)


def most_polished(effort: Effort) -> int:
    """Return how many of those are made with more care."""
    return effort.formats * (len(_POLISHED) if effort.polished else 0)


def most_fitted(wanted: Wanted, effort: Effort) -> int:
    """Return how many pruned models are made at most, where bounds alone are stated."""
    return effort.formats * (2 + effort.bisections) if wanted.budgets.stated else 0


def _leading(made: Sequence[Made], wanted: Wanted, count: int) -> list[Made]:
    """Return the formats to prune: the fastest that are accurate, of equals the smaller."""
    usable = [m for m in made if m.figures is not None and wanted.is_accurate(m)]

    def order(found: Made) -> tuple[float, int]:
        assert found.figures is not None
        return found.figures.latency_ms, found.figures.size_bytes

    return sorted(usable, key=order)[:count]


def _descend(start: Made, wanted: Wanted, effort: Effort, seen: list[Made]) -> Rounds:
    """Prune to the goals of the effort, then between the last that holds and the next.

    What was ``seen`` so far says what to expect of each; what is made here is added to it.
    """
    metric = _metric(start, wanted)
    found: dict[float, Made] = {}
    kept = {1.0: True}
    goals: Sequence[float] = effort.goals
    for _ in range(1 + effort.bisections if goals else 0):
        if not goals:
            break
        results = yield [_pruned(start.candidate, _goal(metric, g), effort) for g in goals]
        found |= zip(goals, results, strict=True)
        seen += results
        judged = with_expected([*found.values(), *seen])
        kept |= {goal: wanted.is_accurate(m) for goal, m in zip(found, judged, strict=False)}
        goals = _between(kept)
    if effort.polished:
        # Fitted with more care, a little more can go.
        beyond = [_hardest(kept) * share for share in _POLISHED]
        careful = dataclasses.replace(effort, pruning=effort.polished)
        yield [_pruned(start.candidate, _goal(metric, g), careful) for g in beyond]


def _hardest(kept: dict[float, bool]) -> float:
    """Return the hardest goal that holds, with all before it."""
    last = 1.0
    for goal in sorted(kept, reverse=True):
        if not kept[goal]:
            break
        last = goal
    return last


def _between(kept: dict[float, bool]) -> list[float]:
    """Return two goals between the hardest that holds, with all before it, and the next.

    Two at a time keep two processes busy; how many there are must not change what is tried.
    """
    last = _hardest(kept)
    failing = [goal for goal, holds in kept.items() if goal < last and not holds]
    if not failing:
        harder = [round(last * _HARDER**part, 3) for part in range(1, _PARTS)]
        return [goal for goal in harder if goal > _HARDEST]
    first = max(failing)
    if last - first <= _CLOSEST:
        return []
    # Of what is left, shares matter.
    step = (first / last) ** (1 / _PARTS)
    return [round(last * step**part, 3) for part in range(1, _PARTS)]


def _fit(start: Made, wanted: Wanted, effort: Effort) -> Rounds:
    """Prune until every bound is kept, in as few models as that takes."""
    goal = 1.0
    excesses = wanted.excesses(start)
    for _ in range(2 + effort.bisections):
        if not excesses:
            return
        metric = _metric(start, wanted)
        goal = goal / max(excesses.values()) * _MARGIN
        if goal < _HARDEST:
            return
        (found,) = yield [_pruned(start.candidate, _goal(metric, goal), effort)]
        if found.figures is None:
            return
        excesses = wanted.excesses(found)


def _metric(start: Made, wanted: Wanted) -> str:
    """Return what pruning is to reduce: what exceeds its bound most, else latency."""
    excesses = wanted.excesses(start)
    if not excesses:
        return "latency"
    return _GOALS[max(excesses, key=lambda name: excesses[name])]


def _goal(metric: str, share: float) -> str:
    return f"{metric}={share:.3g}x"


def _pruned(start: Candidate, goal: str, effort: Effort) -> Candidate:
    care = "" if effort.pruning == _USUAL else f", {effort.pruning}"
    return start.having(
        f"{start.label}, pruned to {goal}{care}",
        f"prune-channels.to={goal}",
        f"prune-channels.effort={effort.pruning}",
    )
