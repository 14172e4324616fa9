"""Splitting, taking, and reading parts of datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.calibration.base import Dataset, InputSpec
from graphopt.calibration.dataset import StreamedDataset, Subset, split, spread, take
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ONE = {"x": InputSpec("x", ("N", 1), "float32")}


def values(dataset: Dataset) -> list[int]:
    return [int(feed["x"].item()) for feed in dataset]


def numbered(count: int) -> Dataset:
    data = {"x": np.arange(count, dtype=np.float32)[:, None], "labels": np.arange(count) * 10}
    return open_dataset(data, ONE)


class Foreign:
    """A dataset of a plugin: the protocol and nothing else."""

    digest = "d"
    origin = "elsewhere"

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return ({"x": np.full((1, 1), n, np.float32)} for n in range(10))

    def labels(self) -> None:
        return None


@given(st.integers(1, 400), st.data())
def test_spread_is_even_ascending_and_distinct(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    chosen = spread(total, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count
    for part, index in enumerate(chosen):
        assert part * total // count <= index < (part + 1) * total // count


def test_spread_is_not_caught_by_a_period() -> None:
    classes = [index % 10 for index in spread(2000, 200)]
    counts = np.bincount(classes, minlength=10)
    assert counts.min() >= 15
    assert counts.max() <= 25


@pytest.mark.parametrize("held_out", [0, 1, 3, 9])
def test_split_is_deterministic_and_disjoint(held_out: int) -> None:
    dataset = numbered(10)
    calibration, rest = split(dataset, held_out)
    again = split(dataset, held_out)
    assert (len(calibration), len(rest)) == (10 - held_out, held_out)
    assert sorted(values(calibration) + values(rest)) == list(range(10))
    assert values(again[0]) == values(calibration)
    assert again[1].digest == rest.digest
    assert rest.digest != calibration.digest
    labels = rest.labels()
    assert labels is not None
    assert labels.tolist() == [value * 10 for value in values(rest)]


@pytest.mark.parametrize("held_out", [-1, 10, 11])
def test_split_leaves_something(held_out: int) -> None:
    with pytest.raises(DataError) as caught:
        split(numbered(10), held_out)
    assert caught.value.code == "G213"


def test_take() -> None:
    dataset = numbered(10)
    assert take(dataset, 10) is dataset
    assert take(dataset, 99) is dataset
    some = take(dataset, 4)
    assert len(some) == len(values(some)) == 4
    assert values(take(some, 2)) == [values(some)[index] for index in spread(4, 2)]
    with pytest.raises(DataError):
        take(dataset, 0)


def test_subsets_of_foreign_datasets() -> None:
    foreign = Foreign()
    assert values(take(foreign, 5)) == spread(10, 5)
    assert take(foreign, 5).labels() is None
    assert values(Subset(foreign, [])) == []
    assert open_dataset(foreign, ONE) is foreign


def test_a_minimal_dataset_of_a_plugin() -> None:
    class Minimal(StreamedDataset):
        def __len__(self) -> int:
            return 3

        def select(self, indices: Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
            return ({"x": np.full((1, 1), index, np.float32)} for index in indices)

    dataset = Minimal("a plugin")
    assert dataset.labels() is None
    assert values(dataset) == [0, 1, 2]
    same = [np.full((1, 1), index, np.float32) for index in range(3)]
    assert dataset.digest == open_dataset(same, ONE).digest


@pytest.mark.parametrize("kind", ["npz", "folder", "list", "function", "generator"])
def test_parts_of_every_kind(tmp_path: Path, kind: str) -> None:
    data = np.arange(12, dtype=np.float32)[:, None]
    np.savez_compressed(tmp_path / "all.npz", x=data)
    (tmp_path / "folder").mkdir()
    for start in (0, 4, 8):
        np.save(tmp_path / "folder" / f"{start:02}.npy", data[start : start + 4])
    items = [row[None] for row in data]
    source = {
        "npz": tmp_path / "all.npz",
        "folder": tmp_path / "folder",
        "list": items,
        "function": lambda: iter(items),
        "generator": iter(items),
    }[kind]
    dataset = open_dataset(source, ONE)  # type: ignore[arg-type]
    calibration, held_out = split(dataset, 5)
    assert sorted(values(calibration) + values(held_out)) == list(range(12))
    assert values(held_out) == spread(12, 5)
