"""How long a search will take: by kind of work, from what each took so far."""

from __future__ import annotations

import pytest

from graphopt.api.searching.forecast import Forecast
from graphopt.planner.joint import EFFORTS, Budgets, Candidate, Figures, Wanted, stored

FLOAT = Candidate("float")
PRUNED = FLOAT.having("pruned", "prune-channels.to=latency=0.7x", "prune-channels.effort=normal")
CAREFUL = FLOAT.having("careful", "prune-channels.to=latency=0.6x", "prune-channels.effort=careful")
ORIGINAL = Figures(1.0, 1, 1)


def forecast(drop: float | None = 1.0, *, workers: int = 1, small: bool = False) -> Forecast:
    made = Forecast(workers)
    wanted = Wanted(Budgets(), ORIGINAL, drop)
    made.plan(6, wanted, EFFORTS["normal"], small=small, timed=False)
    return made


def test_what_is_made_is_no_longer_to_come() -> None:
    found = forecast()
    found.took(FLOAT, 2.0)
    found.took(PRUNED, 20.0)
    found.took(PRUNED, 10.0)
    found.took(CAREFUL, 30.0)
    # 5 formats, 3 goals and 2 between them, 4 with care, and one that is stored.
    assert found.remaining([]) == pytest.approx(6 * 2 + 5 * 10 + 4 * 30 + 2)
    assert found.remaining([FLOAT, PRUNED, CAREFUL]) == pytest.approx(5 * 2 + 4 * 10 + 3 * 30 + 2)
    assert found.longest == 30.0


def test_two_workers_take_half_as_long() -> None:
    one, two = forecast(), forecast(workers=2)
    for each in (one, two):
        each.took(FLOAT, 3.0)
    assert two.remaining([FLOAT]) == pytest.approx(one.remaining([FLOAT]) / 2)


def test_kinds_that_were_not_made_follow_from_others() -> None:
    found = forecast()
    before = found.remaining([])
    found.took(FLOAT, 10.0)
    assert found.remaining([]) == pytest.approx(10 * before)


def test_without_a_drop_or_a_bound_nothing_is_pruned() -> None:
    found = forecast(None)
    found.took(FLOAT, 1.0)
    assert found.remaining([]) == pytest.approx(7.0)


def test_size_costs_models_of_its_own() -> None:
    more = forecast(small=True).remaining([]) - forecast().remaining([])
    assert more > 10
    assert forecast(small=True).remaining([stored(FLOAT)]) < forecast(small=True).remaining([])
