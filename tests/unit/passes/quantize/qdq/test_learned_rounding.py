"""Learned rounding: never worse than what it replaces, and near the best choice of all."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.quantize.qdq.parameters import mean_error, quantize_weight, weight_params
from graphopt.passes.quantize.qdq.rounding import round_balanced, round_learned
from graphopt.targets.base import QuantizationRules

Array = np.ndarray[Any, Any]
LIMIT = 127
SLACK = 1e-9
"""Relative, of sums of float64 products."""


def problem(seed: int, groups: int, outputs: int, features: int) -> tuple[Array, Array]:
    """Weights in steps, and the second moment of inputs that go together, as after Relu."""
    random = np.random.default_rng(seed)
    steps = random.uniform(-20, 20, (groups, outputs, features))
    mixing = random.standard_normal((groups, features, features))
    rows = np.maximum(random.standard_normal((groups, 64, features)) @ mixing, 0)
    moments = rows.transpose(0, 2, 1) @ rows / 64 + 1e-3 * np.eye(features)
    return steps, moments


def error(steps: Array, rounded: Array, moments: Array) -> Array:
    difference = rounded - steps
    return np.einsum("gof,gfh,goh->go", difference, moments, difference)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_never_worse_than_balanced_or_nearest_and_within_a_step(
    seed: int, groups: int, outputs: int, features: int
) -> None:
    steps, moments = problem(seed, groups, outputs, features)
    rounded = round_learned(steps, moments, LIMIT)
    assert (rounded == np.rint(rounded)).all()
    assert np.abs(rounded - steps).max() < 1.0
    found = error(steps, rounded, moments)
    flat = steps.reshape(-1, features, 1)
    for other in (np.rint(steps), round_balanced(flat, LIMIT).reshape(steps.shape)):
        assert (found <= error(steps, other, moments) * (1 + SLACK) + SLACK).all()


def test_close_to_the_best_of_all_choices() -> None:
    ratios = []
    for seed in range(20):
        steps, moments = problem(seed, 1, 1, 9)
        best = min(
            float(error(steps, np.floor(steps) + np.array(up), moments)[0, 0])
            for up in itertools.product((0.0, 1.0), repeat=9)
        )
        found = error(steps, round_learned(steps, moments, LIMIT), moments)[0, 0]
        ratios.append(found / best)
    assert min(ratios) >= 1 - SLACK
    assert np.median(ratios) < 1.3


def test_weights_beyond_the_limit_stay_at_it() -> None:
    steps, moments = problem(0, 1, 2, 5)
    steps[0, 0] = 140.0
    assert (round_learned(steps, moments, LIMIT)[0, 0] == LIMIT).all()


def test_many_features_go_through_several_blocks() -> None:
    steps, moments = problem(1, 1, 3, 150)
    found = error(steps, round_learned(steps, moments, LIMIT), moments)
    assert found.sum() < 0.5 * error(steps, np.rint(steps), moments).sum()


def test_groups_are_independent() -> None:
    steps, moments = problem(2, 4, 2, 6)
    together = round_learned(steps, moments, LIMIT)
    for i in range(4):
        alone = round_learned(steps[i : i + 1], moments[i : i + 1], LIMIT)
        before = error(steps[i : i + 1], alone, moments[i : i + 1])
        after = error(steps[i : i + 1], together[i : i + 1], moments[i : i + 1])
        # The order of features is common to all groups, so the choice may differ a little.
        assert (after <= 2.0 * before + 1e-9).all()


def test_a_grouped_kernel_is_rounded_per_group_and_its_mean_error_is_exact() -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((4, 2, 3, 3)).astype(np.float32)
    rows = np.maximum(random.standard_normal((2, 200, 18)) + 0.5, 0)
    moments = rows.transpose(0, 2, 1) @ rows / 200 + 1e-3 * np.eye(18)
    params = weight_params(weight, 0, QuantizationRules(), None, 1.0)
    stored = quantize_weight(weight, 0, params, moments)
    assert stored.shape == weight.shape
    assert stored.dtype == np.int8
    real = stored * np.array(params.scale).reshape(-1, 1, 1, 1)
    outputs = [
        (rows[o // 2] @ (real[o] - weight[o]).reshape(-1)).mean() for o in range(len(weight))
    ]
    found = mean_error(weight, stored, 0, params, rows.mean(axis=1))
    np.testing.assert_allclose(found, outputs, rtol=1e-6, atol=1e-9)


def test_matrices_have_their_outputs_along_either_axis() -> None:
    steps, moments = problem(3, 1, 4, 7)
    weight = (steps[0] * 0.01).astype(np.float32)
    params = weight_params(weight, 0, QuantizationRules(), None, 1.0)
    turned = weight_params(weight.T, 1, QuantizationRules(), None, 1.0)
    one = quantize_weight(weight, 0, params, moments)
    other = quantize_weight(weight.T, 1, turned, moments)
    assert (one == other.T).all()
    mean = np.ones((1, 7))
    np.testing.assert_allclose(
        mean_error(weight, one, 0, params, mean),
        mean_error(weight.T, other, 1, turned, mean),
        rtol=1e-9,
        atol=1e-12,
    )


@given(st.integers(0, 1000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_searched_scales_never_raise_the_squared_error(seed: int, saturates: bool) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_t(2, (3, 400)).astype(np.float32)
    rules = QuantizationRules(saturates=saturates)
    errors, tops = [], []
    for search in (False, True):
        params = weight_params(weight, 0, rules, None, 1.0, search=search)
        scale = np.array(params.scale)[:, None]
        limit = np.rint(np.abs(weight).max(axis=1) / np.array(
            weight_params(weight, 0, rules, None, 1.0).scale))  # fmt: skip
        integers = np.minimum(np.abs(np.rint(weight / scale)), limit[:, None])
        errors.append(np.square(np.abs(weight) - integers * scale).sum(axis=1))
        tops.append(scale)
    assert (errors[1] <= errors[0] * (1 + 1e-5)).all()
    assert (tops[1] <= tops[0]).all()


def test_a_single_huge_weight_among_many_is_clipped() -> None:
    weight = np.random.default_rng(0).standard_normal((1, 20_000)).astype(np.float32)
    weight[0, 0] = 6.0
    found, exact = (
        weight_params(weight, 0, QuantizationRules(), None, 1.0, search=search).scale[0]
        for search in (True, False)
    )
    assert found < exact
