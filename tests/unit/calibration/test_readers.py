"""Files and folders: what item 9 of the first issue lists, and how each kind of damage is named."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.calibration import arrays as arrays_module
from graphopt.calibration.base import Dataset, Reader
from graphopt.calibration.builtin import graphopt_register_observers, graphopt_register_readers
from graphopt.calibration.dataset import Subset
from graphopt.calibration.sources import BUILTIN_READERS, open_dataset
from graphopt.errors import DataError
from tests.unit.calibration.samples import ONE, X, column, fails, specs

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)


# --- .npz ---------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_the_inputs_rank_is_split_along_axis_0(tmp_path: Path, save: object) -> None:
    path = tmp_path / "calib.npz"
    save(path, x=X, labels=np.arange(6))  # type: ignore[operator]
    dataset = open_dataset(path, ONE)
    assert len(dataset) == 6
    assert dataset.origin == str(path)
    for _ in range(2):  # more than once
        feeds = column(dataset)
        assert [feed.shape for feed in feeds] == [(1, 3, 4)] * 6
        np.testing.assert_array_equal(np.concatenate(feeds), X)
    labels = dataset.labels()
    assert labels is not None
    assert labels.tolist() == list(range(6))


def test_npz_of_one_rank_more_holds_feeds(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    feeds = RNG.standard_normal((5, 2, 3, 4)).astype(np.float32)
    np.savez(path, x=feeds)
    dataset = open_dataset(str(path), ONE)
    assert len(dataset) == 5
    np.testing.assert_array_equal(np.stack(column(dataset)), feeds)
    assert dataset.labels() is None


def test_npz_with_several_inputs_of_both_kinds(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    inputs = specs(ids=(("N", "T"), "int64"), state=((1, 2, 3), "float32"), k=((), "float32"))
    ids = RNG.integers(0, 9, (4, 7), dtype=np.int32)
    state = RNG.standard_normal((4, 1, 2, 3))
    np.savez(path, state=state, ids=ids, k=np.arange(4.0), other=np.zeros(3))
    dataset = open_dataset(path, inputs)
    feeds = list(dataset)
    assert [list(feed) for feed in feeds] == [["ids", "state", "k"]] * 4
    assert feeds[2]["ids"].dtype == np.int64
    np.testing.assert_array_equal(feeds[2]["ids"], ids[2:3])
    np.testing.assert_allclose(feeds[2]["state"], state[2], rtol=1e-7)  # float64 to float32
    assert feeds[2]["k"].shape == ()


def test_a_fixed_batch_takes_that_many_rows(tmp_path: Path) -> None:
    inputs = specs(x=((2, 3, 4), "float32"))
    dataset = open_dataset({"x": X, "labels": np.arange(6)}, inputs)
    assert [feed.shape for feed in column(dataset)] == [(2, 3, 4)] * 3
    assert dataset.labels().tolist() == [[0, 1], [2, 3], [4, 5]]  # type: ignore[union-attr]
    assert "multiple" in str(fails("G212", {"x": X[:5]}, inputs).hint)


def test_the_only_array_serves_the_only_input(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    np.savez(path, X)  # named arr_0 by numpy
    np.testing.assert_array_equal(np.concatenate(column(open_dataset(path, ONE))), X)
    np.savez(path, whatever=X, labels=np.zeros(6))
    assert len(open_dataset(path, ONE)) == 6


def test_labels_may_be_an_input() -> None:
    inputs = specs(labels=(("N",), "int64"))
    dataset = open_dataset({"labels": np.arange(3)}, inputs)
    assert dataset.labels() is None
    assert [int(feed[0]) for feed in column(dataset, "labels")] == [0, 1, 2]


def test_digest_follows_content_and_preprocessing(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz"))
    np.savez(a, x=X)
    np.savez(b, x=X)
    np.savez(c, x=X + 1)
    digests = [open_dataset(path, ONE).digest for path in (a, b, c)]
    assert digests[0] == digests[1] != digests[2]
    memory = [open_dataset({"x": values}, ONE).digest for values in (X, X.copy(), X + 1)]
    assert memory[0] == memory[1] != memory[2]


def test_fortran_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "calib.npy"
    np.save(path, np.asfortranarray(X))
    np.testing.assert_array_equal(np.concatenate(column(open_dataset(path, ONE))), X)


def test_a_compressed_npz_is_not_expanded_at_once(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    big = np.zeros((400, 64, 64, 3), np.float32)  # 19.7 MB, compresses to some kB
    np.savez_compressed(path, x=big)
    inputs = specs(x=(("N", 64, 64, 3), "float32"))
    del big
    tracemalloc.start()
    try:
        count = sum(1 for _ in open_dataset(path, inputs))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 400
    assert peak < 4e6


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"y": X, "z": X}, "G212", "`x`"),
        ({"x": X.astype(np.uint8)}, "G212", "expects float32 and the data is uint8"),
        ({"x": X[:, :2]}, "G212", "[N, 3, 4]"),
        ({"x": X[0]}, "G212", "does not fit"),
        ({"x": X[None, None]}, "G212", "does not fit"),
        ({"x": X[:0]}, "G213", "no samples"),
        ({"x": X[:, :, :0]}, "G213", "no samples"),
        ({"x": X, "labels": np.arange(5)}, "G212", "6 samples and 5 labels"),
        ({"x": X, "labels": np.zeros(0)}, "G212", "0 labels"),
        ({"x": X, "labels": np.int64(5)}, "G212", "0 labels"),
        ({}, "G212", "`x`"),
    ],
)
def test_npz_that_does_not_fit(
    tmp_path: Path, arrays: dict[str, np.ndarray], code: str, words: str
) -> None:
    path = tmp_path / "calib.npz"
    np.savez(path, **arrays)
    for source in (path, arrays):
        error = fails(code, source, ONE)
        assert words in error.message


def test_npz_inputs_of_different_lengths() -> None:
    inputs = specs(a=(("N", 1), "float32"), b=(("N", 1), "float32"))
    error = fails("G212", {"a": np.ones((3, 1)), "b": np.ones((2, 1))}, inputs)
    assert "3 for `a`, 2 for `b`" in error.message


def test_nan_is_found_at_its_sample(tmp_path: Path) -> None:
    bad = X.copy()
    bad[4, 1, 1] = np.nan
    np.savez(tmp_path / "calib.npz", x=bad)
    error = fails("G214", tmp_path / "calib.npz", ONE)
    assert "`x` holds NaN in sample 4" in error.message
    assert "calib.npz" in str(error.where)


# --- damaged and hostile files ------------------------------------------------


def npy_bytes(array: np.ndarray, *, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickled)
    return stream.getvalue()


def lying_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "magic"),
        (b"not an array at all", "magic"),
        (npy_bytes(X)[:-10], "file holds"),
        (npy_bytes(X)[:40], ""),
        (npy_bytes(X) + b"more", "file holds"),
        (npy_bytes(np.array([{}]), pickled=True), "object"),
        (npy_bytes(np.zeros(3, [("a", "f4")])), "not a number"),
        (lying_header((2**40, 3, 4)), "limit"),
        (lying_header((-1, 3, 4)), "negative"),
        (lying_header((2**62,), "<U0"), "not a number"),
        (b"\x93NUMPY\x03\x00" + bytes(100), "version"),
        (b"\x93NUMPY\x01\x00\x10\x00__import__('os')\n", ""),
    ],
)
def test_damaged_npy(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "calib.npy"
    path.write_bytes(content)
    error = fails("G211", path, ONE)
    assert words in error.message
    assert error.where == str(path)
    with zipfile.ZipFile(tmp_path / "calib.npz", "w") as archive:
        archive.writestr("x.npy", content)
    assert words in fails("G211", tmp_path / "calib.npz", ONE).message


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    np.savez_compressed(path, x=X)
    whole = path.read_bytes()
    for broken in (whole[:200], b"PK", whole[:90] + bytes(20) + whole[110:]):
        path.write_bytes(broken)
        fails("G211", path, ONE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    fails("G212", path, ONE)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", npy_bytes(X))
    assert "compressed" in fails("G211", path, ONE).message
    np.savez(path, x=X)
    encrypted = bytearray(path.read_bytes())
    encrypted[encrypted.index(b"PK\x03\x04") + 6] |= 1  # flags of the member
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1  # and of its directory entry
    path.write_bytes(encrypted)
    fails("G211", path, ONE)


def test_other_versions_of_the_header(tmp_path: Path) -> None:
    with (tmp_path / "calib.npy").open("wb") as stream:
        np.lib.format.write_array(stream, X, version=(2, 0))
    np.testing.assert_array_equal(
        np.concatenate(column(open_dataset(tmp_path / "calib.npy", ONE))), X
    )


def test_inputs_of_unknown_rank_are_split(tmp_path: Path) -> None:
    dataset = open_dataset({"x": X}, specs(x=(None, "float32")))
    assert [feed.shape for feed in column(dataset)] == [(1, 3, 4)] * 6


def test_a_member_shorter_than_the_zip_says(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    np.savez(path, x=X)
    dataset = open_dataset(path, ONE)
    np.savez(path, x=X[:3])  # replaced behind our back
    with pytest.raises(DataError, match="shorter"):
        list(dataset)
    with pytest.raises(DataError, match="shorter"):
        list(Subset(dataset, [5]))


def test_blocks_larger_than_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_module, "MAX_BLOCK_BYTES", 40)
    np.savez(tmp_path / "calib.npz", x=X)
    assert "in memory" in fails("G211", tmp_path / "calib.npz", ONE).message


def test_an_unreadable_path(tmp_path: Path) -> None:
    assert "does not exist" in fails("G211", tmp_path / "none.npz", ONE).message
    (tmp_path / "data.csv").write_text("1,2")
    error = fails("G211", tmp_path / "data.csv", ONE)
    assert "`npz`" in str(error.hint)
    (tmp_path / "empty").mkdir()
    fails("G213", tmp_path / "empty", ONE)


# --- .npy and folders ---------------------------------------------------------


def test_npy_serves_a_single_input(tmp_path: Path) -> None:
    np.save(tmp_path / "calib.npy", X)
    dataset = open_dataset(tmp_path / "calib.npy", ONE)
    np.testing.assert_array_equal(np.concatenate(column(dataset)), X)
    two = specs(a=(None, "float32"), b=(None, "float32"))
    assert "`a`, `b`" in str(fails("G212", tmp_path / "calib.npy", two).hint)


def test_folder_of_npy_is_sorted_and_ragged(tmp_path: Path) -> None:
    inputs = specs(x=(("N", "T"), "float32"))
    for number in (3, 1, 2):
        np.save(tmp_path / f"{number}.npy", np.full((1, number), number, np.float32))
    np.save(tmp_path / "4.npy", np.ones((2, 3, 4), np.float32))  # two whole feeds of batch 3
    np.save(tmp_path / "labels.npy", np.array([1, 2, 3, 4, 5]))
    (tmp_path / "notes.txt").write_text("left alone")
    dataset = open_dataset(tmp_path, inputs)
    assert [feed.shape for feed in column(dataset)] == [(1, 1), (1, 2), (1, 3), (3, 4), (3, 4)]
    assert dataset.labels().tolist() == [1, 2, 3, 4, 5]  # type: ignore[union-attr]


def test_folder_of_npz_joins_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=X[4:], labels=[4, 5])
    np.savez(tmp_path / "a.npz", x=X[:4], labels=[0, 1, 2, 3])
    dataset = open_dataset(tmp_path, ONE)
    np.testing.assert_array_equal(np.concatenate(column(dataset)), X)
    assert dataset.labels().tolist() == list(range(6))  # type: ignore[union-attr]
    before = dataset.digest
    np.savez(tmp_path / "c.npz", x=X)
    assert "2 of 3 files" in fails("G212", tmp_path, ONE).message
    np.savez(tmp_path / "c.npz", x=X[:1], labels=[[1, 2]])
    assert "shape" in fails("G212", tmp_path, ONE).message
    np.savez(tmp_path / "c.npz", x=X[:1], labels=[1])
    assert open_dataset(tmp_path, ONE).digest != before


def test_folder_errors_name_file_and_sample(tmp_path: Path) -> None:
    bad = X[:2].copy()
    bad[1] = np.inf
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", bad)
    error = fails("G214", tmp_path, ONE)
    assert "infinity in sample 1" in error.message
    assert "b.npy" in str(error.where)


# --- registration -------------------------------------------------------------


def test_builtins_follow_the_protocols() -> None:
    readers = graphopt_register_readers()
    assert len({reader.name for reader in readers}) == len(readers) == len(BUILTIN_READERS)
    assert all(isinstance(reader(), Reader) for reader in readers)
    assert [observer.name for observer in graphopt_register_observers()] == [
        "min-max",
        "moving-average",
        "percentile",
        "entropy",
        "mse",
    ]


def test_a_reader_of_a_plugin_is_asked(tmp_path: Path) -> None:
    class TextReader:
        name = "text"

        def accepts(self, source: Path) -> bool:
            return source.suffix == ".txt"

        def open(self, source: Path, inputs: object, preprocessing: object) -> Dataset:
            values = np.loadtxt(source, dtype=np.float32).reshape(-1, 3, 4)
            return open_dataset({"x": values}, ONE)

    np.savetxt(tmp_path / "calib.txt", X.reshape(6, -1))
    dataset = open_dataset(tmp_path / "calib.txt", ONE, readers=[*BUILTIN_READERS, TextReader()])
    np.testing.assert_allclose(np.concatenate(column(dataset)), X, rtol=1e-6)
