"""Statistics on disk: round trips, damage, and one run for every observer of histograms."""

from __future__ import annotations

import base64
import json
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.calibration.base import RangeStatistics
from graphopt.calibration.cache import StatisticsCache
from graphopt.calibration.cache_folder import cache_folder
from graphopt.calibration.collect import Collected, collect
from graphopt.calibration.observers import Entropy, MinMax, MovingAverage, Mse, Percentile
from graphopt.calibration.sources import open_dataset
from tests.unit.calibration.samples import ONE, X

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from graphopt.calibration.base import Observer

RESULT = Collected(
    {"t": RangeStatistics(-0.1, math.pi, 7, "min-max")}, {"m": "holds infinity on sample 0"}
)
DATA = open_dataset({"x": X}, ONE)


class Engine:
    """Runs nothing, and counts how often."""

    def __init__(self) -> None:
        self.runs: list[list[str]] = []

    def tensors(self, feed: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        x = feed["x"]
        yield from {"double": 2 * x, "relu": np.maximum(x, 0)}.items()
        yield "log", np.where(x > 0, x, np.float32(-np.inf))

    def ask(
        self, cache: StatisticsCache, observer: Observer, names: Sequence[str], model: str = "m"
    ) -> Collected:
        def run(missing: Sequence[str]) -> Collected:
            self.runs.append(list(missing))
            return collect(self, DATA, observer, missing)

        return cache.collect(model, DATA, observer, names, run)


@pytest.fixture
def cache(tmp_path: Path) -> StatisticsCache:
    return StatisticsCache(tmp_path / "deep" / "er", "0.1.0")


def test_round_trip(cache: StatisticsCache) -> None:
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") == RESULT
    assert cache.folder is not None
    assert [path.name for path in (cache.folder / "statistics").iterdir()] == ["k.json"]


def test_keys_depend_on_everything(tmp_path: Path) -> None:
    cache = StatisticsCache(tmp_path, "0.1.0")
    keys = {
        cache.key("model", "data", "MinMax()"),
        cache.key("other", "data", "MinMax()"),
        cache.key("model", "other", "MinMax()"),
        cache.key("model", "data", "histogram 4096"),
        StatisticsCache(tmp_path, "0.2.0").key("model", "data", "MinMax()"),
    }
    assert len(keys) == 5


@pytest.mark.parametrize("first", [Percentile(), Entropy(symmetric=True), Mse(levels=16)])
def test_one_run_answers_every_observer_of_histograms(
    cache: StatisticsCache, first: Observer
) -> None:
    engine, names = Engine(), ["double", "relu", "log"]
    engine.ask(cache, first, names)
    observers = (MinMax(), Percentile(kept=90.0), Entropy(), Mse(), Mse(symmetric=True))
    for observer in observers:
        found = engine.ask(cache, observer, names)
        assert found == collect(Engine(), DATA, observer, names)
    assert engine.runs == [names]
    engine.ask(cache, Entropy(bins=128), names)
    engine.ask(cache, Entropy(bins=128, levels=16), names)
    engine.ask(cache, Percentile(), names, model="another")
    assert engine.runs == [names] * 3


def test_only_tensors_that_are_not_known_are_run(cache: StatisticsCache) -> None:
    for observer in (Percentile(), MovingAverage(), MovingAverage(momentum=0.5)):
        engine = Engine()
        engine.ask(cache, observer, ["relu", "relu"])
        both = engine.ask(cache, observer, ["double", "relu", "absent"])
        assert list(both.skipped) == ["absent"]
        assert both.ranges == collect(Engine(), DATA, observer, ["double", "relu"]).ranges
        assert engine.ask(cache, observer, ["absent", "double"]).skipped == both.skipped
        assert engine.runs == [["relu"], ["double", "absent"]]


def test_min_max_alone_is_kept_as_ranges(cache: StatisticsCache) -> None:
    engine = Engine()
    first = engine.ask(cache, MinMax(), ["double"])
    assert engine.ask(cache, MinMax(), ["double"]) == first
    engine.ask(cache, Percentile(), ["double"])  # ranges do not tell percentiles
    assert engine.runs == [["double"]] * 2


def test_an_observer_of_a_plugin_is_cached_by_its_options(cache: StatisticsCache) -> None:
    class Odd:
        """Looks like an observer of histograms and keeps none."""

        name, bins = "odd", 4096

        def __init__(self, end: float) -> None:
            self.end = end

        def start(self) -> Odd:
            return self

        def choose(self, histogram: object) -> tuple[float, float]:
            raise AssertionError("it has no histogram")

        def update(self, values: np.ndarray) -> None:
            pass

        def result(self) -> tuple[float, float]:
            return 0.0, self.end

    engine = Engine()
    for end in (1.0, 2.0):
        found = engine.ask(cache, Odd(end), ["double"])
        assert found.ranges["double"].high == end
    found = engine.ask(cache, Percentile(kept=100), ["double"])
    assert found.ranges["double"].high == X.max() * 2


def test_without_a_folder_everything_is_run_and_the_data_is_not_read() -> None:
    class Undigested:
        origin = "nowhere"

        @property
        def digest(self) -> str:
            raise AssertionError("nobody needs it")

    asked: list[Sequence[str]] = []

    def run(names: Sequence[str]) -> Collected:
        asked.append(names)
        return RESULT

    off = StatisticsCache(None, "0.1.0")
    assert off.collect("m", Undigested(), MinMax(), ["t", "m", "t"], run) == RESULT  # type: ignore[arg-type]
    assert asked == [["t", "m"]]


RANGE = b'"ranges": {"t": {"low": 0, "high": 1, "samples": 1, "observer": "m"}}'


def histogram_text(**changes: object) -> bytes:
    counts = np.zeros(64, "<i8")
    counts[[0, 63]] = 1
    packed = base64.b64encode(zlib.compress(counts.tobytes())).decode()
    fields = {"low": 0.0, "high": 0.99, "exponent": -6, "first": 0, "bins": 64, "counts": packed}
    return json.dumps({"t": fields | changes}).encode()


def bomb() -> str:
    return base64.b64encode(zlib.compress(bytes(10_000_000))).decode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{}",
        b'{"ranges": {}, "skipped": {}}',
        b'{"ranges": [], "skipped": {}, "histograms": {}}',
        b'{"ranges": {"t": 3}, "skipped": {}, "histograms": {}}',
        b"{" + RANGE.replace(b": 1,", b": -1,", 1) + b', "skipped": {}, "histograms": {}}',
        b"{" + RANGE.replace(b": 0,", b": NaN,") + b', "skipped": {}, "histograms": {}}',
        b"[" * 100_000,
        *(
            b"{" + RANGE + b', "skipped": {}, "histograms": ' + histogram + b"}"
            for histogram in (
                b"[1]",
                histogram_text().replace(b'"t"', b'"u"'),
                histogram_text(bins=10**12),
                histogram_text(bins=-1),
                histogram_text(bins=128),
                histogram_text(counts="!"),
                histogram_text(counts=base64.b64encode(b"no stream").decode()),
                histogram_text(counts=bomb()),
                histogram_text(exponent=3),
                histogram_text(exponent=10**9),
                histogram_text(first=1),
                histogram_text(low=2.0),
                histogram_text(low="x"),
                histogram_text(high=math.inf).replace(b"Infinity", b"1e400"),
            )
        ),
    ],
)
def test_a_corrupt_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    cache = StatisticsCache(tmp_path, "0.1.0")
    cache.store("k", RESULT)
    (tmp_path / "statistics" / "k.json").write_bytes(content)
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") == RESULT


def test_the_histogram_of_the_corruption_tests_is_right_as_it_is(tmp_path: Path) -> None:
    cache = StatisticsCache(tmp_path, "0.1.0")
    cache.store("k", RESULT)
    content = b"{" + RANGE + b', "skipped": {}, "histograms": ' + histogram_text() + b"}"
    (tmp_path / "statistics" / "k.json").write_bytes(content)
    found = cache.load("k")
    assert found is not None
    assert found.histograms["t"].total == 2


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
