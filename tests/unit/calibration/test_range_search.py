"""Entropy and squared error against straightforward searches that are too slow to ship."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.calibration.density import density
from graphopt.calibration.entropy import divergences, windows
from graphopt.calibration.histogram import StreamingHistogram
from graphopt.calibration.observers import Entropy, Mse
from graphopt.errors import RecipeError

if TYPE_CHECKING:
    from graphopt.calibration.base import HistogramObserver

SEEDS = st.integers(0, 2**32 - 1)


def histogram_of(values: np.ndarray, bins: int = 4096) -> StreamingHistogram:
    histogram = StreamingHistogram(bins)
    for part in np.array_split(values.astype(np.float32), 3):
        histogram.add(part)
    return histogram


def chosen(observer: HistogramObserver, values: np.ndarray) -> tuple[float, float]:
    return observer.choose(histogram_of(values, observer.bins))


# --- entropy ------------------------------------------------------------------


def slow_divergence(
    counts: list[float], alone: list[float], start: int, stop: int, levels: int
) -> float:
    """The definition at the top of graphopt.calibration.entropy, bin by bin."""
    total, n = sum(counts) + sum(alone), stop - start
    original, kept = list(counts[start:stop]), list(counts[start:stop])
    both = [a + b for a, b in zip(counts, alone, strict=True)]
    for end, tail in ((0, sum(both[:start])), (-1, sum(both[stop:]))):
        if tail and not counts[start:stop][end]:
            kept[end] += 1.0
        original[end] += tail
    inside = sum(kept) + sum(alone[start:stop])
    if not inside:
        return math.inf
    bounds = [g * n // levels for g in range(levels + 1)]
    divergence, noise = 0.0, 0.0
    for first, last in itertools.pairwise(bounds):
        group = [j for j in range(first, last) if kept[j]]
        mass = sum(kept[j] for j in group)
        if group:
            noise += (len(group) - 1) * (1 - math.exp(1 - mass / len(group))) / 2
        for j in group:
            p, q = original[j] / total, mass / len(group) / inside
            divergence += p * math.log(p / q) if p else 0.0
    for exact in alone[start:stop]:
        divergence += exact / total * math.log(inside / total)
    return divergence - noise / total


@given(SEEDS, st.integers(4, 20), st.floats(0.05, 1.0), st.data())
@settings(max_examples=60, deadline=None)
def test_divergences_are_those_of_the_definition(
    seed: int, levels: int, filled: float, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    size = data.draw(st.integers(levels, 80))
    counts = np.where(rng.random(size) < filled, rng.integers(1, 50, size), 0).astype(np.float64)
    counts[rng.integers(size)] += 1
    alone = np.where(rng.random(size) < 0.1, 500.0, 0.0)
    starts = rng.integers(0, size - levels + 1, 12)
    stops = np.array([rng.integers(start + levels, size + 1) for start in starts])
    found = divergences(counts, alone, starts, stops, levels)
    for value, start, stop in zip(found, starts, stops, strict=True):
        exact = slow_divergence(counts.tolist(), alone.tolist(), int(start), int(stop), levels)
        # Differences of sums of c ln c: 1e-16 of a few thousand, divided by the total again.
        assert value == pytest.approx(exact, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("one_sided", [False, True])
def test_candidates_are_windows_around_zero(symmetric: bool, one_sided: bool) -> None:
    values = np.random.default_rng(0).standard_normal(5000)
    found = density(histogram_of(np.abs(values) if one_sided else values), symmetric=symmetric)
    starts, stops = windows(found, 256)
    assert (starts[0], stops[0]) == (0, len(found.counts))
    assert (stops - starts >= 256).all()
    assert (np.diff(stops - starts) < 0).all()
    assert (starts <= -found.first).all()
    assert (stops > -found.first).all()
    if symmetric:
        assert (np.abs(starts + stops + 2 * found.first) <= 1).all()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("count", [3_000, 100_000])
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("outliers", [1, 3])
def test_entropy_clips_an_outlier_at_50_sigma(
    symmetric: bool, count: int, one_sided: bool, outliers: int
) -> None:
    values = np.random.default_rng(1).standard_normal(count).astype(np.float32)
    values = np.maximum(values, 0) if one_sided else values
    inliers = np.abs(values).max()
    values[:outliers] = 50.0
    low, high = chosen(Entropy(symmetric=symmetric), values)
    # 3,000 values in thousands of bins are mostly noise: what is sure is less.
    assert inliers * 0.6 < high < (13 if count == 100_000 else 25)
    assert low == values.min() if one_sided else values.min() <= low < -0.6 * inliers


@pytest.mark.parametrize("count", [10_000, 300_000])
@pytest.mark.parametrize("make", ["normal", "relu", "uniform", "pixels", "relu6"])
def test_entropy_leaves_well_behaved_tensors_alone(count: int, make: str) -> None:
    rng = np.random.default_rng(2)
    normal = rng.standard_normal(count)
    values = {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "uniform": rng.uniform(0, 1, count),
        "pixels": rng.integers(0, 256, count) / 255,
        "relu6": np.clip(3 * normal, 0, 6),
    }[make]
    low, high = chosen(Entropy(), values)
    kept = np.mean((values >= low - 1e-6) & (values <= high + 1e-6))
    assert kept > 0.9995
    if make in ("uniform", "pixels", "relu6"):
        assert (low, high) == (values.astype(np.float32).min(), values.astype(np.float32).max())


def test_a_background_value_does_not_make_entropy_clip_the_rest() -> None:
    rng = np.random.default_rng(5)
    values = np.abs(rng.standard_normal(100_000))
    values[:40_000] = 0.7351
    values[40_000:50_000] = 1.3
    low, high = chosen(Entropy(), values)
    assert np.mean(values > high) < 5e-4
    assert low == values.astype(np.float32).min()


def test_entropy_with_as_many_levels_as_bins_clips_nothing() -> None:
    values = np.random.default_rng(3).standard_t(2, 10_000).astype(np.float32)
    assert chosen(Entropy(levels=65536), values) == (values.min(), values.max())


# --- squared error ------------------------------------------------------------


def squared_error(
    values: np.ndarray, low: float, high: float, levels: int, symmetric: bool
) -> float:
    """Quantize as insert-qdq does and compare."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        half = (levels - 1) // 2
        scale, smallest, largest = max(-low, high) / half, -half, half
    else:
        scale = (high - low) / (levels - 1)
        smallest = -round(-low / scale)
        largest = smallest + levels - 1
    integers = np.clip(np.rint(values / scale), smallest, largest)
    return float(np.mean((integers * scale - values) ** 2))


def best_on_a_grid(values: np.ndarray, levels: int, symmetric: bool) -> float:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    factors = np.geomspace(1, 1 / 64, 40)
    pairs = [(low * f, high * g) for f in factors[: 1 if low == 0 else 40] for g in factors]
    if symmetric:
        peak = max(-low, high)
        pairs = [(-peak * f, peak * f) for f in np.geomspace(1, 1 / 64, 200)]
    return min(squared_error(values, *pair, levels, symmetric) for pair in pairs)


def sample(kind: str, rng: np.random.Generator, count: int) -> np.ndarray:
    normal = rng.standard_normal(count)
    if kind == "outlier":
        normal[0] = 50.0
    made = {
        "normal": normal,
        "outlier": normal,
        "relu": np.maximum(normal, 0),
        "negative": -(np.maximum(normal, 0) ** 3),
        "laplace": rng.laplace(size=count),
        "student": rng.standard_t(3, count),
        "silu": 3 * normal / (1 + np.exp(-3 * normal)),
        "pixels": rng.integers(0, 256, count) / 255,
        "shifted": 5 + normal,
    }
    return made[kind].astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("levels", [16, 256])
@pytest.mark.parametrize(
    "kind",
    ["normal", "outlier", "relu", "negative", "laplace", "student", "silu", "pixels", "shifted"],
)
def test_mse_is_as_good_as_a_grid_search_on_the_values(
    kind: str, levels: int, symmetric: bool
) -> None:
    values = sample(kind, np.random.default_rng(4), 4000)
    low, high = chosen(Mse(levels=levels, symmetric=symmetric), values)
    assert values.min() <= low <= high <= values.max()
    error = squared_error(values, low, high, levels, symmetric)
    # The histogram does not see positions within a bin; 16 steps are coarse for the model.
    assert error <= best_on_a_grid(values, levels, symmetric) * (1.05 if levels == 256 else 1.15)


@given(SEEDS, st.sampled_from(["normal", "outlier", "relu", "laplace", "student", "silu"]))
@settings(max_examples=40, deadline=None)
def test_mse_never_loses_to_the_full_range(seed: int, kind: str) -> None:
    values = sample(kind, np.random.default_rng(seed), 2000)
    low, high = chosen(Mse(), values)
    full = squared_error(values, values.min(), values.max(), 256, False)
    # By chance the very values of a small sample suit one grid better than the other.
    assert squared_error(values, low, high, 256, False) <= full * 1.05


# --- both ---------------------------------------------------------------------

OBSERVERS = [Entropy(), Entropy(levels=16, symmetric=True), Mse(), Mse(levels=16, symmetric=True)]


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [3.7],
        [-3.7],
        [0.0, 1.0],
        [1000.0, 1000.5],
        [-1000.5, -1000.0],
        [-3.4e38, 3.4e38],
        [-1.7e308, 1.7e308],
        [1e-40, -1e-40],
        [0.0, 1e-30],
        [-1e-38, 1e38],
        [0.0] * 5000 + [2.0],
    ],
)
def test_extreme_tensors_get_a_range_within_their_values(
    observer: HistogramObserver, values: list[float]
) -> None:
    histogram = StreamingHistogram(observer.bins)
    histogram.add(np.array(values))
    low, high = observer.choose(histogram)
    assert min(values) <= low <= high <= max(values)


@given(SEEDS, st.randoms(use_true_random=False), st.sampled_from(OBSERVERS))
@settings(max_examples=40, deadline=None)
def test_the_order_and_size_of_batches_do_not_matter(
    seed: int, random: object, observer: Entropy | Mse
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(2, rng.integers(1, 9000)).astype(np.float32)
    parts = np.array_split(values, rng.integers(1, 8))
    random.shuffle(parts)  # type: ignore[attr-defined]
    one, many = observer.start(), observer.start()
    one.update(values)
    for part in parts:
        many.update(part)
    assert one.result() == many.result()


@pytest.mark.parametrize("kind", [Entropy, Mse])
@pytest.mark.parametrize("options", [{"levels": 3}, {"levels": 65537}, {"bins": 100}])
def test_options_out_of_range_are_named(kind: type[Entropy | Mse], options: dict[str, int]) -> None:
    with pytest.raises(RecipeError) as caught:
        kind(**options)
    assert caught.value.code == "G103"
    assert next(iter(options)) in caught.value.message
