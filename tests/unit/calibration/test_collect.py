"""The streaming run and its cache."""

from __future__ import annotations

import threading
import tracemalloc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from graphopt.calibration.ahead import run_ahead
from graphopt.calibration.base import InputSpec, RangeStatistics
from graphopt.calibration.collect import Collected, collect
from graphopt.calibration.observers import Entropy, MinMax, Mse, Percentile
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = {"x": InputSpec("x", ("N", "T"), "float32")}
RNG = np.random.default_rng(0)


@dataclass
class Engine:
    """A stand-in for a runtime: every tensor is a function of the input."""

    seen: int = 0
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        x = feed["x"]
        self.seen += 1
        yield "double", x * 2
        yield "relu", np.maximum(x, 0)
        yield from self.extra.items()


def ragged(count: int) -> list[np.ndarray]:
    return [RNG.standard_normal((1, 10 + n % 7)).astype(np.float32) for n in range(count)]


def test_ranges_equal_brute_force_on_ragged_shapes() -> None:
    samples = ragged(40)
    engine = Engine()
    steps: list[tuple[int, int]] = []
    found = collect(
        engine,
        open_dataset(samples, ONE),
        MinMax(),
        ["double", "relu"],
        progress=lambda done, total: steps.append((done, total)),
    )
    everything = np.concatenate([sample.ravel() for sample in samples])
    assert found.ranges == {
        "double": RangeStatistics(everything.min() * 2, everything.max() * 2, 40, "min-max"),
        "relu": RangeStatistics(0.0, everything.max(), 40, "min-max"),
    }
    assert found.skipped == {}
    assert engine.seen == 40
    assert steps == [(n, 40) for n in range(1, 41)]


def test_percentiles_equal_brute_force() -> None:
    samples = ragged(60)
    found = collect(Engine(), open_dataset(samples, ONE), Percentile(kept=98.0), ["double"])
    everything = 2 * np.concatenate([sample.ravel() for sample in samples]).astype(np.float64)
    exact = np.percentile(everything, [1, 99])
    tolerance = 2 * np.ptp(everything) / 4095  # the widest bin
    stats = found.ranges["double"]
    np.testing.assert_allclose([stats.low, stats.high], exact, atol=tolerance, rtol=0)


def test_only_wanted_numeric_finite_tensors_get_a_range() -> None:
    extra = {
        "half": np.array([1.5, -2], np.float16),
        "brain": np.array([1.5, -2], ml_dtypes.bfloat16),
        "tiny": np.array([1.5, -2], ml_dtypes.float8_e4m3fn),
        "int8": np.array([-128, 127], np.int8),
        "int64": np.array([-(2**40), 3]),
        "double64": np.array([1e300, 0.0]),
        "bool": np.array([True]),
        "text": np.array(["a"], object),
        "complex": np.array([1j]),
        "mask": np.array([0.0, -np.inf], np.float32),
        "broken": np.array([np.nan], np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "unasked": np.ones(2, np.float32),
    }
    names = [name for name in extra if name != "unasked"] + ["absent"]
    found = collect(Engine(extra=extra), open_dataset(ragged(3), ONE), MinMax(), names)
    bounds = {name: (stats.low, stats.high) for name, stats in found.ranges.items()}
    assert bounds == {
        "half": (-2, 1.5),
        "brain": (-2, 1.5),
        "tiny": (-2, 1.5),
        "int8": (-128, 127),
        "int64": (-(2**40), 3),
        "double64": (0, 1e300),
    }
    assert found.skipped == {
        "bool": "holds bool, not numbers",
        "text": "holds object, not numbers",
        "complex": "holds complex128, not numbers",
        "mask": "holds infinity on sample 0",
        "broken": "holds NaN on sample 0",
        "empty": "the data never reached it",
        "absent": "the data never reached it",
    }


def test_a_tensor_that_turns_nan_later_loses_its_range() -> None:
    class Late(Engine):
        def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
            self.seen += 1
            yield "t", np.array([1.0 if self.seen != 2 else np.nan])

    found = collect(Late(), open_dataset(ragged(4), ONE), MinMax(), ["t"])
    assert found == Collected({}, {"t": "holds NaN on sample 1"})


def test_a_branch_counts_the_samples_that_took_it() -> None:
    class Branch(Engine):
        def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
            self.seen += 1
            if self.seen % 2:
                yield "then", feed["x"]

    found = collect(Branch(), open_dataset(ragged(5), ONE), MinMax(), ["then"])
    assert found.ranges["then"].samples == 3


def test_no_samples() -> None:
    class Nothing:
        digest, origin = "", "nowhere"

        def __len__(self) -> int:
            return 0

        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            return iter(())

        def labels(self) -> None:
            return None

    with pytest.raises(DataError) as caught:
        collect(Engine(), Nothing(), MinMax(), ["double"])
    assert (caught.value.code, caught.value.where) == ("G213", "nowhere")


def test_interrupts_and_engine_errors_pass_through() -> None:
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    engine = Engine()
    with pytest.raises(KeyboardInterrupt):
        collect(engine, open_dataset(ragged(99), ONE), MinMax(), ["double"], progress=stop)
    assert 2 <= engine.seen < 50  # some that are small may have begun


@pytest.mark.parametrize("observer", [MinMax(), Percentile()])
def test_memory_does_not_grow_with_samples(observer: MinMax | Percentile) -> None:
    wide = {"x": InputSpec("x", (1, 20_000), "float32")}

    def samples(count: int) -> Iterator[np.ndarray]:
        for seed in range(count):
            yield np.random.default_rng(seed).standard_normal((1, 20_000)).astype(np.float32)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            dataset = open_dataset(samples(count), wide)  # a generator: spooled
            collect(Engine(), dataset, observer, ["double", "relu"])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # imports and caches
    few, many = peak(50), peak(500)
    # 450 more samples are 36 MB; what may grow is 8 bytes an offset and the collector's lateness.
    assert many < few * 1.1 + 500_000


def test_an_observer_that_does_not_check_is_kept_from_infinity() -> None:
    class Third:
        name = "third"

        def start(self) -> Third:
            return Third()

        def update(self, values: np.ndarray) -> None:
            assert np.isfinite(values).all()

        def result(self) -> tuple[float, float]:
            return -1.0, 1.0

    extra = {"mask": np.array([0.0, np.inf], np.float32)}
    found = collect(Engine(extra=extra), open_dataset(ragged(2), ONE), Third(), ["mask", "relu"])
    assert found.ranges == {"relu": RangeStatistics(-1.0, 1.0, 2, "third")}
    assert found.skipped == {"mask": "holds infinity on sample 0"}
    assert not found.histograms


def test_an_error_of_an_accumulator_is_not_taken_for_infinity() -> None:
    class Broken(MinMax):
        def start(self) -> Broken:  # type: ignore[override]
            return self

        def update(self, _values: np.ndarray) -> None:
            raise ValueError("a mistake of its own")

    with pytest.raises(ValueError, match="of its own"):
        collect(Engine(), open_dataset(ragged(2), ONE), Broken(), ["double"])


def test_one_run_serves_every_observer_of_histograms() -> None:
    samples, names = ragged(30), ["double", "relu"]
    found = collect(Engine(), open_dataset(samples, ONE), Percentile(), names)
    for observer in (Entropy(), Mse(), Mse(symmetric=True), Percentile(kept=90.0)):
        alone = collect(Engine(), open_dataset(samples, ONE), observer, names)
        assert found.chosen_by(observer) == alone
    with pytest.raises(ValueError, match="no histogram of 64 bins"):
        found.chosen_by(Entropy(bins=64))


# --- running ahead ------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 3 << 20, 6 << 20])
def test_tensors_arrive_in_order_whatever_their_size(size: int) -> None:
    class Large(Engine):
        def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
            for index in range(3):
                yield str(index), np.full(size, self.seen + index, np.float32)
            self.seen += 10

    parts = list(run_ahead(Large(), open_dataset(ragged(4), ONE)))
    found = [(n, name, float(values[0])) for n, part in parts for name, values in part]
    assert found == [(n, str(i), 10 * n + i) for n in range(4) for i in range(3)]
    assert [n for n, part in parts if not part] == [0, 1, 2, 3]
    assert [n for n, _ in parts] == sorted(n for n, _ in parts)


def test_small_samples_are_run_in_lots_and_stay_apart() -> None:
    samples = [np.full((1, 3), n, np.float32) for n in range(200)]
    engine = Engine()
    parts = run_ahead(engine, open_dataset(samples, ONE))
    found, most = [], 0
    for sample, part in parts:
        most = max(most, engine.seen - sample)
        found += [(sample, name, float(values[0, 0])) for name, values in part]
    assert found == [x for n in range(200) for x in ((n, "double", 2.0 * n), (n, "relu", 1.0 * n))]
    assert most <= 64  # two lots


def test_errors_come_after_what_was_right() -> None:
    class Failing(Engine):
        def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
            if self.seen == 2:
                raise DataError("no further")
            yield from super().tensors(feed)

    seen: list[int] = []
    parts = run_ahead(Failing(), open_dataset(ragged(5), ONE))
    with pytest.raises(DataError, match="no further"):
        seen.extend(sample for sample, _ in parts)
    assert seen == [0, 0, 1, 1]
    before = threading.active_count()
    parts = run_ahead(Engine(), open_dataset(ragged(50), ONE))
    next(parts)
    parts.close()
    assert threading.active_count() <= before


def test_a_dataset_that_fails_on_the_way() -> None:
    def feeds() -> Iterator[np.ndarray]:
        yield np.ones((1, 3), np.float32)
        yield np.full((1, 3), np.nan, np.float32)

    with pytest.raises(DataError) as caught:
        collect(Engine(), open_dataset(list(feeds()), ONE), MinMax(), ["double"])
    assert caught.value.code == "G214"
