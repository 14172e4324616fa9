"""Training as one more move of a search: what missed the stated accuracy by little is trained.

What training wins back is not known before it has been done, but models that were pruned less, or
that lost less, are the more likely to hold. So the fastest that may hold is found by bisection, one
training after the other: each takes minutes, and all cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.planner.joint.candidates import Candidate, Made
    from graphopt.planner.joint.strategy import Rounds, Wanted

REACH = 4.0
"""A model that lost more than this many times what may be lost is not trained."""
_TOO_FAR = "G307"
"""What is said of a model whose outputs diverge too far: it was not judged, and may be trained."""

Trained = Callable[["Candidate"], "Candidate | None"]
"""Gives the candidate that is trained as well; None where that is not possible."""


def training_rounds(made: Sequence[Made], wanted: Wanted, trained: Trained, tries: int) -> Rounds:
    """Yield one candidate at a time, which is trained; is sent what came out of it.

    Args:
        made: what was made without training.
        wanted: says which models hold.
        trained: adds the training to a candidate.
        tries: how many are trained, at most.
    """
    if wanted.max_drop is None:
        yield from _improving(made, wanted, trained, tries)
    else:
        yield from _bisecting(promising(made, wanted), wanted, trained, tries)


def promising(made: Sequence[Made], wanted: Wanted) -> list[Made]:
    """Return what may hold once it is trained, the slowest first; of those too far off one.

    Each is faster than everything that holds as it is, and lost at most ``REACH`` times what may be
    lost. Where there is none, the first that was given up since its outputs diverged too far.
    """
    holding = [_latency(m) for m in made if wanted.holds(m)]
    fastest = min(holding, default=float("inf"))
    most = REACH * (wanted.max_drop or 0.0)
    found = [
        m
        for m in made
        if m.score is not None
        and m.figures is not None
        and not wanted.is_accurate(m)
        and not wanted.excesses(m)
        and _latency(m) < fastest
        and (m.score.drop <= most or not most)
    ]
    if found:
        return sorted(found, key=lambda m: (-_latency(m), m.candidate.label))
    return [m for m in made if m.fault.startswith(_TOO_FAR)][:1]


def _bisecting(pool: Sequence[Made], wanted: Wanted, trained: Trained, tries: int) -> Rounds:
    able = [c for c in (trained(m.candidate) for m in pool) if c is not None]
    low, high = 0, len(able)
    for _ in range(tries):
        if low >= high:
            return
        middle = (low + high) // 2
        (found,) = yield [able[middle]]
        low, high = (middle + 1, high) if wanted.holds(found) else (low, middle)


def _improving(made: Sequence[Made], wanted: Wanted, trained: Trained, tries: int) -> Rounds:
    """Train the most accurate models that fit, unless one that fits has lost nothing."""
    fitting = [m for m in made if m.score is not None and wanted.holds(m)]
    ranked = sorted(fitting, key=lambda m: (_drop(m), _latency(m), m.candidate.label))
    if not ranked or _drop(ranked[0]) <= 0.0:
        return
    able = [c for c in (trained(m.candidate) for m in ranked) if c is not None]
    for candidate in able[:tries]:
        yield [candidate]


def _drop(made: Made) -> float:
    assert made.score is not None
    return made.score.drop


def _latency(made: Made) -> float:
    return made.figures.latency_ms if made.figures is not None else float("inf")
