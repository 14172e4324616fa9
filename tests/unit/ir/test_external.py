"""External data: read when asked for, from beside the model only, and streamed when saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnx import helper as h

from graphopt import ir
from graphopt.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS = np.arange(2000, dtype=np.float32).reshape(4, 500)


def external(name: str = "w", **entries: object) -> TensorProto:
    """Return a tensor whose values lie outside, with the entries given."""
    tensor = TensorProto(name=name, dims=WEIGHTS.shape, data_type=1)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model(*tensors: TensorProto) -> onnx.ModelProto:
    """Return a model that multiplies by the first tensor."""
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", tensors[0].name], ["y"])],
        "g",
        [h.make_tensor_value_info("x", 1, ["N", 4])],
        [h.make_tensor_value_info("y", 1, ["N", 500])],
        list(tensors),
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a data file, inside another one that must not be read."""
    inside = tmp_path / "models"
    inside.mkdir()
    (inside / "w.bin").write_bytes(b"\xff" * 8 + WEIGHTS.tobytes() + b"\xff" * 8)
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    return inside


def write(folder: Path, *tensors: TensorProto, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(model(*tensors).SerializeToString())
    return path


# -- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [{"offset": 8, "length": 8000}, {"offset": 8}], ids=str)
def test_values_are_mapped_when_asked_for(folder: Path, entries: dict[str, int]) -> None:
    graph = ir.load(write(folder, external(location="w.bin", **entries)))
    tensor = graph.value("w").tensor
    assert (tensor.shape, tensor.nbytes) == (WEIGHTS.shape, 8000)
    values = tensor.array()
    assert isinstance(values, np.memmap)
    np.testing.assert_array_equal(values, WEIGHTS)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0
    assert "at w.bin" in repr(tensor)


def test_nothing_is_read_before_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, external(location="w.bin", offset=8))
    opened: list[str] = []
    real = Path.open

    def watch(self: Path, *args: object, **kwargs: object) -> object:
        opened.append(self.name)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", watch)
    graph = ir.load(path)
    ir.verify(graph)
    graph.copy()
    assert "w.bin" not in opened
    assert graph.value("w").tensor.digest() == ir.Tensor.from_array(WEIGHTS).digest()
    assert "w.bin" in opened


def test_shape_inference_leaves_large_values_on_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ir.load(write(folder, external(location="w.bin", offset=8)))

    def refuse(self: object) -> object:
        raise AssertionError("the values were read")

    monkeypatch.setattr("graphopt.ir.tensor.ExternalBytes.chunks", refuse)
    ir.infer_shapes(graph, {"N": 3})
    assert graph.value("y").shape == (3, 500)


def test_a_file_in_a_folder_below_and_a_link_to_a_file_inside_are_read(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "w.bin").rename(folder / "sub" / "w.bin")
    (folder / "link.bin").symlink_to(folder / "sub" / "w.bin")
    for location in ("sub/w.bin", "link.bin", "./sub/../sub/w.bin"):
        graph = ir.load(write(folder, external(location=location, offset=8)))
        np.testing.assert_array_equal(graph.value("w").array(), WEIGHTS)


def test_packed_and_scalar_values_outside_are_read(folder: Path) -> None:
    packed = TensorProto(name="p", dims=[3], data_type=TensorProto.INT4, data_location=1)
    packed.external_data.add(key="location", value="small.bin")
    scalar = TensorProto(name="s", dims=[], data_type=1, data_location=1)
    scalar.external_data.add(key="location", value="small.bin")
    empty = TensorProto(name="e", dims=[0, 4], data_type=1, data_location=1)
    empty.external_data.add(key="location", value="small.bin")
    (folder / "small.bin").write_bytes(b"\x21\x0f\x00\x40")
    packed.external_data.add(key="length", value="2")
    graph = ir.load(write(folder, external(location="w.bin", offset=8), packed, scalar, empty))
    assert graph.value("p").array().astype(int).tolist() == [1, 2, -1]
    assert graph.value("s").array() == np.frombuffer(b"\x21\x0f\x00\x40", np.float32)[0]
    assert graph.value("e").array().shape == (0, 4)
    inside = ir.from_bytes(ir.to_bytes(graph))
    for name in ("p", "s", "e", "w"):
        assert inside.value(name).tensor.digest() == graph.value(name).tensor.digest()


def test_tensors_in_attributes_may_lie_outside_too(folder: Path) -> None:
    made = model(h.make_tensor("unused", 1, [1], [0.0]))
    made.graph.node.insert(0, h.make_node("Constant", [], ["w"]))
    made.graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    made.graph.node[0].attribute[0].t.CopyFrom(external(location="w.bin", offset=8))
    made.graph.node[1].input[1] = "w"
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    graph = ir.load(path)
    np.testing.assert_array_equal(graph.value("w").array(), WEIGHTS)
    assert ir.tensor_bytes(graph) == 8004
    hashed = ir.structural_hash(graph)
    moved = folder / "moved"
    moved.mkdir()
    ir.save(graph.copy(), moved / "m.onnx", external=True)
    (folder / "w.bin").unlink()
    again = ir.load(moved / "m.onnx")
    np.testing.assert_array_equal(again.value("w").array(), WEIGHTS)
    assert ir.structural_hash(again) == hashed
    assert run_file(moved / "m.onnx").shape == (1, 500)


# -- refusing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"location": "{outside}/secret.bin"}, "G204"),
        ({"location": "../secret.bin"}, "G204"),
        ({"location": "sub/../../secret.bin"}, "G204"),
        ({"location": "/etc/passwd"}, "G204"),
        ({"location": "link_out.bin"}, "G204"),
        ({"location": "folder_out/secret.bin"}, "G204"),
        ({"location": "."}, "G204"),
        ({"location": "sub/.."}, "G204"),
        ({"location": ""}, "G204"),
        ({}, "G204"),
        ({"location": "missing.bin"}, "G203"),
        ({"location": "sub"}, "G203"),
        ({"location": "circle"}, "G203"),
        ({"location": "fifo"}, "G203"),
        ({"location": "w\0.bin"}, "G203"),
        ({"location": "w" * 5000}, "G203"),
        ({"location": "w.bin", "offset": 17}, "G203"),
        ({"location": "w.bin", "offset": -8}, "G203"),
        ({"location": "w.bin", "offset": "many"}, "G203"),
        ({"location": "w.bin", "offset": 1 << 70}, "G203"),
        ({"location": "w.bin", "length": 7999}, "G203"),
        ({"location": "w.bin", "length": 8016}, "G203"),
        ({"location": "w.bin", "length": -1}, "G203"),
        ({"location": "w.bin", "length": "9" * 5000}, "G203"),
    ],
    ids=lambda given: str(given)[:40].replace("\0", "NUL"),
)
def test_a_place_that_may_not_or_cannot_be_read_is_refused(
    folder: Path, entries: dict[str, object], code: str
) -> None:
    (folder / "sub").mkdir()
    (folder / "link_out.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "folder_out").symlink_to(folder.parent)
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "fifo")
    if "location" in entries:
        entries = {**entries, "location": str(entries["location"]).format(outside=folder.parent)}
    path = write(folder, external(**entries))
    with pytest.raises(ModelError) as raised:
        ir.load(path)
    assert raised.value.code == code
    assert raised.value.where == str(path)
    assert raised.value.hint
    assert "\n" not in raised.value.message


def test_more_elements_than_any_file_holds_is_refused(folder: Path) -> None:
    tensor = external(location="w.bin")
    tensor.dims[:] = [1 << 30, 1 << 30]
    with pytest.raises(ModelError, match=f"needs {1 << 62} bytes") as raised:
        ir.load(write(folder, tensor))
    assert raised.value.code == "G203"


def test_strings_cannot_lie_outside(folder: Path) -> None:
    tensor = external(location="w.bin")
    tensor.data_type = TensorProto.STRING
    with pytest.raises(ModelError, match="strings"):
        ir.load(write(folder, tensor))


def test_a_model_in_memory_has_no_folder() -> None:
    with pytest.raises(ModelError, match="has no folder") as raised:
        ir.from_bytes(model(external(location="w.bin")).SerializeToString())
    assert raised.value.code == "G203"
    assert raised.value.hint


def test_data_that_is_cut_short_after_loading_is_an_error(folder: Path) -> None:
    graph = ir.load(write(folder, external(location="w.bin", offset=8)))
    (folder / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match="ended early") as raised:
        ir.to_bytes(graph)
    assert raised.value.code == "G203"
    with pytest.raises(ModelError) as mapped:
        graph.value("w").array()
    assert mapped.value.code == "G203"


# -- writing -------------------------------------------------------------------------------


def run_file(path: Path) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones((1, 4), np.float32)})[0]


@pytest.mark.parametrize("outside", [True, False])
def test_what_is_saved_is_complete_and_runs(folder: Path, outside: bool, tmp_path: Path) -> None:
    graph = ir.load(write(folder, external(location="w.bin", offset=8)))
    target = tmp_path / "out"
    target.mkdir()
    written = ir.save(graph, target / "o.onnx", external=outside)
    names = ["o.onnx", "o.onnx.data"] if outside else ["o.onnx"]
    assert [p.name for p in written] == names == sorted(p.name for p in target.iterdir())
    (folder / "w.bin").unlink()
    np.testing.assert_array_equal(run_file(target / "o.onnx"), WEIGHTS.sum(0, keepdims=True))
    again = ir.load(target / "o.onnx")
    assert (again.value("w").tensor.external is not None) == outside
    if outside:
        assert again.value("w").tensor.external.offset % 4096 == 0


def test_small_constants_stay_inside(folder: Path, tmp_path: Path) -> None:
    small = h.make_tensor("small", 1, [2], [1.0, 2.0])
    graph = ir.load(write(folder, external(location="w.bin", offset=8), small))
    ir.save(graph, tmp_path / "o.onnx", external=True)
    made = onnx.load(tmp_path / "o.onnx", load_external_data=False)
    outside = {t.name: t.data_location == TensorProto.EXTERNAL for t in made.graph.initializer}
    assert outside == {"w": True, "small": False}


def test_large_models_are_written_beside_by_themselves(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ir.load(write(folder, external(location="w.bin", offset=8)))
    monkeypatch.setattr("graphopt.ir.files.INLINE_LIMIT", 7999)
    assert len(ir.save(graph, tmp_path / "o.onnx")) == 2
    monkeypatch.setattr("graphopt.ir.files.INLINE_LIMIT", 8000)
    assert len(ir.save(graph, tmp_path / "p.onnx")) == 1


@pytest.mark.parametrize(
    "name", [lambda f: f / "w.bin", lambda f: f / "alias.bin", lambda f: f / "sub" / ".." / "w.bin"]
)
def test_the_file_that_is_being_read_is_never_overwritten(
    folder: Path, name: Callable[[Path], Path]
) -> None:
    (folder / "alias.bin").symlink_to(folder / "w.bin")
    (folder / "sub").mkdir()
    graph = ir.load(write(folder, external(location="w.bin", offset=8)))
    before = (folder / "w.bin").read_bytes()
    files = sorted(folder.iterdir())
    with pytest.raises(ModelError, match="being read") as raised:
        ir.save(graph, name(folder))
    assert raised.value.code == "G208"
    assert raised.value.where
    assert (folder / "w.bin").read_bytes() == before
    assert sorted(folder.iterdir()) == files


def test_a_model_and_its_data_file_are_not_overwritten_while_read(folder: Path) -> None:
    (folder / "w.bin").rename(folder / "m.onnx.data")
    path = write(folder, external(location="m.onnx.data", offset=8))
    graph = ir.load(path)
    with pytest.raises(ModelError, match="being read"):
        ir.save(graph, path, external=True)
    assert (folder / "m.onnx.data").stat().st_size == 8016
