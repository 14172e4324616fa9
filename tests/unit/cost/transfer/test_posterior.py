"""Factors of a device from whole times: found, held by the prior, not moved by outliers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.cost.transfer import Prior, fit, log_times


def parts(seed: int, models: int, groups: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1.0, 100.0, (models, groups))


def test_shares_are_the_derivative_of_the_log_of_the_sum() -> None:
    times, logs, step = parts(0, 5, 3), np.array([0.1, -0.4, 0.8]), 1e-6
    _, shares = log_times(logs, times)
    for group in range(3):
        moved = logs.copy()
        moved[group] += step
        slope = (log_times(moved, times)[0] - log_times(logs, times)[0]) / step
        np.testing.assert_allclose(shares[:, group], slope, atol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)


def test_many_exact_measurements_give_the_factors() -> None:
    times, factors = parts(1, 40, 3), np.array([0.5, 3.0, 1.2])
    found = fit(times, np.log(times @ factors), Prior.around(3, 3.0, 0.8, noise=0.01))
    np.testing.assert_allclose(found.factors, factors, rtol=0.02)


def test_a_group_that_nothing_shows_follows_the_others() -> None:
    times = np.hstack([parts(2, 10, 2), np.zeros((10, 1))])
    found = fit(times, np.log(times @ np.array([7.0, 7.0, 1.0])), Prior.around(3, 3.0, 0.2))
    np.testing.assert_allclose(found.factors, 7.0, rtol=0.03)


def test_one_outlier_hardly_moves_the_fit() -> None:
    times, factors = parts(3, 20, 2), np.array([2.0, 2.0])
    measured = np.log(times @ factors)
    measured[4] += np.log(3.0)
    found = fit(times, measured, Prior.around(2, 3.0, 0.4))
    np.testing.assert_allclose(found.factors, factors, rtol=0.05)


def objective(logs: np.ndarray, times: np.ndarray, measured: np.ndarray, prior: Prior) -> float:
    rest = measured - log_times(logs, times)[0]
    apart = logs - prior.mean
    tails = (prior.tail + 1) * np.log1p((rest / prior.noise) ** 2 / prior.tail)
    return float(tails.sum() + apart @ np.linalg.solve(prior.covariance, apart))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 10), st.integers(1, 4), st.floats(0.1, 0.8))
def test_nothing_near_the_fit_is_more_probable(
    seed: int, models: int, groups: int, spread: float
) -> None:
    random = np.random.default_rng(seed)
    times = parts(seed, models, groups)
    noisy = np.log(times @ random.uniform(0.5, 2.0, groups)) + random.normal(0, 0.02, models)
    prior = Prior.around(groups, 3.0, spread)
    found = fit(times, noisy, prior)
    best = objective(found.mean, times, noisy, prior)
    for _ in range(50):
        near = found.mean + random.normal(0, 0.02, groups)
        assert objective(near, times, noisy, prior) >= best - 1e-6
    assert (found.factors > 0).all()


def test_a_tight_prior_only_scales() -> None:
    times = parts(4, 6, 3)
    measured = np.log(times @ np.array([1.0, 4.0, 9.0]))
    found = fit(times, measured, Prior.around(3, 3.0, 1e-4))
    assert found.factors.max() / found.factors.min() == pytest.approx(1.0, abs=0.01)
