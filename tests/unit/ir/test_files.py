"""Files that are no models, and writes that are complete or did not happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper as h

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.testing import graph as parse

if TYPE_CHECKING:
    from pathlib import Path


def _graph() -> ir.Graph:
    graph = parse("g (float[N, 64] x) => (float[N, 64] y) <float[64, 64] w> { y = MatMul(x, w) }")
    assert graph.value("w").tensor.nbytes == 16384
    return graph


def _refused(path: Path, code: str) -> str:
    with pytest.raises(ModelError) as raised:
        ir.load(path)
    error = raised.value
    assert (error.code, error.where) == (code, str(path))
    assert error.hint
    assert "\n" not in error.message
    return error.message


# -- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"this is prose, and long enough to be taken for something else\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0",
        b"PK\x03\x04" + b"\0" * 60,
        b"\x08\x08",
        onnx.ModelProto(ir_version=8).SerializeToString(),
        onnx.TensorProto(dims=[1], data_type=1, float_data=[1.0]).SerializeToString(),
    ],
    ids=["empty", "text", "png", "zip", "start", "no graph", "tensor"],
)
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    _refused(path, "G202")


def test_every_truncation_is_refused_or_is_still_a_model(tmp_path: Path) -> None:
    whole = ir.to_bytes(_graph())
    path = tmp_path / "m.onnx"
    for length in (*range(200), len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        _refused(path, "G202")


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(ir.to_bytes(_graph()).replace(b"MatMul", b"Mat\xff\xfel"))
    _refused(path, "G202")


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in _refused(tmp_path / "nope.onnx", "G201")
    assert "directory" in _refused(tmp_path, "G201")


def test_a_file_without_permission_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert "Permission denied" in _refused(path, "G201")


def test_a_file_that_protobuf_cannot_hold_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    assert "2 GiB" in _refused(path, "G209")


# -- writing -------------------------------------------------------------------------------


@pytest.mark.parametrize("external", [False, True])
def test_a_crash_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool
) -> None:
    target = tmp_path / "o.onnx"
    target.write_bytes(b"old model")
    (tmp_path / "o.onnx.data").write_bytes(b"old data")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for broken in ("os.fsync", "graphopt.ir.files.model_from_graph"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            with pytest.raises(ModelError, match="No space left") as raised:
                ir.save(_graph(), target, external=external)
        assert raised.value.code == "G208"
        assert raised.value.hint
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("external", [False, True])
def test_an_interrupt_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ir.save(_graph(), tmp_path / "o.onnx", external=external)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_stops_in_the_middle_of_a_tensor_leaves_nothing(tmp_path: Path) -> None:
    class Failing(ir.Tensor):
        def chunks(self) -> object:
            yield b"\0" * 100
            raise OSError(5, "Input/output error")

    graph = _graph()
    stored = graph.value("w").tensor
    graph.set_tensor(graph.value("w"), Failing(stored.dtype, stored.shape, array=stored.array()))
    with pytest.raises(ModelError, match="Input/output error"):
        ir.save(graph, tmp_path / "o.onnx", external=True)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    places = {"nope/o.onnx": "No such file", "folder": "directory", "file/o.onnx": "directory"}
    before = sorted(p.name for p in tmp_path.rglob("*"))
    for place, reason in places.items():
        for external in (False, True):
            with pytest.raises(ModelError, match=reason) as raised:
                ir.save(_graph(), tmp_path / place, external=external)
            assert raised.value.code == "G208"
            assert raised.value.where == str(tmp_path / place)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_written_files_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    for path in ir.save(_graph(), tmp_path / "o.onnx", external=True):
        assert path.stat().st_mode == plain.stat().st_mode


def test_a_link_is_replaced_and_what_it_pointed_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "o.onnx").symlink_to(tmp_path / "precious")
    ir.save(_graph(), tmp_path / "o.onnx")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "o.onnx").is_symlink()


def test_write_whole_replaces_a_file_or_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    ir.write_whole(path, b"one")
    ir.write_whole(path, b"two")
    assert path.read_bytes() == b"two"

    def fail(*_: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="full"):
        ir.write_whole(path, b"three")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("external", [False, True])
def test_files_beside_are_written_with_the_model_or_not_at_all(
    tmp_path: Path, external: bool
) -> None:
    report = tmp_path / "o.json"
    written = ir.save(_graph(), tmp_path / "o.onnx", external=external, beside={report: b"{}"})
    assert written[-1] == report
    assert report.read_bytes() == b"{}"
    assert sorted(tmp_path.iterdir()) == sorted(written)
    blocked = tmp_path / "blocked.json"
    blocked.mkdir()
    with pytest.raises(ModelError) as raised:
        ir.save(_graph(), tmp_path / "p.onnx", external=external, beside={blocked: b"{}"})
    assert (raised.value.code, raised.value.where) == ("G208", str(blocked))
    assert sorted(tmp_path.iterdir()) == sorted([*written, blocked])


def test_more_than_a_protobuf_holds_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _graph()
    huge = ir.Tensor.from_array(np.zeros(1, np.float32))
    monkeypatch.setattr(ir.Tensor, "nbytes", 3 << 30)
    graph.add_constant("huge", huge)
    with pytest.raises(ModelError, match="too much for one protobuf") as raised:
        ir.to_bytes(graph)
    assert raised.value.code == "G208"
    assert raised.value.hint


def test_a_copy_that_shares_a_tensor_counts_it_once() -> None:
    graph = _graph()
    tensor = graph.value("w").tensor
    graph.add_constant("again", tensor)
    assert ir.tensor_bytes(graph) == tensor.nbytes


# -- depth ---------------------------------------------------------------------------------


def _nested(levels: int) -> bytes:
    """Serialize a model of graphs inside graphs by hand: protobuf itself refuses to."""

    def message(number: int, content: bytes) -> bytes:
        size, head = len(content), b""
        while size >= 0x80:
            head += bytes([size & 0x7F | 0x80])
            size >>= 7
        return bytes([number << 3 | 2]) + head + bytes([size]) + content

    info = h.make_tensor_value_info("y", 1, [1]).SerializeToString()
    graph = message(1, h.make_node("Neg", ["x"], ["y"]).SerializeToString()) + message(12, info)
    for _ in range(levels):
        attribute = message(1, b"body") + message(6, graph) + bytes([20 << 3 & 0x7F | 0x80, 1, 5])
        node = message(1, b"c") + message(2, b"y") + message(4, b"If") + message(5, attribute)
        graph = message(1, node) + message(12, info)
    model = onnx.ModelProto(ir_version=8, opset_import=[h.make_opsetid("", 17)])
    return model.SerializeToString() + message(7, graph)


def test_graphs_as_deep_as_runtimes_take_are_read() -> None:
    graph = ir.from_bytes(_nested(30))
    assert sum(1 for _ in graph.walk()) == 31
    for result in (ir.to_bytes(graph), ir.to_bytes(graph.copy())):
        assert onnx.ModelProto.FromString(result) == onnx.ModelProto.FromString(_nested(30))
    assert ir.to_text(graph).count("graph") == 31
    assert ir.structural_hash(graph.copy()) == ir.structural_hash(graph)
    graph.sort()


@pytest.mark.parametrize("levels", [31, 33, 34, 100, 3000])
def test_graphs_nested_deeper_are_refused(levels: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(_nested(levels))
    with pytest.raises(ModelError, match="nested more than 30 deep") as raised:
        ir.load(path)
    assert raised.value.code == "G209"
    assert str(path) in str(raised.value.where)
    assert raised.value.hint


def test_graphs_cannot_be_built_deeper_either() -> None:
    inner = ir.Graph("leaf")
    for level in range(30):
        outer = ir.Graph(f"level{level}")
        outer.add_node("If", [None], attributes={"then_branch": inner})
        inner = outer
    with pytest.raises(ModelError, match="nested more than 30 deep") as raised:
        ir.Graph("outermost").add_node("If", [None], attributes={"then_branch": inner})
    assert raised.value.code == "G209"


def test_text_nested_deeper_is_refused() -> None:
    body, tail = "", ""
    for level in range(60):
        body += f"b{level} () => (float[1] y{level}) {{ y{level} = If (c) <then_branch = "
        tail += "> }"
    text = f"g (float[1] x, bool c) => (float[1] y) {{ y = If (c) <then_branch = {body}" + (
        "leaf () => (float[1] z) { z = Neg(x) }" + tail + "> }"
    )
    with pytest.raises(ModelError) as raised:
        ir.parse(f'<ir_version: 8, opset_import: ["" : 17]>{text}')
    assert raised.value.code == "G209"
