"""Python iterables of every kind, and arrays in memory."""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.calibration import iterables
from graphopt.calibration.base import InputSpec
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE = {"x": InputSpec("x", ("N", "T"), "float32")}
TWO = {**ONE, "k": InputSpec("k", (1,), "int64")}


def feeds(count: int = 5) -> Iterator[dict[str, object]]:
    for size in range(1, count + 1):
        yield {"x": np.full((1, size), size, np.float64), "labels": size % 2}


class Loader:
    """Re-iterable without a length, as a loader over a stream is."""

    def __iter__(self) -> Iterator[dict[str, object]]:
        return feeds()

    def __len__(self) -> int:
        raise TypeError("no length")


@pytest.mark.parametrize("source", [list(feeds()), feeds, Loader(), feeds()])
def test_every_kind_streams_the_same(source: object) -> None:
    dataset = open_dataset(source, ONE)  # type: ignore[arg-type]
    assert len(dataset) == 5
    for _ in range(2):
        shapes = [(feed["x"].shape, feed["x"].dtype.name) for feed in dataset]
        assert shapes == [((1, size), "float32") for size in range(1, 6)]
    assert dataset.labels().tolist() == [1, 0, 1, 0, 1]  # type: ignore[union-attr]
    assert dataset.digest == open_dataset(list(feeds()), ONE).digest
    assert dataset.digest != open_dataset(list(feeds(4)), ONE).digest


@pytest.mark.parametrize("one_shot", [False, True])
def test_tuples_and_single_arrays(one_shot: bool) -> None:
    pairs = [(np.ones((1, 2), np.float32), np.array([3], np.int32))] * 2
    dataset = open_dataset(iter(pairs) if one_shot else pairs, TWO)
    assert [feed["k"].tolist() for feed in dataset] == [[3], [3]]
    assert dataset.labels() is None
    singles = [np.ones((1, 2), np.float32)] * 3
    assert len(open_dataset(iter(singles) if one_shot else singles, ONE)) == 3


def test_spooled_text_comes_back() -> None:
    inputs = {"t": InputSpec("t", ("N",), "object")}
    dataset = open_dataset(iter([np.array(["a", "long"]), np.array(["b"])]), inputs)
    assert [feed["t"].tolist() for feed in dataset] == [["a", "long"], ["b"]]


def test_the_spool_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterables.tempfile, "tempdir", str(tmp_path))
    dataset = open_dataset(feeds(), ONE)
    assert len(list(tmp_path.iterdir())) == 1
    stream = iter(dataset)
    next(stream)
    del dataset, stream
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError):
        open_dataset(iter([np.full((1, 1), np.nan)]), ONE)
    assert list(tmp_path.iterdir()) == []


def test_arrays_in_memory() -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert [feed["x"].tolist() for feed in open_dataset(values, ONE)] == [
        [[0, 1]],
        [[2, 3]],
        [[4, 5]],
    ]
    assert len(open_dataset({"x": values.tolist()}, ONE)) == 3
    dataset = open_dataset({"x": values}, ONE)
    assert open_dataset(dataset, ONE) is dataset


def broken(code: str, source: object, words: str, inputs: dict[str, InputSpec] = ONE) -> None:
    with pytest.raises(DataError) as caught:
        list(open_dataset(source, inputs))  # type: ignore[arg-type]
    assert caught.value.code == code, caught.value
    assert words in caught.value.message
    assert caught.value.hint


def test_bad_iterables() -> None:
    good = np.ones((1, 2), np.float32)
    broken("G213", [], "no samples")
    broken("G213", iter([]), "no samples")
    broken("G213", lambda: iter([]), "no samples")
    broken("G211", lambda: 3, "returned int")
    broken("G211", 3, "type int")
    broken("G211", [object()], "not an array")
    broken("G211", [[[[1.0, 2.0], [3.0]]]], "not an array")
    broken("G211", {"x": [[1.0], [2.0, 3.0]]}, "`x`")
    broken("G211", {"x": [object()]}, "`x`")
    broken("G212", [(good, 3)], "sample 0 has 2 arrays")
    broken("G212", [good], "sample 0 has 1 arrays", TWO)
    broken("G212", [{"y": good}], "`x`")
    broken("G212", [good, good[0]], "[N, T]")
    broken("G212", [good.astype(np.uint8)], "uint8")
    broken("G214", [good, good * np.inf], "sample 1")
    broken("G212", {"x": good}, "no inputs", {})


def test_labels_on_some_feeds_only() -> None:
    good = np.ones((1, 2), np.float32)
    items = [{"x": good, "labels": 1}, {"x": good}]
    with pytest.raises(DataError, match="1 of 2"):
        open_dataset(iter(items), ONE)
    with pytest.raises(DataError, match="1 of 2"):
        open_dataset(items, ONE).labels()


def test_a_source_that_shrinks_between_passes() -> None:
    items = list(feeds())
    passes = itertools.count()
    dataset = open_dataset(lambda: iter(items if next(passes) == 0 else items[:2]), ONE)
    with pytest.raises(DataError, match="before sample 2"):
        list(dataset)


def test_endless_iterators_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    good = np.ones((1, 200), np.float32)
    monkeypatch.setattr(iterables, "MAX_SPOOL_BYTES", 100_000)
    monkeypatch.setattr(iterables, "MAX_SAMPLES", 100)
    broken("G211", itertools.repeat(good), "more than")
    broken("G211", lambda: itertools.repeat(good), "more than 100 samples")


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    broken("G211", feeds(), "No space left")


def test_the_users_own_exception_is_not_hidden() -> None:
    def failing() -> Iterator[np.ndarray]:
        yield np.ones((1, 2), np.float32)
        raise KeyError("the user's bug")

    with pytest.raises(KeyError, match="the user's bug"):
        open_dataset(failing(), ONE)
