"""Channel moments and Gram matrices against numpy on everything at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.calibration.gram import Gram
from graphopt.calibration.moments import ChannelMoments


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 6), min_size=1, max_size=6),
    st.sampled_from([0.0, 1.0, 1e4]),
    st.sampled_from([0, 1, -1]),
)
@settings(max_examples=150, deadline=None)
def test_moments_equal_two_passes_over_everything(
    seed: int, sizes: list[int], offset: float, axis: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.standard_t(4, (3, size, 5)) + offset for size in sizes]
    moments = ChannelMoments(axis)
    for part in parts:
        moved = np.moveaxis(part, 0, axis)
        moments.update(moved)
    rows = np.concatenate(parts, axis=1).reshape(3, -1)
    if rows.size == 0:
        assert moments.count == 0
        assert moments.mean.shape == moments.kurtosis.shape == (0,)
        return
    assert moments.count == rows.shape[1]
    mean, variance = rows.mean(axis=1), rows.var(axis=1)
    fourth = ((rows - mean[:, None]) ** 4).mean(axis=1)
    np.testing.assert_array_equal(moments.low, rows.min(axis=1))
    np.testing.assert_array_equal(moments.high, rows.max(axis=1))
    np.testing.assert_array_equal(moments.peak, np.abs(rows).max(axis=1))
    # float64 sums of up to 180 values around 1e4: 1e-16 * 1e4 each, relative to a spread of 1.
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-9, atol=0)
    np.testing.assert_allclose(moments.kurtosis, fourth / variance**2, rtol=1e-8)


def test_a_large_tensor_is_taken_in_blocks() -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 400, 300)).astype(np.float32)
    moments = ChannelMoments(1)
    moments.update(values)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(moments.variance, wide.var(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(moments.kurtosis, 3.0, rtol=0.05)  # a normal sample of 240,000


def test_constant_channels_have_no_kurtosis() -> None:
    moments = ChannelMoments(0)
    moments.update(np.array([[2, 2, 2], [1, 2, 3]], np.int8))
    assert moments.variance.tolist() == [0.0, pytest.approx(2 / 3)]
    assert moments.kurtosis.tolist() == [0.0, pytest.approx(1.5)]


def test_channels_do_not_change() -> None:
    moments = ChannelMoments(1)
    moments.update(np.ones((2, 3)))
    with pytest.raises(ValueError, match="4 channels after 3"):
        moments.update(np.ones((2, 4)))
    with pytest.raises(ValueError, match="axis 1"):
        moments.update(np.ones(3))


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 7), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_gram_is_that_of_all_rows(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((size, 2, 4)).astype(np.float32) for size in sizes]
    gram = Gram()
    for part in parts:
        gram.update(part)
    rows = np.concatenate(parts).reshape(-1, 4).astype(np.float64)
    assert gram.count == len(rows)
    if not gram.count:
        assert gram.matrix.shape == (0, 0)
        assert gram.mean.shape == (0,)
        return
    np.testing.assert_allclose(gram.matrix, rows.T @ rows, rtol=0, atol=1e-12 * len(rows))
    np.testing.assert_array_equal(gram.matrix, gram.matrix.T)
    np.testing.assert_allclose(gram.mean, rows.mean(axis=0), rtol=0, atol=1e-13)


def test_a_gram_refuses_other_rows() -> None:
    gram = Gram()
    gram.update(np.ones(3))
    assert gram.count == 1
    with pytest.raises(ValueError, match="2 features after 3"):
        gram.update(np.ones((4, 2)))
    with pytest.raises(ValueError, match="no features"):
        gram.update(np.array(1.0))
