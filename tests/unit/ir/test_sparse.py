"""Sparse constants: seen dense, kept as they are in files, refused where they are no tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx import helper as h

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.testing import run
from graphopt.types import DType

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[2, 4] x) => (float[2, 3] y) <float[4, 3] w = {0,2,0,0,0,0,0,0,-1,0,0,0}> {
        y = MatMul(x, w)
    }"""
DENSE = np.array([[0, 2, 0], [0, 0, 0], [0, 0, -1], [0, 0, 0]], np.float32)


def sparse_proto(
    indices: Any, *, values: Any = (2.0, -1.0), dims: Any = (4, 3), kind: type = np.int64
) -> onnx.SparseTensorProto:
    made = onnx.SparseTensorProto(dims=dims)
    made.values.CopyFrom(numpy_helper.from_array(np.array(values, np.float32), "w"))
    made.indices.CopyFrom(numpy_helper.from_array(np.array(indices, kind), "w_places"))
    return made


def model_with(sparse: onnx.SparseTensorProto) -> bytes:
    model = onnx.ModelProto.FromString(ir.to_bytes(ir.parse(PLAIN)))
    del model.graph.initializer[:]
    model.graph.sparse_initializer.append(sparse)
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("indices", [[1, 8], [[0, 1], [2, 2]]], ids=["flat", "by axis"])
def test_a_sparse_constant_is_seen_dense_and_saved_as_it_was(indices: Any, kind: type) -> None:
    data = model_with(sparse_proto(indices, kind=kind))
    graph = ir.from_bytes(data)
    weight = graph.value("w")
    assert weight.is_constant
    assert (weight.dtype, weight.shape) == (DType.FLOAT, (4, 3))
    np.testing.assert_array_equal(weight.array(), DENSE)
    assert not weight.array().flags.writeable
    assert weight.tensor is not None
    assert weight.tensor.nbytes == 2 * 4 + np.dtype(kind).itemsize * np.size(indices)
    assert ir.to_bytes(graph) == data
    assert ir.to_bytes(graph.copy()) == data
    ir.verify(graph)
    feed = {"x": np.ones((2, 4), np.float32)}
    np.testing.assert_array_equal(run(graph, feed)[0], feed["x"] @ DENSE)


def test_passes_see_a_constant_like_any_other_and_may_replace_it() -> None:
    graph = ir.from_bytes(model_with(sparse_proto([1, 8])))
    assert [v.name for v in graph.initializers] == ["w"]
    assert "sparse w: float[4, 3] = <" in ir.to_text(graph)
    ir.infer_shapes(graph)
    assert graph.outputs[0].shape == (2, 3)
    before = ir.structural_hash(graph)
    graph.set_tensor(graph.value("w"), ir.Tensor.from_array(DENSE))
    assert ir.structural_hash(graph) != before  # the file is another
    assert not onnx.ModelProto.FromString(ir.to_bytes(graph)).graph.sparse_initializer


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    kind=st.sampled_from([np.float32, np.float16, np.float64, np.int8, np.int64, np.bool_]),
)
def test_what_is_stored_sparsely_comes_back_bit_by_bit(
    shape: list[int], seed: int, kind: Any
) -> None:
    random = np.random.default_rng(seed)
    values: Array = np.asarray(random.integers(-1, 2, shape)).astype(kind)
    if np.issubdtype(kind, np.floating) and values.size:
        values.reshape(-1)[0] = -0.0  # not the same as 0
    tensor = ir.Tensor.from_array(values)
    made = ir.SparseTensor.of(tensor)
    assert made.nbytes == ir.sparse_bytes(tensor)
    assert made.array().tobytes() == values.tobytes()
    assert made.to_proto("n") == tensor.to_proto("n")
    assert b"".join(made.chunks()) == b"".join(tensor.chunks())
    assert made.digest() != tensor.digest()
    graph = ir.parse(PLAIN)
    graph.add_constant("made", made)
    data = ir.to_bytes(graph)
    again = ir.from_bytes(data)
    assert ir.to_bytes(again) == data
    assert again.value("made").array().tobytes() == values.tobytes()
    onnx.checker.check_model(onnx.ModelProto.FromString(data))


def test_strings_and_halves_of_bytes_are_not_made_sparse_but_strings_are_read() -> None:
    for tensor in (
        ir.Tensor.packed(DType.INT4, (2,), b"\x10"),
        ir.Tensor.from_array(np.array(["a"], object), DType.STRING),
        ir.Tensor.from_array(np.float32(0)),
    ):
        with pytest.raises(ValueError, match="not stored sparsely"):
            ir.SparseTensor.of(tensor)
    made = onnx.SparseTensorProto(dims=[3])
    made.values.CopyFrom(
        TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
    )
    made.indices.CopyFrom(numpy_helper.from_array(np.array([1])))
    data = model_with(made)
    graph = ir.from_bytes(data)
    assert graph.value("w").array().tolist() == ["", "a", ""]
    assert ir.to_bytes(graph) == data


HUGE = 1 << 20
BAD = [
    (sparse_proto([1, 12]), "G205", "an index outside"),
    (sparse_proto([-1, 8]), "G205", "an index outside"),
    (sparse_proto([[0, 1], [2, 3]]), "G205", "an index outside"),
    (sparse_proto([[0, 1], [-1, 0]]), "G205", "an index outside"),
    (sparse_proto([8, 1]), "G205", "not in ascending order"),
    (sparse_proto([[2, 2], [0, 1]]), "G205", "not in ascending order"),
    (sparse_proto([1, 1]), "G205", "an index twice"),
    (sparse_proto([[2, 2], [2, 2]]), "G205", "an index twice"),
    (sparse_proto([1]), "G205", "2 values, and indices of shape"),
    (sparse_proto([[0, 1, 2], [2, 2, 2]]), "G205", "2 values, and indices of shape"),
    (sparse_proto([[1, 8]]), "G205", "2 values, and indices of shape"),
    (sparse_proto([1, 8], values=[[2.0], [-1.0]]), "G205", "values of shape"),
    (sparse_proto([1, 8], dims=(-4, -3)), "G205", "values of shape"),
    (sparse_proto([1, 8], kind=np.float32), "G205", "indices of type float"),
    (sparse_proto([1, 8], kind=np.uint8), "G205", "indices of type uint8"),
    (sparse_proto([0, 1], dims=(0, 3)), "G205", "an index outside"),
    (sparse_proto([1, 8], dims=(HUGE, HUGE)), "G209", "more than the 2 GiB"),
    (sparse_proto([1, 8], dims=(1 << 62, 1 << 62)), "G209", "more than the 2 GiB"),
]


@pytest.mark.parametrize(("sparse", "code", "message"), BAD)
def test_what_is_no_tensor_is_refused(
    sparse: onnx.SparseTensorProto, code: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        ir.from_bytes(model_with(sparse))
    assert raised.value.code == code
    assert raised.value.where == "model"
    assert raised.value.hint


def test_many_that_are_too_large_together_are_refused() -> None:
    model = onnx.ModelProto.FromString(model_with(sparse_proto([1, 8], dims=(1 << 14, 1 << 14))))
    for number in range(2):
        other = sparse_proto([1, 8], dims=(1 << 14, 1 << 14))
        other.values.name = f"w{number}"
        model.graph.sparse_initializer.append(other)
    with pytest.raises(ModelError, match="more than the 2 GiB"):
        ir.from_bytes(model.SerializeToString())


def test_external_data_of_sparse_constants_is_refused(tmp_path: Path) -> None:
    sparse = sparse_proto([1, 8])
    sparse.values.ClearField("raw_data")
    sparse.values.data_location = TensorProto.EXTERNAL
    sparse.values.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(b"12345678")
    (tmp_path / "model.onnx").write_bytes(model_with(sparse))
    with pytest.raises(ModelError, match="external data, which is not read") as raised:
        ir.load(tmp_path / "model.onnx")
    assert raised.value.code == "G203"


def test_sparse_constants_stay_inside_when_others_go_beside_the_model(tmp_path: Path) -> None:
    graph = ir.from_bytes(model_with(sparse_proto([1, 8])))
    big = np.arange(2000, dtype=np.float32)
    graph.set_outputs([*graph.outputs, graph.add_constant("big", big)])
    ir.save(graph, tmp_path / "m.onnx", external=True)
    again = ir.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(again.value("w").array(), DENSE)
    np.testing.assert_array_equal(again.value("big").array(), big)
    assert isinstance(again.value("w").stored, ir.SparseTensor)


def test_a_sparse_constant_of_an_inner_graph_is_read_too() -> None:
    graph = ir.parse("""<ir_version: 8, opset_import: ["" : 17]>
        g (bool c, float[2] x) => (float[2] y) {
            y = If (c) < then_branch = t () => (float[2] p) { p = Neg(x) },
                else_branch = e () => (float[2] q) { q = Abs(x) } >
        }""")
    model = onnx.ModelProto.FromString(ir.to_bytes(graph))
    inner = next(a.g for a in model.graph.node[0].attribute if a.name == "else_branch")
    inner.sparse_initializer.append(sparse_proto([1], values=[5.0], dims=(2,)))
    inner.node[0].CopyFrom(h.make_node("Add", ["x", "w"], ["q"]))
    data = model.SerializeToString(deterministic=True)
    read = ir.from_bytes(data)
    assert ir.to_bytes(read) == data
    feed = {"c": np.array(False), "x": np.ones(2, np.float32)}
    assert run(read, feed)[0].tolist() == [1, 6]
    inner.sparse_initializer.append(sparse_proto([9], values=[5.0], dims=(2,)))
    inner.sparse_initializer[1].values.name = "w2"
    with pytest.raises(ModelError, match="an index outside"):
        ir.from_bytes(model.SerializeToString())
