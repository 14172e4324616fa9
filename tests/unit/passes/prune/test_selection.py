"""Which units stay."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.prune.importance.base import Evidence
from graphopt.passes.prune.importance.block_obs import BlockObs
from graphopt.passes.prune.importance.selection import choose_units, nested_choices
from tests.unit.passes.prune.evidences import random_evidence

Array = np.ndarray[Any, Any]


class Given:
    """Scores that are given, and do not change."""

    name: ClassVar[str] = "given"

    def __init__(self, *scores: float) -> None:
        self.given = np.array(scores)

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        return self.given


class NoSwaps:
    """Block-OBS without what swapping needs."""

    name: ClassVar[str] = "no-swaps"

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        return BlockObs().scores(evidence, kept)


def nothing(units: int) -> Evidence:
    return Evidence(units, (), ())


def test_the_lowest_go_and_of_equal_ones_the_last() -> None:
    kept = choose_units(nothing(5), Given(3, 1, 2, 1, 1), 3)
    assert kept.tolist() == [True, True, True, False, False]


def test_all_units_stay_where_all_are_wanted() -> None:
    assert choose_units(nothing(3), Given(1, 2, 3), 3).all()
    assert choose_units(nothing(3), Given(1, 2, 3), 7).all()


def test_one_unit_is_left_at_least() -> None:
    assert choose_units(nothing(3), Given(1, 3, 2), 0).tolist() == [False, True, False]


def test_cells_lose_the_same_number() -> None:
    cells = np.array([0, 0, 0, 1, 1, 1])
    kept = choose_units(nothing(6), Given(1, 2, 3, 7, 8, 9), 4, cells)
    assert kept.tolist() == [False, True, True, False, True, True]


def test_a_count_that_cells_do_not_allow_is_rounded_up() -> None:
    cells = np.array([0, 0, 0, 1, 1, 1])
    assert choose_units(nothing(6), Given(1, 2, 3, 7, 8, 9), 3, cells).sum() == 4
    assert choose_units(nothing(6), Given(1, 2, 3, 7, 8, 9), 0, cells).sum() == 2


def test_scores_are_refreshed_between_chunks() -> None:
    # Two units that say the same: each alone can go for nothing, both cannot.
    random = np.random.default_rng(0)
    evidence, _ = random_evidence(0, 20, 1, 1)
    rows = random.standard_normal((400, 20))
    rows[:, 1] = rows[:, 0]
    one = evidence.consumers[0]
    view = type(one)(
        one.consumer, np.ones((20, 1)), np.arange(20), rows.T @ rows / 400, rows.mean(axis=0), 400
    )
    kept = choose_units(Evidence(20, (view,), ()), NoSwaps(), 18)
    assert kept[:2].sum() == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(4, 9), st.integers(1, 2))
def test_swaps_never_raise_the_loss(seed: int, units: int, taps: int) -> None:
    evidence, _ = random_evidence(seed, units, taps, 2)
    criterion = BlockObs()
    cells = np.arange(units) % 2
    for count in range(2, units):
        plain = choose_units(evidence, NoSwaps(), count, cells)
        swapped = choose_units(evidence, criterion, count, cells)
        assert swapped.sum() == plain.sum()
        lost = np.bincount(cells, weights=~swapped)
        assert lost[0] == lost[1]
        assert criterion.loss(evidence, swapped) <= criterion.loss(evidence, plain)


def test_the_choice_is_close_to_the_best_there_is() -> None:
    criterion = BlockObs()
    excess = []
    for seed in range(10):
        evidence, _ = random_evidence(seed, 7, 1, 1)
        found = criterion.loss(evidence, choose_units(evidence, criterion, 4))
        masks = [np.isin(np.arange(7), list(some)) for some in combinations(range(7), 4)]
        excess.append(found / min(criterion.loss(evidence, mask) for mask in masks))
    assert np.median(excess) == pytest.approx(1.0)
    assert max(excess) < 2.0


def test_many_counts_are_as_good_as_each_alone() -> None:
    evidence, _ = random_evidence(4, 8, 2, 1)
    many = nested_choices(evidence, BlockObs(), [2, 6, 4])
    for count, kept in zip([6, 4, 2], many, strict=True):
        assert kept.sum() == count
        np.testing.assert_array_equal(kept, choose_units(evidence, BlockObs(), count))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_what_stays_does_not_depend_on_what_else_is_asked_for(seed: int, counts: list[int]) -> None:
    evidence, _ = random_evidence(seed, units=40, taps=1, views=1)
    together = nested_choices(evidence, BlockObs(), counts)
    for count, kept in zip(sorted(counts, reverse=True), together, strict=True):
        np.testing.assert_array_equal(kept, choose_units(evidence, BlockObs(), count))
