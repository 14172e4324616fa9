"""Closed forms against numpy's least squares, and what streaming adds up to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.prune.reconstruct.least_squares import (
    RIDGE,
    fit,
    fit_bias,
    refit,
    ridge_for,
    solve,
)
from graphopt.passes.prune.reconstruct.moments import Moments, MomentSums
from graphopt.passes.prune.reconstruct.statistics import fit_statistics, scales

Array = np.ndarray[Any, Any]


def exact(x: Array, y: Array, samples: int = 10**6) -> Moments:
    """Return the moments of rows of one group, in float64."""
    mean, mean_out = x.mean(axis=0), y.mean(axis=0)
    a, b = x - mean, y - mean_out
    return Moments(
        mean=mean[None],
        centred=(a.T @ a / len(x))[None],
        mean_out=mean_out[None],
        cross=(a.T @ b / len(x))[None],
        variance_out=np.square(b).mean(axis=0)[None],
        rows=len(x),
        samples=samples,
    )


def drawn(seed: int, rows: int = 400, features: int = 7, outputs: int = 3) -> tuple[Array, ...]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, features)) @ random.standard_normal((features, features))
    x += 2 * random.standard_normal(features)
    y = np.tanh(x) @ random.standard_normal((features, outputs)) + 1.0
    return x, y, random.standard_normal((1, features, outputs))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_fit_without_a_ridge_is_least_squares_with_an_intercept(seed: int) -> None:
    x, y, prior = drawn(seed)
    found = fit(exact(x, y), prior, ridge=0.0)
    wanted = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
    np.testing.assert_allclose(found.weight[0], wanted[:-1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.bias[0], wanted[-1], rtol=1e-6, atol=1e-9)
    assert found.method == "least-squares"


def test_fit_with_a_ridge_solves_the_augmented_problem() -> None:
    x, y, prior = drawn(1)
    found = fit(exact(x, y), prior, ridge=0.1)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    weight = np.sqrt(0.1 * np.square(a).sum() / 7) * np.eye(7)
    wanted = np.linalg.lstsq(np.r_[a, weight], np.r_[b, weight @ prior[0]], rcond=None)[0]
    np.testing.assert_allclose(found.weight[0], wanted, rtol=1e-9)


def test_fit_without_an_intercept_is_about_zero() -> None:
    x, y, prior = drawn(2)
    found = fit(exact(x, y), prior, intercept=False, ridge=0.0)
    wanted = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(found.weight[0], wanted, rtol=1e-7)
    np.testing.assert_array_equal(found.bias, 0.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_refit_from_own_moments_is_least_squares_to_own_outputs(seed: int) -> None:
    x, _, weight = drawn(seed)
    bias = np.array([[0.5, -1.0, 2.0]])
    keep = np.random.default_rng(seed).random((1, 7)) < 0.6
    keep[0, 0] = True
    moments = exact(x, x @ weight[0] + bias)
    found = refit(moments.mean, moments.centred, weight, bias, keep, 0.0)
    y = x @ weight[0] + bias
    wanted = np.linalg.lstsq(np.c_[x[:, keep[0]], np.ones(len(x))], y, rcond=None)[0]
    np.testing.assert_allclose(found.weight[0], wanted[:-1], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.bias[0], wanted[-1], rtol=1e-6, atol=1e-8)


def test_refit_is_the_update_of_optimal_brain_surgeon() -> None:
    x, _, weight = drawn(5)
    moments = exact(x, x @ weight[0])
    keep = np.array([[True, False, True, True, False, True, True]])
    found = refit(moments.mean, moments.centred, weight, np.zeros((1, 3)), keep, 0.0)
    inverse = np.linalg.inv(moments.centred[0])
    gone = np.flatnonzero(~keep[0])
    own = np.linalg.inv(inverse[np.ix_(gone, gone)])
    updated = weight[0] - inverse[:, gone] @ own @ weight[0][gone]
    np.testing.assert_allclose(updated[gone], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.weight[0], updated[keep[0]], rtol=1e-8)


def test_refit_keeps_everything_when_nothing_goes() -> None:
    x, _, weight = drawn(6)
    moments = exact(x, x @ weight[0])
    bias = np.ones((1, 3))
    keep = np.ones((1, 7), dtype=bool)
    found = refit(moments.mean, moments.centred, weight, bias, keep, 0.01)
    np.testing.assert_allclose(found.weight, weight, rtol=1e-9)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-9)


def test_refit_without_a_ridge_to_give_moves_the_bias_only() -> None:
    x, _, weight = drawn(7)
    moments = exact(x, x @ weight[0])
    keep = np.array([[True, False, True, True, False, True, True]])
    found = refit(moments.mean, moments.centred, weight, np.zeros((1, 3)), keep, None)
    np.testing.assert_array_equal(found.weight[0], weight[0][keep[0]])
    lost = x[:, ~keep[0]].mean(axis=0) @ weight[0][~keep[0]]
    np.testing.assert_allclose(found.bias[0], lost, rtol=1e-9)
    assert found.method == "bias"


def test_ridge_grows_with_what_rows_are_missing() -> None:
    assert ridge_for(1000, 100) == RIDGE
    assert ridge_for(10**9, 100) == RIDGE
    assert ridge_for(500, 100) == pytest.approx(4 * RIDGE)
    assert ridge_for(100, 100) == pytest.approx(100 * RIDGE)
    assert ridge_for(99, 100) is None


def test_rows_of_one_sample_count_as_ten() -> None:
    x, y, prior = drawn(3)
    assert exact(x, y, samples=2).worth == 20
    assert fit(exact(x, y, samples=2), prior).method == "least-squares"
    few = fit(exact(x[:50], y[:50], samples=0), prior)
    assert few.method == "bias"
    np.testing.assert_array_equal(few.weight, prior)


def test_bias_only_keeps_weights_and_matches_means() -> None:
    x, y, prior = drawn(4)
    found = fit_bias(exact(x, y), prior)
    np.testing.assert_allclose((x @ prior[0] + found.bias).mean(axis=0), y.mean(axis=0))


def test_features_that_never_move_keep_their_weights() -> None:
    weight = solve(np.zeros((1, 3, 3)), np.zeros((1, 3, 2)), np.full((1, 3, 2), 5.0), 1e-3)
    np.testing.assert_array_equal(weight, np.full((1, 3, 2), 5.0))
    assert solve(np.zeros((1, 3, 3)), np.ones((1, 3, 2)), np.ones((1, 3, 2)), 0.0) is None


def test_statistics_are_matched_without_shrinkage() -> None:
    x, y, prior = drawn(8)
    found = fit_statistics(exact(x, y), prior, shrinkage=0.0)
    made = x @ found.weight[0] + found.bias
    np.testing.assert_allclose(made.mean(axis=0), y.mean(axis=0), rtol=1e-8)
    wanted = np.clip(y.std(axis=0) / (x @ prior[0]).std(axis=0), 0.25, 4.0)
    np.testing.assert_allclose(made.std(axis=0) / (x @ prior[0]).std(axis=0), wanted, rtol=1e-8)
    assert found.method == "statistics"


def test_scales_are_bounded_and_leave_dead_channels() -> None:
    found = scales(np.array([1.0, 1.0, 1.0, 0.0]), np.array([1e-6, 1e6, 0.0, 1.0]), 0.0)
    np.testing.assert_array_equal(found, [4.0, 0.25, 1.0, 1.0])
    assert scales(np.array([1.0, 9.0]), np.array([0.5, 9.0]))[0] < np.sqrt(2.0)


def streamed(parts: list[tuple[Array, Array]]) -> Moments:
    sums = MomentSums(1, parts[0][0].shape[1], parts[0][1].shape[1])
    for x, y in parts:
        sums.update(x[None].astype(np.float32), y[None].astype(np.float32))
    found = sums.result()
    assert found is not None
    return found


def test_streaming_gives_the_moments_of_all_rows_whatever_their_order() -> None:
    x, y, _ = drawn(9, rows=6000)
    x += 50.0  # a large mean must not eat the digits
    parts = [(x[i : i + 300], y[i : i + 300]) for i in range(0, 6000, 300)]
    wanted = exact(x, y)
    for found in (streamed(parts), streamed(parts[::-1])):
        scale = np.abs(wanted.centred).max()
        np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-6)
        np.testing.assert_allclose(found.mean_out, wanted.mean_out, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.centred, wanted.centred, atol=2e-6 * scale)
        np.testing.assert_allclose(found.cross, wanted.cross, atol=2e-6 * scale)
        np.testing.assert_allclose(found.variance_out, wanted.variance_out, rtol=1e-5)
        assert (found.rows, found.samples) == (6000, 20)
    one, other = streamed(parts), streamed(parts[::-1])
    np.testing.assert_allclose(one.centred, other.centred, atol=1e-6 * np.abs(one.centred).max())


def test_nothing_is_known_without_rows_or_with_infinite_ones() -> None:
    sums = MomentSums(1, 2, 1)
    assert sums.result() is None
    sums.update(np.array([[[1.0, np.inf]]], np.float32), np.ones((1, 1, 1), np.float32))
    assert sums.result() is None
    assert sums.is_broken
