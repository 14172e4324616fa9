"""Criteria against brute force."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.prune.builtin import graphopt_register_importance
from graphopt.passes.prune.importance.base import Evidence, Importance
from graphopt.passes.prune.importance.block_obs import BlockObs
from graphopt.passes.prune.importance.fpgm import Fpgm
from graphopt.passes.prune.importance.magnitude import MagnitudeL1, MagnitudeL2
from graphopt.passes.prune.importance.random import Random
from graphopt.passes.prune.importance.wanda import Wanda
from tests.unit.passes.prune.evidences import (
    condition,
    fitted_error,
    producer,
    random_evidence,
    view,
)

CRITERIA = graphopt_register_importance()
PLAIN = BlockObs(ridge=0.0)
cases = st.tuples(st.integers(0, 2**16), st.integers(2, 6), st.integers(1, 3), st.integers(1, 3))


def some_kept(seed: int, units: int) -> np.ndarray[Any, Any]:
    kept = np.random.default_rng(seed).random(units) < 0.6
    kept[seed % units] = True
    return kept


@settings(max_examples=40, deadline=None)
@given(cases)
def test_saliency_is_the_exact_growth_of_the_refitted_error(
    case: tuple[int, int, int, int],
) -> None:
    evidence, rows = random_evidence(*case)
    kept = some_kept(case[0], evidence.units)
    scores = PLAIN.scores(evidence, kept)
    before = fitted_error(evidence, rows, kept)
    rounding = 1e-10 + np.finfo(float).eps * condition(evidence, rows, kept) ** 2
    for unit in np.flatnonzero(kept):
        fewer = kept.copy()
        fewer[unit] = False
        growth = fitted_error(evidence, rows, fewer) - before
        assert scores[unit] == pytest.approx(growth, rel=rounding, abs=1e-11)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_gain_is_the_exact_fall_of_the_refitted_error(case: tuple[int, int, int, int]) -> None:
    evidence, rows = random_evidence(*case)
    kept = some_kept(case[0], evidence.units)
    gains = PLAIN.gains(evidence, kept)
    before = fitted_error(evidence, rows, kept)
    for unit in np.flatnonzero(~kept):
        more = kept.copy()
        more[unit] = True
        fall = before - fitted_error(evidence, rows, more)
        assert gains[unit] == pytest.approx(fall, rel=1e-8, abs=1e-11)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_loss_is_the_refitted_error(case: tuple[int, int, int, int]) -> None:
    evidence, rows = random_evidence(*case)
    kept = some_kept(case[0], evidence.units)
    wanted = fitted_error(evidence, rows, kept)
    assert PLAIN.loss(evidence, kept) == pytest.approx(wanted, rel=1e-8, abs=1e-11)


def test_scores_gains_and_loss_agree_with_a_ridge() -> None:
    evidence, _ = random_evidence(3, 6, 2, 2)
    criterion = BlockObs(ridge=0.1)
    kept = np.array([True, True, False, True, True, False])
    loss = criterion.loss(evidence, kept)
    for unit in range(6):
        other = kept.copy()
        other[unit] = not other[unit]
        change = criterion.loss(evidence, other) - loss
        found = criterion.scores(evidence, kept)[unit] - criterion.gains(evidence, kept)[unit]
        assert found == pytest.approx(change, rel=1e-8, abs=1e-12)


def test_views_of_one_operator_share_its_power() -> None:
    # Two groups of one convolution: the error counts against what both compute together.
    evidence, _ = random_evidence(5, 4, 1, 2)
    first, second = evidence.consumers
    joined = Evidence(
        4,
        (first, type(second)(**{**second.__dict__, "consumer": first.consumer})),
        (),
    )
    apart = PLAIN.loss(evidence, np.array([True, True, False, True]))
    together = PLAIN.loss(joined, np.array([True, True, False, True]))
    assert 0 < together < apart


def test_a_unit_that_never_moves_costs_nothing() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((50, 4))
    rows[:, 2] = 3.0
    evidence = Evidence(4, (view(rows, random.standard_normal((4, 2)), np.arange(4)),), ())
    scores = BlockObs().scores(evidence, np.ones(4, dtype=bool))
    assert scores[2] < 1e-2 * np.delete(scores, 2).min()


def test_without_data_block_obs_is_the_squared_norm() -> None:
    random = np.random.default_rng(1)
    weight = random.standard_normal((6, 2))
    given_view = view(np.ones((2, 6)), weight, np.array([0, 0, 1, 1, 2, 2]))
    bare = type(given_view)(given_view.consumer, weight, given_view.unit)
    scores = BlockObs().scores(Evidence(3, (bare,), ()), np.ones(3, dtype=bool))
    wanted = np.square(weight).reshape(3, -1).sum(axis=1) / np.square(weight).sum()
    np.testing.assert_allclose(scores, wanted * (1 + 1e-3), rtol=1e-12)


def test_without_consumers_block_obs_looks_at_producers() -> None:
    weight = np.array([[3.0, 0.0], [0.0, 1.0]])
    evidence = Evidence(2, (), (producer(weight, np.array([1, 0])),))
    np.testing.assert_allclose(BlockObs().scores(evidence, np.ones(2, bool)), [0.1, 0.9])
    assert BlockObs().loss(evidence, np.array([True, False])) == pytest.approx(0.9)
    np.testing.assert_allclose(BlockObs().gains(evidence, np.array([True, False])), [0.0, 0.9])


def test_magnitude_of_producers_as_shares() -> None:
    weight = np.array([[3.0, -4.0], [1.0, 0.0], [0.0, 0.0]])
    evidence = Evidence(2, (), (producer(weight, np.array([0, 1, -1])),))
    every = np.ones(2, dtype=bool)
    np.testing.assert_allclose(MagnitudeL1().scores(evidence, every), [7 / 8, 1 / 8])
    np.testing.assert_allclose(MagnitudeL2().scores(evidence, every), [5 / 6, 1 / 6])


def test_wanda_weighs_inputs() -> None:
    rows = np.array([[1.0, 10.0], [-1.0, -10.0]])
    evidence = Evidence(2, (view(rows, np.array([[5.0], [1.0]]), np.arange(2)),), ())
    found = Wanda().scores(evidence, np.ones(2, dtype=bool))
    np.testing.assert_allclose(found, [5 / 15, 10 / 15])


def test_fpgm_prefers_to_lose_what_others_are_near_to() -> None:
    weight = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0]])
    evidence = Evidence(3, (), (producer(weight, np.arange(3)),))
    scores = Fpgm().scores(evidence, np.ones(3, dtype=bool))
    distance = np.linalg.norm(weight[:, None] - weight[None], axis=2).sum(axis=1)
    np.testing.assert_allclose(scores, distance / distance.sum(), rtol=1e-9)
    # Once its neighbour is gone, distances to it do not count any more.
    left = Fpgm().scores(evidence, np.array([True, False, True]))
    assert left[0] == pytest.approx(left[2])


def test_fpgm_takes_units_with_several_indices() -> None:
    weight = np.array([[1.0], [2.0], [1.0], [2.0], [7.0]])
    evidence = Evidence(3, (), (producer(weight, np.array([0, 0, 1, 1, 2])),))
    scores = Fpgm().scores(evidence, np.ones(3, dtype=bool))
    assert scores[0] == scores[1] < scores[2]


def test_random_follows_the_seed() -> None:
    every = np.ones(9, dtype=bool)
    one = Random().scores(Evidence(9, (), (), seed=1), every)
    again = Random().scores(Evidence(9, (), (), seed=1), every)
    other = Random().scores(Evidence(9, (), (), seed=2), every)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", CRITERIA, ids=lambda kind: kind.name)
def test_every_criterion_keeps_the_protocol(kind: type[Importance]) -> None:
    criterion = kind()
    assert all((is_dataclass(criterion), isinstance(criterion, Importance)))
    evidence, _ = random_evidence(7, 5, 2, 2)
    made = producer(np.random.default_rng(0).standard_normal((5, 4)), np.arange(5))
    dead = producer(np.zeros((5, 4)), np.arange(5))
    for shown in (
        evidence,
        Evidence(5, evidence.consumers, (made,)),
        Evidence(5, (), (dead,)),
        Evidence(5, (), ()),
    ):
        for kept in (np.ones(5, dtype=bool), np.array([True, False, True, False, True])):
            scores = criterion.scores(shown, kept)
            assert scores.shape == (5,)
            assert scores.dtype == np.float64
            assert np.isfinite(scores).all()
            assert (scores >= 0).all()
            np.testing.assert_array_equal(scores, criterion.scores(shown, kept))
