"""Shares of weights in four bits: found between what holds and what does not."""

from __future__ import annotations

import pytest

from graphopt.planner.joint.budgets import Budgets
from graphopt.planner.joint.candidates import Candidate, Figures, Made
from graphopt.planner.joint.storing import is_stored, most_stored, stored, storing_rounds
from graphopt.planner.joint.strategy import Wanted
from graphopt.report import ScoreRecord

WANTED = Wanted(Budgets(), Figures(1.0, 1000, 1), max_drop=1.0)
BASES = (Candidate("float"), Candidate("int8"))


def share_of(candidate: Candidate) -> float:
    told = dict(option.split("=") for option in candidate.overrides)
    return float(told.get("store-weights.four-bits", 0.0))


def made(candidate: Candidate, limit: float) -> Made:
    share = share_of(candidate)
    drop = 0.0 if share <= limit else 5.0
    score = ScoreRecord("psnr", "dB", 30 - drop, 29, 31, 100, drop, drop - 0.01, drop + 0.01)
    size = round(250 - 125 * share)
    return Made(candidate, candidate.label, Figures(1.0, size, 1), score)


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.62, 0.95, 1.0])
def test_the_largest_share_that_holds_is_come_close_to(limit: float) -> None:
    found: list[Made] = []
    steps = storing_rounds(BASES, WANTED, ())
    batch = next(steps)
    while True:
        results = [made(candidate, limit) for candidate in batch]
        found += results
        try:
            batch = steps.send(results)
        except StopIteration:
            break
    assert len(found) <= most_stored(pruned=False)
    assert all(is_stored(m.candidate) for m in found)
    for base in BASES:
        held = [share_of(m.candidate) for m in found if m.candidate.label.startswith(base.label)]
        best = max(share for share in held if share <= limit)
        assert limit - best <= 0.1


def test_a_stored_candidate_says_what_it_is() -> None:
    base = Candidate("int8", ("insert-qdq.placement=integer",))
    eight, four = stored(base), stored(base, 0.7, short=True)
    assert eight.label == "int8, stored in 8 bits"
    assert four.label == "int8, stored 70 % in 4 bits"
    assert "store-weights.four-bits=0.7" in four.overrides
    assert "store-weights.names=short" in four.overrides
    assert base.overrides[0] in four.overrides
    assert not is_stored(base)


def test_without_models_there_is_nothing_to_make() -> None:
    assert list(storing_rounds((), WANTED, ())) == []
