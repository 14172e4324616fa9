"""Rounding that cancels errors: bounds for every weight, and the best choice by brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphopt.passes.quantize.qdq.rounding import round_balanced

LIMIT = 127
SLACK = 1e-9
"""Of sums of up to a few hundred float64 values below 128."""

Array = np.ndarray[Any, Any]


def weights(magnitude: float, *, outputs: int = 3, kernels: int = 4, taps: int = 9) -> Any:
    """Strategy: weights in steps, [outputs, kernels, taps]."""
    shape = st.tuples(st.integers(1, outputs), st.integers(1, kernels), st.integers(1, taps))
    return shape.flatmap(lambda s: arrays(np.float64, s, elements=st.floats(-magnitude, magnitude)))


@given(weights(130.0))
@settings(max_examples=200, deadline=None)
def test_integers_within_the_limit_and_one_step(steps: Array) -> None:
    rounded = round_balanced(steps, LIMIT)
    assert (rounded == np.rint(rounded)).all()
    assert np.abs(rounded).max() <= LIMIT
    inside = np.clip(steps, -LIMIT, LIMIT)
    assert np.abs(rounded - inside).max() <= 1.0


@given(weights(126.0))
@settings(max_examples=200, deadline=None)
def test_errors_cancel_per_output_and_nearly_per_kernel(steps: Array) -> None:
    error = steps - round_balanced(steps, LIMIT)
    assert np.abs(error.sum(axis=(1, 2))).max() <= 0.5 + SLACK
    # Balancing the output may take one more tap of a kernel the other way.
    assert np.abs(error.sum(axis=2)).max() <= 1.5 + SLACK


@given(weights(140.0))
@settings(max_examples=100, deadline=None)
def test_what_is_clipped_is_left_at_the_limit(steps: Array) -> None:
    rounded = round_balanced(steps, LIMIT)
    beyond = np.abs(steps) >= LIMIT
    assert (np.abs(rounded[beyond]) == LIMIT).all()


@given(arrays(np.float64, st.integers(1, 7), elements=st.floats(-20, 20)))
@settings(max_examples=150, deadline=None)
def test_one_kernel_has_the_smallest_squared_error_of_all_that_cancel(taps: Array) -> None:
    total = taps.sum()
    assume(abs(abs(total - np.floor(total)) - 0.5) > 1e-3)
    assume((np.abs(taps - np.floor(taps) - 0.5) > 1e-3).all())
    found = round_balanced(taps.reshape(1, 1, -1), LIMIT).reshape(-1)
    best = np.inf
    for up in itertools.product((0.0, 1.0), repeat=len(taps)):
        error = taps - np.floor(taps) - np.array(up)
        if abs(error.sum()) <= 0.5 + SLACK:
            best = min(best, float(np.square(error).sum()))
    assert np.square(taps - found).sum() == pytest.approx(best, abs=1e-6)


def test_integers_stay_as_they_are() -> None:
    steps = np.arange(-8.0, 8.0).reshape(2, 2, 4)
    assert (round_balanced(steps, LIMIT) == steps).all()


def test_a_mean_shift_of_the_inputs_no_longer_shifts_the_output() -> None:
    # All weights 0.4 away from an integer: nearest rounding is off by 0.4 for every product.
    steps = np.full((1, 10, 9), 3.4)
    nearest = (np.rint(steps) - steps).sum()
    balanced = (round_balanced(steps, LIMIT) - steps).sum()
    assert nearest == pytest.approx(-36.0)
    assert abs(balanced) <= 0.5 + SLACK
