"""Weights that are moved out of a model's file before it is parsed, and written back into it."""

from __future__ import annotations

import gc

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.ir import lifted, wire
from graphopt.runtime import open_session


@pytest.fixture(autouse=True)
def every_file(monkeypatch):
    monkeypatch.setattr(lifted, "LEAST_FILE", 0)


def model(*, inner: bool = False) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    large = numpy_helper.from_array(random.standard_normal((64, 64), np.float32), "large")
    large.doc_string = "a weight"
    small = numpy_helper.from_array(np.ones(64, np.float32), "small")
    half = numpy_helper.from_array(random.standard_normal((64, 64)).astype(np.float16), "half")
    listed = helper.make_tensor("listed", TensorProto.FLOAT, [64, 64], np.arange(4096.0))
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["a"]),
        helper.make_node("Cast", ["half"], ["h"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["a", "h"], ["b"]),
        helper.make_node("Add", ["b", "small"], ["c"]),
        helper.make_node("Add", ["c", "listed"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])
    if inner:
        own = numpy_helper.from_array(random.standard_normal((64, 64), np.float32), "own")
        body = helper.make_graph(
            [helper.make_node("Add", ["y", "own"], ["z1"])],
            "then",
            [],
            [helper.make_tensor_value_info("z1", 1, [64, 64])],
            [own],
        )
        other = helper.make_graph(
            [helper.make_node("Identity", ["y"], ["z2"])],
            "else",
            [],
            [helper.make_tensor_value_info("z2", 1, [64, 64])],
        )
        nodes.append(helper.make_node("If", ["yes"], ["z"], then_branch=body, else_branch=other))
        y = helper.make_tensor_value_info("z", TensorProto.FLOAT, [64, 64])
    values = [large, small, half, listed, numpy_helper.from_array(np.array(True), "yes")]
    graph = helper.make_graph(nodes, "g", [x], [y], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def written(path, **options):
    path.write_bytes(model(**options).SerializeToString(deterministic=True))
    return path


@pytest.mark.parametrize("inner", [False, True])
def test_the_model_is_the_same_and_is_written_as_it_was(tmp_path, inner):
    path = written(tmp_path / "m.onnx", inner=inner)
    graph = ir.load(path)
    plain = ir.from_bytes(path.read_bytes())
    assert ir.structural_hash(graph) == ir.structural_hash(plain)
    assert ir.to_bytes(graph) == ir.to_bytes(plain) == path.read_bytes()
    assert ir.save(graph, tmp_path / "again.onnx") == [tmp_path / "again.onnx"]
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_only_large_raw_tensors_lie_elsewhere(tmp_path):
    graph = ir.load(written(tmp_path / "m.onnx"))
    outside = {v.name for v in graph.initializers if v.stored.external is not None}
    assert outside == {"large", "half"}
    np.testing.assert_array_equal(
        graph.find("large").array(), numpy_helper.to_array(model().graph.initializer[0])
    )


def test_the_source_may_go_and_the_temporary_file_goes_with_the_graph(tmp_path):
    path = written(tmp_path / "m.onnx")
    graph = ir.load(path)
    place = graph.find("large").stored.external.path
    path.unlink()
    assert graph.find("large").array().shape == (64, 64)
    copy = graph.copy()
    del graph
    assert place.exists()
    del copy
    gc.collect()
    assert not place.exists()


def test_the_runtime_computes_the_same(tmp_path):
    path = written(tmp_path / "m.onnx")
    feed = {"x": np.random.default_rng(1).standard_normal((64, 64), np.float32)}
    (wanted,) = open_session(path).run(feed)
    (found,) = open_session(ir.load(path)).run(feed)
    np.testing.assert_array_equal(found, wanted)


def test_the_census_leaves_nothing_beside_the_weights(tmp_path):
    from graphopt.runtime import census

    graph = ir.load(written(tmp_path / "m.onnx"))
    folder = ir.temporary_folder(graph)
    gc.collect()
    before = sorted(folder.iterdir())
    assert census(graph).kernels == census(ir.from_bytes(ir.to_bytes(graph))).kernels
    gc.collect()
    assert sorted(folder.iterdir()) == before


def test_a_weight_that_does_not_hold_what_it_declares_is_refused_as_ever(tmp_path):
    broken = model()
    broken.graph.initializer[0].dims[0] = 63
    path = tmp_path / "m.onnx"
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(ModelError) as caught:
        ir.load(path)
    assert caught.value.code == "G205"


def test_names_defined_twice_are_refused_as_ever(tmp_path):
    twice = model()
    twice.graph.initializer.append(twice.graph.initializer[0])
    path = tmp_path / "m.onnx"
    path.write_bytes(twice.SerializeToString())
    with pytest.raises(ModelError) as caught:
        ir.load(path)
    assert caught.value.code == "G205"


def outcome(read, *arguments):
    """Return the hash of what is read, or the code of the error."""
    try:
        return ir.structural_hash(read(*arguments))
    except ModelError as error:
        return error.code


@given(cut=st.floats(0, 1), position=st.floats(0, 1), byte=st.integers(0, 255))
def test_damaged_files_raise_what_they_raise_unlifted(tmp_path_factory, cut, position, byte):
    data = bytearray(model().SerializeToString())
    data = data[: int(cut * len(data)) + 1]
    data[min(int(position * len(data)), len(data) - 1)] = byte
    path = tmp_path_factory.mktemp("damaged") / "m.onnx"
    path.write_bytes(data)
    assert outcome(ir.load, path) == outcome(ir.from_bytes, bytes(data), path.parent)


@given(st.integers(0, 1 << 63))
def test_varints_are_read_as_they_are_written(number):
    data = wire.varint(5 << 3) + wire.varint(number)
    (field,) = wire.fields(data, 0, len(data))
    assert (field.number, field.value, field.end) == (5, number, len(data))


@pytest.mark.parametrize("data", [b"\x2a", b"\x2a\xff", b"\x2a\x05abc", b"\x2f", b"\xff" * 11])
def test_what_is_no_message_is_told(data):
    with pytest.raises(ValueError, match=r"cut short|wire type"):
        list(wire.fields(data, 0, len(data)))
