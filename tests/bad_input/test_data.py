"""Data that does not fit the model, or is no data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import graphopt
from graphopt.errors import DataError
from tests.bad_input.mistakes import model, samples, write

if TYPE_CHECKING:
    from tests.bad_input.mistakes import Bench

GOOD = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "code", "message"),
    [
        ({"x": GOOD[:, :3]}, "G212", "expects the shape [N, 4]"),
        ({"x": GOOD.reshape(10, 2, 2, 1)}, "G212", "does not fit input `x`"),
        ({"x": np.float32(1)}, "G212", "does not fit input `x`"),
        ({"x": GOOD.astype(np.int64)}, "G212", "expects float32 and the data is int64"),
        ({"x": GOOD.astype(np.uint8)}, "G212", "expects float32 and the data is uint8"),
        ({"x": GOOD.astype("U5")}, "G212", "expects float32"),
        ({"z": GOOD, "q": GOOD}, "G212", "no array for input `x`"),
        ({"X": GOOD, "q": GOOD}, "G212", "no array for input `x`"),
        ({"x": GOOD[:0]}, "G213", "no samples"),
        ({"x": np.where(GOOD > 2, np.nan, GOOD) * np.nan}, "G214", "holds NaN"),
        ({"x": np.concatenate([GOOD, GOOD[:1] * np.inf])}, "G214", "holds"),
    ],
    ids=[
        *("shape", "rank", "scalar", "integers", "bytes", "text", "missing", "case"),
        *("empty", "nan", "infinity"),
    ],
)
def test_arrays_that_do_not_fit(
    bench: Bench, arrays: dict[str, np.ndarray], code: str, message: str
) -> None:
    shown = bench.compile_refused(write(model()), code, data=samples(**arrays))
    assert message in shown.message
    assert shown.where.startswith("data.npz")


def test_the_nearest_name_is_suggested(bench: Bench) -> None:
    made = model()
    made.graph.input[0].name = made.graph.node[0].input[0] = "image"
    shown = bench.compile_refused(write(made), "G212", data=samples(images=GOOD, other=GOOD))
    assert "rename `images` to `image`" in shown.hint


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x93NUMPYjunk"])
@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_files_that_are_no_data(bench: Bench, name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    shown = bench.compile_refused(write(model()), "G211", data=Path(name))
    assert shown.where.startswith(name)


def test_a_truncated_archive(bench: Bench) -> None:
    data = samples()
    data.write_bytes(data.read_bytes()[:-40])
    bench.compile_refused(write(model()), "G211", data=data)


def test_objects_are_never_unpickled(bench: Bench) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (Path.write_text, (Path("trapped"), "x"))

    np.save("d.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    bench.compile_refused(write(model()), "G211", data=Path("d.npy"))
    assert not Path("trapped").exists()


def test_places_without_data(bench: Bench) -> None:
    path = write(model())
    bench.compile_refused(path, "G211", data=Path("nope.npz"))
    Path("folder").mkdir()
    bench.compile_refused(path, "G213", data=Path("folder"))
    Path("data.csv").write_text("1,2,3,4\n")
    bench.compile_refused(path, "G211", data=Path("data.csv"))
    np.savez("none.npz")
    bench.compile_refused(path, "G212", data=Path("none.npz"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"x": GOOD[:, :2]}, "G212"),
        ({"y": GOOD, "z": GOOD}, "G212"),
        ({"x": GOOD * np.nan}, "G214"),
        ([], "G213"),
        ([{"x": GOOD[:1] * np.nan}], "G214"),
        ([{"z": GOOD[:1]}], "G212"),
        (lambda: iter([]), "G213"),
        (7, "G211"),
    ],
    ids=["shape", "name", "nan", "no feeds", "nan feed", "feed name", "empty call", "number"],
)
def test_data_in_memory_that_does_not_fit(data: object, code: str) -> None:
    with pytest.raises(DataError) as raised:
        graphopt.compile(model().SerializeToString(), data=data)
    assert raised.value.code == code
    assert raised.value.hint


def test_diff_refuses_it_too(bench: Bench) -> None:
    path = write(model())
    shown = bench.refused("diff", path, path, "--data", samples(z=GOOD, q=GOOD))
    assert (shown.code, shown.where) == ("G212", "data.npz")
