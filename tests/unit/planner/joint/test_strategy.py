"""What a search tries next, on models whose accuracy is a known function of what is left."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from graphopt.planner.joint.budgets import Budgets
from graphopt.planner.joint.candidates import Candidate, Figures, Made
from graphopt.planner.joint.effort import EFFORTS
from graphopt.planner.joint.strategy import Wanted, rounds
from graphopt.report import ScoreRecord

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGINAL = Figures(10.0, 1000, 1000)
FORMATS = (Candidate("float"), Candidate("int8"), Candidate("mixed"))
SPEED = {"float": 10.0, "int8": 4.0, "mixed": 6.0}
DROP = {"float": 0.0, "int8": 0.2, "mixed": 0.1}


def score(drop: float) -> ScoreRecord:
    return ScoreRecord("top1", "points", 90 - drop, 88, 92, 1000, drop, drop - 0.5, drop + 0.5)


def made(candidate: Candidate, loss: Callable[[float], float]) -> Made:
    base = candidate.label.split(",")[0]
    goals = [o for o in candidate.overrides if o.startswith("prune-channels.to=")]
    share = float(re.sub(r"[^0-9.]", "", goals[-1].split("=")[-1])) if goals else 1.0
    size = int(1000 * share)
    return Made(
        candidate,
        candidate.label,
        Figures(SPEED[base] * share, size, size),
        score(DROP[base] + loss(share)),
    )


def tried(wanted: Wanted, loss: Callable[[float], float], effort: str = "normal") -> list[Made]:
    found: list[Made] = []
    steps = rounds(FORMATS, wanted, EFFORTS[effort])
    batch = next(steps)
    while True:
        results = [made(candidate, loss) for candidate in batch]
        found += results
        try:
            batch = steps.send(results)
        except StopIteration:
            return found


@pytest.mark.parametrize("limit", [0.95, 0.8, 0.62, 0.45])
def test_bisection_comes_close_to_what_can_go(limit: float) -> None:
    wanted = Wanted(Budgets(), ORIGINAL, max_drop=1.0)
    found = tried(wanted, lambda share: 0.0 if share >= limit else 5.0)
    best = min((m for m in found if wanted.holds(m)), key=lambda m: m.figures.latency_ms)
    assert best.candidate.label.startswith("int8")
    # Goals lie 15 to 29 % apart, and are divided twice on a scale of shares.
    assert best.figures.latency_ms <= 4.0 * min(limit * 1.1, 1.0)


def test_a_format_that_loses_too_much_is_not_pruned() -> None:
    wanted = Wanted(Budgets(), ORIGINAL, max_drop=0.15)
    labels = [m.candidate.label for m in tried(wanted, lambda share: 0.0)]
    # One is pruned ahead of the decision, while the formats are made.
    assert [label for label in labels if label.startswith("int8,")] == [
        "int8, pruned to latency=0.7x"
    ]
    assert any(label.startswith("mixed,") for label in labels)


def test_a_bound_alone_is_reached_in_few_models() -> None:
    wanted = Wanted(Budgets.parse({"max_latency": "2.5ms"}), ORIGINAL)
    found = tried(wanted, lambda share: (1 - share) * 3)
    assert [m.candidate.label for m in found if wanted.holds(m)] == [
        "int8, pruned to latency=0.619x"
    ]


def test_the_bound_that_is_exceeded_most_says_what_is_pruned() -> None:
    wanted = Wanted(Budgets.parse({"max_latency": "3.9ms", "max_ram": "400"}), ORIGINAL)
    found = tried(wanted, lambda share: 0.0)
    assert any("pruned to ram=0.396x" in m.candidate.label for m in found)


def test_quick_prunes_nothing() -> None:
    wanted = Wanted(Budgets(), ORIGINAL, max_drop=1.0)
    labels = [m.candidate.label for m in tried(wanted, lambda share: 0.0, "quick")]
    assert labels == ["float", "int8", "mixed"]
