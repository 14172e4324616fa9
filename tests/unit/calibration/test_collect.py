"""The streaming run and its cache."""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from graphopt.calibration.base import InputSpec, RangeStatistics
from graphopt.calibration.cache import StatisticsCache, cache_folder
from graphopt.calibration.collect import Collected, collect
from graphopt.calibration.observers import MinMax, Percentile
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
        collect(engine, open_dataset(ragged(9), ONE), MinMax(), ["double"], progress=stop)
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


# --- cache --------------------------------------------------------------------

RESULT = Collected(
    {"t": RangeStatistics(-0.1, math.pi, 7, "min-max")}, {"m": "holds infinity on sample 0"}
)


def test_cache_round_trip(tmp_path: Path) -> None:
    cache = StatisticsCache(tmp_path / "deep" / "er", "0.1.0")
    key = cache.key("model", "data", MinMax(), ["t", "m"])
    assert cache.load(key) is None
    cache.store(key, RESULT)
    assert cache.load(key) == RESULT
    assert [path.suffix for path in (tmp_path / "deep/er/statistics").iterdir()] == [".json"]


def test_cache_keys_depend_on_everything(tmp_path: Path) -> None:
    cache = StatisticsCache(tmp_path, "0.1.0")
    keys = {
        cache.key("model", "data", MinMax(), ["a", "b"]),
        cache.key("other", "data", MinMax(), ["a", "b"]),
        cache.key("model", "other", MinMax(), ["a", "b"]),
        cache.key("model", "data", Percentile(), ["a", "b"]),
        cache.key("model", "data", Percentile(kept=99.9), ["a", "b"]),
        cache.key("model", "data", MinMax(), ["a"]),
        StatisticsCache(tmp_path, "0.2.0").key("model", "data", MinMax(), ["a", "b"]),
    }
    assert len(keys) == 7
    assert cache.key("model", "data", MinMax(), ["b", "a", "b"]) in keys


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{}",
        b'{"ranges": [], "skipped": {}}',
        b'{"ranges": {"t": 3}, "skipped": {}}',
        b'{"ranges": {"t": {"low": 1, "high": 0, "samples": 1, "observer": "m"}}, "skipped": {}}',
        b'{"ranges": {"t": {"low": NaN, "high": 0, "samples": 1, "observer": "m"}}, "skipped": {}}',
        b"[" * 100_000,
    ],
)
def test_a_corrupt_cache_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    cache = StatisticsCache(tmp_path, "0.1.0")
    cache.store("k", RESULT)
    (tmp_path / "statistics" / "k.json").write_bytes(content)
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") == RESULT


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = StatisticsCache(tmp_path / "file", "0.1.0")
    cache.store("k", RESULT)
    assert cache.load("k") is None
    off = StatisticsCache(None, "0.1.0")
    off.store("k", RESULT)
    assert off.load("k") is None


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = StatisticsCache(tmp_path, "0.1.0")

    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.store("k", RESULT)
    assert list((tmp_path / "statistics").iterdir()) == []


def test_the_file_is_json_that_people_can_read(tmp_path: Path) -> None:
    StatisticsCache(tmp_path, "0.1.0").store("k", RESULT)
    content = json.loads((tmp_path / "statistics" / "k.json").read_text())
    assert content["ranges"]["t"]["high"] == math.pi


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("GRAPHOPT_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("GRAPHOPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "graphopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "graphopt"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "graphopt"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "graphopt"

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
