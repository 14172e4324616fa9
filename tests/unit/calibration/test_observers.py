"""Observers against brute force, in any order and any batching."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.calibration.base import Observer
from graphopt.calibration.histogram import StreamingHistogram
from graphopt.calibration.observers import Entropy, MinMax, MovingAverage, Mse, Percentile
from graphopt.errors import DataError, RecipeError

FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
BATCHES = st.lists(
    hnp.arrays(np.float32, st.integers(1, 30), elements=FLOATS), min_size=1, max_size=6
)


def filled(batches: list[np.ndarray], bins: int = 64) -> StreamingHistogram:
    histogram = StreamingHistogram(bins)
    for batch in batches:
        histogram.add(batch)
    return histogram


@given(BATCHES, st.floats(0, 100))
@settings(max_examples=300, deadline=None)
def test_quantiles_are_within_one_bin_of_numpy(batches: list[np.ndarray], percent: float) -> None:
    histogram = filled(batches)
    values = np.concatenate(batches).astype(np.float64)
    exact = float(np.percentile(values, percent))
    # One bin width, plus double rounding of the interpolation itself.
    tolerance = histogram.width + 1e-12 * float(np.abs(values).max())
    assert abs(histogram.quantile(percent / 100) - exact) <= tolerance


@given(BATCHES, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_result_does_not_depend_on_order_or_batching(
    batches: list[np.ndarray], random: object
) -> None:
    one = filled([np.concatenate(batches)])
    shuffled = list(batches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = filled(shuffled)
    assert one.width == other.width
    assert one.counts.tolist() == other.counts.tolist()
    assert (one.low, one.high, one.total) == (other.low, other.high, other.total)


@given(BATCHES)
@settings(max_examples=100, deadline=None)
def test_the_width_follows_the_span(batches: list[np.ndarray]) -> None:
    histogram = filled(batches)
    span, largest = histogram.high - histogram.low, max(abs(histogram.low), abs(histogram.high))
    assert histogram.counts.sum() == histogram.total
    bound = max(2 * span / (histogram.bins - 1), largest * 2.0**-23, 2.0**-100)
    assert histogram.width <= bound


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(10, np.float32),
        np.full(10, 3.7, np.float32),
        np.array([1000.0, 1000.5], np.float32),
        np.array([-3.4e38, 3.4e38], np.float32),
        np.array([-1.7e308, 1.7e308]),
        np.array([1e-40, -1e-40, 1.0], np.float32),
        np.array([0.0, 1e-30], np.float32),
    ],
)
def test_extreme_values_keep_their_ends(values: np.ndarray) -> None:
    histogram = filled([values[:1], values])
    assert histogram.quantile(0) == values.min()
    assert histogram.quantile(1) == values.max()
    assert histogram.counts.sum() == values.size + 1


@pytest.mark.parametrize("first", [0.0, 3e-7])
def test_a_constant_batch_first_costs_no_resolution(first: float) -> None:
    values = np.linspace(0, 1e-6, 1000, dtype=np.float32)
    early = filled([np.full(5, first, np.float32), values])
    late = filled([values, np.full(5, first, np.float32)])
    assert early.width == late.width <= 2e-6 / 63
    assert early.counts.tolist() == late.counts.tolist()


def test_zeros_first_then_large_values_merge_without_loss() -> None:
    histogram = filled([np.zeros(100, np.float32), np.array([1e30], np.float32)])
    assert histogram.counts.sum() == 101
    assert histogram.quantile(0.5) == pytest.approx(0.0, abs=histogram.width)


@pytest.mark.parametrize("bins", [0, 1, 3, 100])
def test_bins_are_a_power_of_two(bins: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        StreamingHistogram(bins)


def test_an_empty_histogram_has_no_quantiles() -> None:
    with pytest.raises(ValueError, match="empty"):
        StreamingHistogram().quantile(0.5)


@given(BATCHES)
@settings(max_examples=50, deadline=None)
def test_min_max_is_exact(batches: list[np.ndarray]) -> None:
    accumulator = MinMax().start()
    for batch in batches:
        accumulator.update(batch)
    values = np.concatenate(batches)
    assert accumulator.result() == (values.min(), values.max())


def test_percentile_clips_both_tails() -> None:
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    values[:2] = 50.0, -40.0
    observer = Percentile(kept=99.9)
    accumulator = observer.start()
    for batch in np.array_split(values, 7):
        accumulator.update(batch)
    low, high = accumulator.result()
    exact = np.percentile(values.astype(np.float64), [0.05, 99.95])
    width = 2 * 90 / (observer.bins - 1)  # the widest that a bin can be
    np.testing.assert_allclose([low, high], exact, atol=width, rtol=0)


def test_all_kept_is_min_max() -> None:
    values = np.random.default_rng(1).standard_normal(1000)
    accumulator = Percentile(kept=100).start()
    accumulator.update(values)
    assert accumulator.result() == (values.min(), values.max())


@given(BATCHES, st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_moving_average_weighs_by_age(batches: list[np.ndarray], momentum: float) -> None:
    accumulator = MovingAverage(momentum).start()
    for batch in batches:
        accumulator.update(batch)
    weights = momentum ** np.arange(len(batches) - 1, -1, -1.0)
    low = np.average([float(batch.min()) for batch in batches], weights=weights)
    high = np.average([float(batch.max()) for batch in batches], weights=weights)
    # Running means of doubles of at most 1e6.
    np.testing.assert_allclose(accumulator.result(), (low, high), rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_a_momentum_out_of_range_is_named(momentum: float) -> None:
    with pytest.raises(RecipeError, match="momentum"):
        MovingAverage(momentum)


@given(
    st.lists(hnp.arrays(np.float32, st.integers(1, 6000), elements=FLOATS, fill=FLOATS)),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_small_and_large_batches_are_binned_alike(
    batches: list[np.ndarray], random: object
) -> None:
    values = np.concatenate([np.zeros(1, np.float32), *batches])
    together, apart = StreamingHistogram(64), StreamingHistogram(64)
    together.add(np.resize(values, len(values) * 3).astype(np.float64))
    for _ in range(3):
        apart.add(values)
        if random.random() < 0.5:  # type: ignore[attr-defined]
            assert apart.counts.sum() == apart.total
    assert apart.counts.tolist() == together.counts.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [64, 65536])
@pytest.mark.parametrize("low", [-40.0, 0.0, 24.0])
def test_values_just_below_an_edge_stay_below_it(
    dtype: type[np.floating], bins: int, low: float
) -> None:
    histogram = filled([np.array([low, 60.0], dtype)], bins)
    assert histogram.counts.sum() == 2  # so that the bins below zero are there already
    edges = np.arange(max(low, 0.0) + 1, 59, dtype=dtype)
    values = np.nextafter(np.concatenate([edges, dtype([1e-6])]), dtype(low))
    values = values[values > low]
    histogram.add(np.resize(values, 20_000))  # at once, and without any value below zero
    everything = np.concatenate([np.array([low, 60.0]), np.resize(values, 20_000)])
    numbers = np.floor(everything / histogram.width).astype(int) - histogram.first
    np.testing.assert_array_equal(histogram.counts, np.bincount(numbers, minlength=bins))


def test_a_buffer_that_is_used_again_does_no_harm() -> None:
    buffer, histogram = np.zeros(10, np.float32), StreamingHistogram(64)
    for value in (1.0, 2.0, 3.0):
        buffer[:] = value
        histogram.add(buffer)
    assert histogram.counts[histogram.counts > 0].tolist() == [10, 10, 10]


@given(BATCHES, st.booleans())
@settings(max_examples=100, deadline=None)
def test_bins_around_zero_are_those_of_a_histogram_with_zero(
    batches: list[np.ndarray], symmetric: bool
) -> None:
    histogram = filled(batches)
    counts, first, width = histogram.around_zero(symmetric=symmetric)
    assert first <= 0 < first + len(counts)
    assert len(counts) <= (128 if symmetric else 64)
    values = np.concatenate(batches).astype(np.float64)
    numbers = np.floor(values / width).astype(int) - first
    np.testing.assert_array_equal(counts, np.bincount(numbers, minlength=len(counts)))
    if symmetric:
        assert abs(len(counts) + 2 * first) <= 1


@given(BATCHES)
@settings(max_examples=50, deadline=None)
def test_a_histogram_is_restored_from_its_parts(batches: list[np.ndarray]) -> None:
    one = filled(batches)
    other = StreamingHistogram.restore(
        one.counts, exponent=one.exponent, first=one.first, low=one.low, high=one.high
    )
    for histogram in (one, other):
        histogram.add(np.array([7.5, -2e6], np.float32))
    assert one.counts.tolist() == other.counts.tolist()
    assert (one.low, one.high, one.total) == (other.low, other.high, other.total)


@pytest.mark.parametrize(
    "observer", [MinMax(), MovingAverage(), Percentile(), Entropy(), Mse(), Mse(symmetric=True)]
)
def test_the_observer_contract(observer: Observer) -> None:
    assert isinstance(observer, Observer)
    accumulator = observer.start()
    accumulator.update(np.zeros((0, 3), np.float32))
    with pytest.raises(DataError) as caught:
        accumulator.result()
    assert caught.value.code == "G213"
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="NaN"):
            accumulator.update(np.array([1.0, bad], np.float32))
    accumulator.update(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert accumulator.result()[0] == pytest.approx(0, abs=0.01)


def test_observers_are_values() -> None:
    assert Percentile(kept=99.9) == Percentile(kept=99.9)
    assert repr(Percentile(kept=99.9)) == "Percentile(kept=99.9, bins=4096)"
    with pytest.raises(AttributeError):
        Percentile().kept = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "options", [{"kept": 0.0}, {"kept": 100.5}, {"kept": math.nan}, {"bins": 1000}, {"bins": 32}]
)
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError) as caught:
        Percentile(**options)  # type: ignore[arg-type]
    assert caught.value.code == "G103"
    assert next(iter(options)) in caught.value.message
