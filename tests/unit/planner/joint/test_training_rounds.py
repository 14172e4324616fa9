"""Which models a search trains: those that missed by little, found by bisection, one at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from graphopt.planner.joint import Budgets, Candidate, Figures, Made, Wanted
from graphopt.planner.joint.training import REACH, promising, training_rounds
from graphopt.report import ScoreRecord

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGINAL = Figures(10.0, 1000, 1000)
WANTED = Wanted(Budgets(), ORIGINAL, max_drop=1.0)


def score(drop: float) -> ScoreRecord:
    return ScoreRecord("top1", "points", 90 - drop, 88, 92, 1000, drop, drop - 0.5, drop + 0.5)


def made(label: str, ms: float, drop: float, fault: str = "") -> Made:
    if fault:
        return Made(Candidate(label), label, fault=fault)
    return Made(Candidate(label), label, Figures(ms, 100, 100), score(drop), label)


def trained(candidate: Candidate) -> Candidate | None:
    return candidate.having(f"{candidate.label}+", "distill-weights#1.steps=5")


POOL = [made(f"at {ms}", float(ms), 0.2 if ms > 6 else 1.2 + (6 - ms) / 4) for ms in range(1, 11)]


def tried(holds: Callable[[float], bool], tries: int, wanted: Wanted = WANTED) -> list[float]:
    """Return the latencies of what was trained, given whether a latency holds afterwards."""
    found: list[float] = []
    rounds = training_rounds(POOL, wanted, trained, tries)
    batch = next(rounds, ())
    while batch:
        (candidate,) = batch
        ms = float(candidate.label.removeprefix("at ").removesuffix("+"))
        found.append(ms)
        try:
            batch = rounds.send([made(candidate.label, ms, 0.5 if holds(ms) else 1.5)])
        except StopIteration:
            break
    return found


def test_what_is_slower_than_a_model_that_holds_is_not_worth_it() -> None:
    assert [m.candidate.label for m in promising(POOL, WANTED)] == [
        "at 6", "at 5", "at 4", "at 3", "at 2", "at 1",
    ]  # fmt: skip


def test_what_lost_far_too_much_is_left_alone() -> None:
    far = made("far", 0.5, REACH * 1.0 + 0.1)
    assert far not in promising([*POOL, far], WANTED)
    near = made("near", 0.5, REACH * 1.0)
    assert near in promising([*POOL, near], WANTED)


def test_what_exceeds_another_budget_is_left_alone() -> None:
    wanted = Wanted(Budgets.parse({"max_size": "50"}), ORIGINAL, max_drop=1.0)
    assert promising(POOL, wanted) == []


def test_where_nothing_was_judged_the_first_that_diverged_is_tried() -> None:
    failed = [made("a", 0, 0, "G308: no"), made("b", 0, 0, "G307: far"), made("c", 0, 0, "G307: x")]
    assert [m.candidate.label for m in promising(failed, WANTED)] == ["b"]


@pytest.mark.parametrize("limit", [0.0, 1.0, 2.0, 3.5, 5.0, 7.0])
def test_bisection_finds_the_fastest_that_holds(limit: float) -> None:
    found = tried(lambda ms: ms >= limit, tries=9)
    assert len(found) <= math.ceil(math.log2(6 + 1))
    holding = [ms for ms in found if ms >= limit]
    able = [ms for ms in range(1, 7) if ms >= limit]
    assert min(holding, default=None) == min(able, default=None)


def test_no_more_are_trained_than_was_asked_for() -> None:
    assert tried(lambda ms: True, tries=2) == [3.0, 1.0]
    assert tried(lambda ms: True, tries=0) == []


def test_without_a_stated_drop_the_most_accurate_that_fit_are_trained() -> None:
    wanted = Wanted(Budgets.parse({"max_latency": "5ms"}), ORIGINAL)
    assert tried(lambda ms: True, tries=2, wanted=wanted) == [5.0, 4.0]
    whole = Wanted(Budgets(), ORIGINAL)
    exact = made("exact", 9.0, 0.0)
    assert next(training_rounds([*POOL, exact], whole, trained, 2), ()) == ()


def test_what_cannot_be_trained_is_passed_over() -> None:
    rounds = training_rounds(POOL, WANTED, lambda _: None, 3)
    assert next(rounds, ()) == ()


def test_a_trained_candidate_has_a_key_of_its_own_and_of_what_trains_it() -> None:
    plain = Candidate("int8", ("a.b=1",))
    one = plain.having("int8, trained", "distill-weights#1.steps=5")
    other = Candidate(one.label, one.overrides, trainer="graphopt-torch 0.2")
    keys = {c.key("basis") for c in (plain, one, other)}
    assert len(keys) == 3
    # What was kept before anything could train is still found.
    assert plain.key("basis") == Candidate("x", ("a.b=1",), trainer="").key("basis")
