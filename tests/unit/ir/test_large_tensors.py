"""Large constants: computed ones go to files, and those in files are referred to, not copied."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from graphopt import ir
from graphopt.ir import files, references, spill
from graphopt.runtime import PartwiseSession, open_session
from graphopt.testing import graph, random_feeds
from graphopt.types import DType

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """m (float[N, 64] x) => (float[N, 64] y) <float[64, 64] w, float[64, 64] v, float[64] b> {
  a = MatMul (x, w)
  c = Add (a, b)
  d = MatMul (c, v)
  y = Relu (d) }"""


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "LEAST_SPILLED", 1000)
    monkeypatch.setattr(spill, "HELD_LIMIT", 5000)
    monkeypatch.setattr(spill, "_held", spill._Held())


@pytest.mark.usefixtures("small_limits")
def test_what_memory_has_no_room_for_goes_to_a_file_that_goes_with_it() -> None:
    values = [np.full((40, 10), i, np.float32) for i in range(5)]
    tensors = [ir.Tensor.from_array(v) for v in values]
    kept = [t.external is None for t in tensors]
    assert kept == [True, True, True, False, False]
    for tensor, array in zip(tensors, values, strict=True):
        np.testing.assert_array_equal(tensor.array(), array)
        assert tensor.digest() == ir.Tensor.from_array(array).digest()
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor.to_proto("t")), array)
    paths = [t.external.path for t in tensors if t.external is not None]
    assert all(p.is_file() for p in paths)
    del tensors, tensor
    gc.collect()
    assert not any(p.exists() for p in paths)
    assert spill._held.nbytes == 0
    assert ir.Tensor.from_array(values[0]).external is None


@pytest.mark.usefixtures("small_limits")
def test_small_and_packed_values_and_strings_stay_in_memory() -> None:
    held = [ir.Tensor.from_array(np.zeros(1000, np.float32)) for _ in range(2)]
    assert held[1].external is not None
    assert ir.Tensor.from_array(np.zeros(10, np.float32)).external is None
    words = np.array(["a"] * 5000, object)
    assert ir.Tensor.from_array(words, DType.STRING).external is None
    assert ir.Tensor.from_array(np.zeros(9000), DType.INT4).external is None


@pytest.mark.usefixtures("small_limits")
def test_where_no_file_can_be_written_values_stay_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill.tempfile, "mkstemp", full)
    made = ir.Tensor.from_array(np.ones(100_000, np.float32))
    assert made.external is None
    assert made.array().sum() == 100_000


def _saved(folder: Path) -> ir.Graph:
    ir.save(graph(TEXT), folder / "m.onnx", external=True)
    return ir.load(folder / "m.onnx")


def test_constants_in_files_are_referred_to(tmp_path: Path) -> None:
    found = ir.referring_bytes(_saved(tmp_path))
    assert found is not None
    data, folder = found
    assert folder == tmp_path.resolve()
    assert len(data) < 64 * 64 * 4
    places = {
        t.name: {e.key: e.value for e in t.external_data}.get("location")
        for t in onnx.load_from_string(data).graph.initializer
    }
    assert places == {"w": "m.onnx.data", "v": "m.onnx.data", "b": None}


def test_nothing_is_referred_to_where_nothing_lies_in_files(tmp_path: Path) -> None:
    assert ir.referring_bytes(graph(TEXT)) is None
    assert references.LEAST_REFERRED > 64 * 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("optimize", [True, False])
def test_sessions_read_constants_where_they_lie(tmp_path: Path, optimize: bool) -> None:
    plain, outside = graph(TEXT), _saved(tmp_path)
    feed = random_feeds(plain)[0]
    wanted = open_session(plain, optimize=optimize).run(feed)[0]
    np.testing.assert_array_equal(open_session(outside, optimize=optimize).run(feed)[0], wanted)
    parts = PartwiseSession(outside, part_bytes=0)
    # Parts are not fused with each other: rounding of 64 products.
    np.testing.assert_allclose(parts.run(feed)[0], wanted, rtol=1e-5, atol=1e-5)


def test_what_the_runtime_fuses_into_constants_it_reads_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """m (float[N, 8, 5, 5] x) => (float[N, 300, 3, 3] y) <float[300, 8, 3, 3] w,
    float[300] scale, float[300] shift, float[300] mean, float[300] spread> {
      a = Conv (x, w)
      c = BatchNormalization <epsilon = 3.0> (a, scale, shift, mean, spread)
      y = Relu (c) }"""
    plain = graph(text)
    ir.save(plain, tmp_path / "m.onnx", external=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    feed = random_feeds(plain)[0]
    wanted = open_session(plain).run(feed)[0]
    outside = ir.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(open_session(outside).run(feed)[0], wanted)


@pytest.mark.usefixtures("small_limits")
def test_sessions_read_constants_from_two_places(tmp_path: Path) -> None:
    outside, plain = _saved(tmp_path), graph(TEXT)
    for made in (outside, plain):
        value = made.value("v")
        made.set_tensor(value, ir.Tensor.from_array(np.ascontiguousarray(value.array().T)))
        assert value.stored.external is not None
    feed = random_feeds(plain)[0]
    np.testing.assert_array_equal(
        open_session(outside).run(feed)[0], open_session(plain).run(feed)[0]
    )


def test_constants_that_nobody_reads_are_not_written_before_ir_version_4() -> None:
    made = ir.parse("""<ir_version: 3, opset_import: ["" : 8]>
    m (float[2] x) => (float[2] y) { y = Relu (x) }""")
    made.add_constant("spare", np.ones(2, np.float32))
    assert open_session(made).run({"x": np.ones(2, np.float32)})[0].tolist() == [1, 1]
    made.ir_version = 8
    assert b"spare" in ir.to_bytes(made)


def test_a_model_that_came_with_data_beside_it_keeps_much_of_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, outside = graph(TEXT), _saved(tmp_path)
    assert ir.save(outside, tmp_path / "few.onnx") == [tmp_path / "few.onnx"]
    monkeypatch.setattr(files, "KEPT_OUTSIDE", 1000)
    assert ir.save(model, tmp_path / "inside.onnx") == [tmp_path / "inside.onnx"]
    written = ir.save(outside, tmp_path / "much.onnx")
    assert [p.name for p in written] == ["much.onnx", "much.onnx.data"]
    assert ir.structural_hash(ir.load(written[0])) == ir.structural_hash(model)
