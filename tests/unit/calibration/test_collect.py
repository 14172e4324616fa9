"""The streaming run and its cache."""

from __future__ import annotations

import threading
import time
import tracemalloc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from graphopt.calibration import together
from graphopt.calibration.base import InputSpec, RangeStatistics
from graphopt.calibration.collect import Collected, collect
from graphopt.calibration.observers import Entropy, MinMax, MovingAverage, Mse, Percentile
from graphopt.calibration.sources import open_dataset
from graphopt.calibration.together import run_together
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
    assert engine.seen == 2


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


# --- two samples at a time -----------------------------------------------------


class Uneven(Engine):
    """Runs two samples at a time, the even ones slowly; knows each by its first value."""

    concurrent = True
    size = 3

    def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        sample = int(feed["x"][0, 0])
        self.seen += 1
        for index in range(3):
            time.sleep(0.002 * (sample % 2 == 0))
            yield str(index), np.full(self.size, sample + index / 4, np.float32)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second thread work on samples of any size."""
    monkeypatch.setattr(together, "_WORTH_BYTES", 0)


def numbered(count: int) -> list[np.ndarray]:
    return [np.full((1, 3), n, np.float32) for n in range(count)]


@pytest.mark.parametrize("size", [3, 3 << 20, 6 << 20])
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("concurrent", [True, False])
def test_every_tensor_is_taken_in_the_order_of_the_samples(size: int, concurrent: bool) -> None:
    engine = Uneven()
    engine.size, engine.concurrent = size, concurrent  # type: ignore[misc]
    count = 40 if size == 3 else 6
    taken: dict[str, list[tuple[int, float]]] = {}
    inside = threading.Lock()

    def take(name: str, values: np.ndarray, sample: int) -> None:
        assert inside.acquire(blocking=False)  # by one thread at a time
        taken.setdefault(name, []).append((sample, float(values[0])))
        inside.release()

    steps = list(run_together(engine, open_dataset(numbered(count), ONE), take))
    assert steps == list(range(1, count + 1))
    assert taken == {str(i): [(n, n + i / 4) for n in range(count)] for i in range(3)}


@pytest.mark.usefixtures("eager")
def test_what_depends_on_the_order_is_the_same_with_one_thread() -> None:
    names = ["0", "1", "2"]
    found = []
    for concurrent in (True, False):
        engine = Uneven()
        engine.concurrent = concurrent  # type: ignore[misc]
        data = open_dataset(numbered(30), ONE)
        found.append(collect(engine, data, MovingAverage(0.5), names))
    assert found[0] == found[1]
    assert found[0].ranges["0"].samples == 30


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("concurrent", [True, False])
def test_the_earliest_error_is_raised_after_what_was_right(concurrent: bool) -> None:
    class Failing(Uneven):
        def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
            yield from super().tensors(feed)
            if feed["x"][0, 0] >= 4:
                raise DataError(f"no further than {feed['x'][0, 0]:.0f}")

    engine = Failing()
    engine.concurrent = concurrent  # type: ignore[misc]
    seen: set[int] = set()
    before = threading.active_count()
    for _ in range(5):
        run = run_together(
            engine, open_dataset(numbered(20), ONE), lambda _n, _v, sample: seen.add(sample)
        )
        with pytest.raises(DataError, match="no further than 4"):
            list(run)
        assert seen >= {0, 1, 2, 3, 4}
    assert threading.active_count() <= before


@pytest.mark.usefixtures("eager")
def test_closing_early_stops_the_thread() -> None:
    before = threading.active_count()
    engine = Uneven()
    run = run_together(engine, open_dataset(numbered(200), ONE), lambda *_: None)
    assert [next(run), next(run)] == [1, 2]
    run.close()
    assert threading.active_count() <= before
    assert engine.seen < 10


@pytest.mark.usefixtures("eager")
def test_an_interrupt_while_taking_ends_the_run() -> None:
    main = threading.main_thread()

    def take(_name: str, _values: np.ndarray, sample: int) -> None:
        if sample > 3 and threading.current_thread() is main:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(run_together(Uneven(), open_dataset(numbered(50), ONE), take))
    assert threading.active_count() <= before


@pytest.mark.parametrize(("size", "threads"), [(1 << 10, 1), (1 << 17, 2)])
def test_a_second_thread_works_on_samples_that_are_worth_it(size: int, threads: int) -> None:
    engine = Uneven()
    engine.size = size  # type: ignore[misc]
    seen = set()

    def take(_name: str, _values: np.ndarray, _sample: int) -> None:
        seen.add(threading.get_ident())

    list(run_together(engine, open_dataset(numbered(40), ONE), take))
    assert len(seen) == threads


def test_a_dataset_that_fails_on_the_way() -> None:
    def feeds() -> Iterator[np.ndarray]:
        yield np.ones((1, 3), np.float32)
        yield np.full((1, 3), np.nan, np.float32)

    with pytest.raises(DataError) as caught:
        collect(Engine(), open_dataset(list(feeds()), ONE), MinMax(), ["double"])
    assert caught.value.code == "G214"
