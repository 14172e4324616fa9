"""Scales and zero points: what must be exact, what must fit, and what must not overflow."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphopt.passes.quantize.qdq.parameters import (
    activation_params,
    coarser_outputs,
    quantize,
    quantize_bias,
    quantize_weight,
    weight_params,
)
from graphopt.passes.quantize.qdq.rounding import separate_pairs
from graphopt.targets import QuantizationRules
from graphopt.types import DType

Array = np.ndarray[Any, Any]

U8 = QuantizationRules()
S8 = QuantizationRules(activations="int8", symmetric_activations=True)
S8_ASYMMETRIC = QuantizationRules(activations="int8")
SATURATING = QuantizationRules(saturates=True)
RULES = pytest.mark.parametrize("rules", [U8, S8, S8_ASYMMETRIC], ids=["u8", "s8", "s8-asymmetric"])

finite = st.floats(-1e6, 1e6, width=32)


def ends(rules: QuantizationRules) -> tuple[int, int]:
    return (0, 255) if rules.activations == "uint8" else (-128, 127)


@RULES
@given(st.tuples(finite, finite))
@settings(max_examples=200, deadline=None)
def test_zero_is_exact_and_both_ends_are_within_a_step(
    rules: QuantizationRules, pair: tuple[float, float]
) -> None:
    low, high = min(pair), max(pair)
    params = activation_params(low, high, rules)
    (scale,), (zero,) = params.scale, params.zero_point
    smallest, largest = ends(rules)
    assert smallest <= zero <= largest
    assert scale > 0
    assert np.float32(scale) == scale
    assert params.dtype is (DType.UINT8 if rules.activations == "uint8" else DType.INT8)
    assert params.axis is None
    assert scale * (smallest - zero) <= min(low, 0.0) + scale
    assert scale * (largest - zero) >= max(high, 0.0) - scale


@RULES
@given(st.floats(2.0**-100, 2.0**100, width=32))
@settings(max_examples=300, deadline=None)
def test_what_is_never_negative_starts_at_the_lowest_integer(
    rules: QuantizationRules, high: float
) -> None:
    params = activation_params(0.0, high, rules)
    assert params.zero_point == (ends(rules)[0],)
    # Rounded as the runtime rounds it: otherwise it would keep a Clip at `high`.
    assert np.float32(params.scale[0]) * np.float32(255) <= np.float32(high)
    assert np.float32(params.scale[0]) * np.float32(255) >= np.float32(high) * np.float32(0.999)


@given(st.floats(-1e6, -1e-6), st.floats(-1e6, 1e6))
@settings(max_examples=100, deadline=None)
def test_symmetric_activations_put_zero_at_zero(low: float, other: float) -> None:
    params = activation_params(low, max(low, other), S8)
    assert params.zero_point == (0,)
    assert params.scale[0] * 127 == pytest.approx(max(-low, other), rel=1e-6)


@RULES
@pytest.mark.parametrize("high", [0.0, 1e-45, 1e-39, 1e-37, 1e-36])
def test_a_range_of_nothing_or_next_to_nothing_gives_a_usable_scale_at_once(
    rules: QuantizationRules, high: float
) -> None:
    started = time.perf_counter()
    params = activation_params(0.0, high, rules)
    assert time.perf_counter() - started < 1.0
    assert np.isfinite(1 / np.float32(params.scale[0]))
    assert params.zero_point == (ends(rules)[0],)


@RULES
@given(arrays(np.float32, st.integers(1, 20), elements=finite))
@settings(max_examples=100, deadline=None)
def test_quantized_constants_are_half_a_step_off_at_most(
    rules: QuantizationRules, values: Array
) -> None:
    params = activation_params(float(values.min()), float(values.max()), rules)
    stored = quantize(values, params)
    assert stored.dtype == (np.uint8 if rules.activations == "uint8" else np.int8)
    back = (stored.astype(np.float64) - params.zero_point[0]) * params.scale[0]
    # The zero point is rounded too, which costs up to half a step more at the ends.
    assert np.abs(back - values).max() <= params.scale[0] * 1.01


weights = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9)),
    elements=st.floats(-100, 100, width=32),
)


@given(weights, st.sampled_from([0, 1, None]))
@settings(max_examples=150, deadline=None)
def test_weights_use_their_range_per_output(weight: Array, axis: int | None) -> None:
    params = weight_params(weight, axis, U8, None, 0.1)
    count = 1 if axis is None else weight.shape[axis]
    assert len(params.scale) == len(params.zero_point) == count
    assert set(params.zero_point) == {0}
    output_axis = axis or 0
    stored = quantize_weight(weight, output_axis, params)
    assert stored.dtype == np.int8
    assert stored.shape == weight.shape
    assert np.abs(stored.astype(int)).max() <= 127
    shape = [1] * weight.ndim
    shape[output_axis] = -1
    back = stored * np.array(params.scale).reshape(shape)
    assert (np.abs(back - weight) <= np.array(params.scale).reshape(shape) * 1.001).all()


def test_an_output_without_weights_gets_a_scale_all_the_same() -> None:
    params = weight_params(np.zeros((2, 3, 3), np.float32), 0, U8, None, 0.1)
    assert params.scale == (1.0, 1.0)


kernels = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)),
    elements=st.floats(-1, 1, width=32),
)


def _worst_sum(stored: Array) -> int:
    """The largest 255 * |a + b| of neighbours; brute force over the order of the kernels."""
    worst = 0
    for row in stored.astype(int):
        flat = [int(row[c, k]) for k in range(row.shape[1]) for c in range(row.shape[0])]
        worst = max([worst, *(255 * abs(a + b) for a, b in itertools.pairwise(flat))])
    return worst


@given(kernels, st.sampled_from([0, None]), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_pair_of_products_saturates_where_that_is_possible(
    weight: Array, axis: int | None, search: bool, learned: bool
) -> None:
    params = weight_params(weight, axis, SATURATING, None, 0.1, search=search)
    moments = np.eye(weight[0].size)[None] + 0.2 if learned else None
    stored = quantize_weight(weight, 0, params, moments, pairs=True)
    assert _worst_sum(stored) <= 2**15 - 1
    steps = weight / np.array(params.scale).reshape(-1, 1, 1)
    within = np.abs(stored - steps) <= 1.001
    # A searched scale clips the largest weights.
    assert (within | (search & (np.abs(stored.astype(int)) == 127))).all()


@given(kernels)
@settings(max_examples=200, deadline=None)
def test_scales_are_raised_no_further_than_the_worst_pair_needs(weight: Array) -> None:
    scales = np.array(weight_params(weight, 0, SATURATING, None, 0.1).scale)
    usual = np.array(weight_params(weight, 0, U8, None, 0.1).scale)
    factors = coarser_outputs(weight, 0)
    assert scales == pytest.approx(usual * factors, rel=1e-6)
    assert (factors >= 1).all()
    assert (factors <= 127 / 64 + 1e-9).all()
    for row, scale, raised in zip(weight, scales, factors > 1 + 1e-6, strict=True):
        flat = row.T.reshape(-1).astype(np.float64)
        together = np.abs(flat[:-1] + flat[1:])[flat[:-1] * flat[1:] > 0]
        # Scales do not go below the smallest normal float.
        if raised and scale > 1e-30:
            assert together.max() / scale == pytest.approx(128, rel=1e-6)


@given(kernels)
@settings(max_examples=100, deadline=None)
def test_what_a_separated_pair_loses_is_made_up_for(weight: Array) -> None:
    steps = weight.reshape(len(weight), -1).astype(np.float64)
    steps *= 64.4 / np.maximum(np.abs(steps).max(axis=1, keepdims=True), 1e-9)
    rounded = np.rint(steps)
    before = rounded.copy()
    moved = separate_pairs(steps, rounded, 128)
    assert np.array_equal(moved > 0, (before != rounded).any(axis=1))
    assert (np.abs(rounded) <= np.abs(before)).all()
    assert (np.abs(rounded - steps) < 1 + 1e-9).all()


def test_a_step_taken_from_a_pair_is_given_to_a_weight_of_the_other_sign() -> None:
    steps = np.array([[64.5, 63.5, -9.45, 2.0, -9.9, 3.3, 3.3]])
    rounded = np.array([[65.0, 64.0, -10.0, 2.0, -10.0, 3.0, 3.0]])
    assert list(separate_pairs(steps, rounded, 128)) == [1]
    assert rounded[0, :2].sum() == 128
    assert rounded[0, 2:].tolist() == [-9.0, 2.0, -10.0, 3.0, 3.0]


def test_balanced_rounding_does_not_push_a_pair_over_the_limit() -> None:
    # 127 and 1.4 are together above 128 already; three errors of 0.4 make one 1.4 a 2.
    weight = np.array([[[127.0, 1.0, 1.4, 1.4]]], np.float32)
    params = weight_params(weight, 0, SATURATING, None, 0.1)
    assert params.scale == pytest.approx((1.0,))
    assert _worst_sum(quantize_weight(weight, 0, params, pairs=True)) <= 2**15 - 1


def test_coarser_steps_only_where_needed() -> None:
    even = np.array([[[1.0], [1.0]]], np.float32)
    lone = np.array([[[1.0], [0.005]]], np.float32)
    opposite = np.array([[[1.0], [-1.0]]], np.float32)
    half = np.array([[[1.0], [0.5]]], np.float32)
    rows = np.concatenate([even, lone, opposite, half])
    params = weight_params(rows, 0, SATURATING, None, 0.1)
    assert params.scale == pytest.approx((1 / 64, 1 / 127, 1 / 127, 1.5 / 128))
    assert coarser_outputs(rows, 0) == pytest.approx((127 / 64, 1, 1, 1.5 * 127 / 128))
    plain = (1 / 127,) * 4
    assert weight_params(rows, 0, SATURATING, None, 0.1, pairs=False).scale == pytest.approx(plain)
    assert weight_params(rows, 0, U8, None, 0.1).scale == pytest.approx(plain)
    arm = QuantizationRules(activations="int8", saturates=True)
    assert weight_params(rows, 0, arm, None, 0.1).scale == pytest.approx(plain)


def test_one_scale_for_all_looks_at_pairs_within_an_output() -> None:
    matrix = np.array([[1.0, 1.0], [-1.0, 0.2]], np.float32)  # outputs along axis 1
    found = weight_params(matrix, None, SATURATING, None, 0.1, output_axis=1)
    assert found.scale == pytest.approx((1.2 / 128,))
    across = weight_params(matrix, None, SATURATING, None, 0.1, output_axis=0)
    assert across.scale == pytest.approx((2 / 128,))


@given(
    arrays(np.float64, 4, elements=st.floats(-1e4, 1e4)),
    st.floats(1e-12, 1e3),
    st.floats(1e-6, 10.0),
)
@settings(max_examples=200, deadline=None)
def test_a_bias_always_fits_into_32_bits(bias: Array, size: float, input_scale: float) -> None:
    assume(np.float32(input_scale) > 0)
    weight = np.full((4, 2, 3), size, np.float32)
    for axis in (0, None):
        params = weight_params(weight, axis, U8, bias, input_scale)
        products = np.float32(input_scale) * np.array(params.scale, np.float32)
        stored = quantize_bias(bias, products)
        assert stored.dtype == np.int32
        assert np.abs(stored.astype(np.int64)).max() <= 2**30 + 2**8
        assert np.abs(stored * products.astype(np.float64) - bias).max() <= products.max() * 0.51


def test_a_raised_scale_leaves_the_other_channels_alone() -> None:
    weight = np.full((2, 2, 3), 1e-6, np.float32)
    params = weight_params(weight, 0, U8, np.array([1e4, 0.0]), 1e-4)
    assert params.scale[0] > 1e3 * params.scale[1]
    assert params.scale[1] == pytest.approx(1e-6 / 127)
