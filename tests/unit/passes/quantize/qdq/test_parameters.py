"""Scales and zero points: what must be exact, what must fit, and what must not overflow."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphopt.passes.quantize.qdq.parameters import (
    activation_params,
    quantize,
    quantize_bias,
    quantize_weight,
    weight_params,
)
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


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)),
        elements=st.floats(-1, 1, width=32),
    )
)
@settings(max_examples=300, deadline=None)
def test_no_pair_of_products_saturates_where_that_is_possible(weight: Array) -> None:
    params = weight_params(weight, 0, SATURATING, None, 0.1)
    stored = np.abs(quantize_weight(weight, 0, params).astype(int)).reshape(weight.shape[0], -1)
    if stored.shape[1] < 2:
        return
    top_two = np.sort(stored, axis=1)[:, -2:].sum(axis=1)
    assert (255 * top_two <= 2**15 - 1).all()


def test_balanced_rounding_does_not_push_a_pair_over_the_limit() -> None:
    # 127 and 1.4 would fit; but the three errors of 0.4 make one 1.4 a 2.
    weight = np.array([[[127.0, 1.4, 1.4, 1.4]]], np.float32)
    stored = quantize_weight(weight, 0, weight_params(weight, 0, SATURATING, None, 0.1))
    assert 255 * np.sort(np.abs(stored.astype(int)).ravel())[-2:].sum() <= 2**15 - 1


def test_seven_bits_only_where_needed() -> None:
    even = np.array([[[1.0, 1.0]]], np.float32)
    lone = np.array([[[1.0, 0.005]]], np.float32)
    rows = np.concatenate([even, lone])
    params = weight_params(rows, 0, SATURATING, None, 0.1)
    assert params.scale == pytest.approx((1 / 63, 1 / 127))
    assert weight_params(rows, 0, U8, None, 0.1).scale == pytest.approx((1 / 127, 1 / 127))
    arm = QuantizationRules(activations="int8", saturates=True)
    assert weight_params(rows, 0, arm, None, 0.1).scale == pytest.approx((1 / 127, 1 / 127))


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
