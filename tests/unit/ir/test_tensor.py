"""Constants of every element type: packing, values, digests, and payloads that lie."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.types import DType

TYPES = [d for d in DType if d not in {DType.UNDEFINED, DType.STRING}]


@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("dims", [(), (5,), (2, 3), (0,)], ids=str)
def test_values_survive_packing(dtype: DType, dims: tuple[int, ...]) -> None:
    count = int(np.prod(dims))
    # 1 is a value of every type, 0 is none of float8e8m0, and int2 has no 2.
    values = np.resize(np.array([1, 1, 0 if dtype is not DType.FLOAT8E8M0 else 2]), dims)
    made = ir.Tensor.from_array(values, dtype)
    read = ir.Tensor.from_proto(made.to_proto("w"))
    for tensor in (made, read):
        assert (tensor.dtype, tensor.shape, tensor.size) == (dtype, dims, count)
        assert tensor.array().shape == dims
        np.testing.assert_array_equal(tensor.array().astype(np.complex64), values)
        assert not tensor.array().flags.writeable
        assert len(b"".join(tensor.chunks())) == tensor.nbytes == -(-count * dtype.bits // 8)
    assert made.digest() == read.digest()
    reference = numpy_helper.to_array(made.to_proto("w"))
    np.testing.assert_array_equal(reference.astype(np.complex64), values)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: d.name)
def test_every_type_agrees_with_onnx_on_its_number(dtype: DType) -> None:
    assert TensorProto.DataType.Name(dtype) == dtype.name


def test_the_types_of_onnx_are_all_known() -> None:
    assert {*TensorProto.DataType.values()} == {*DType}


def test_strings_are_kept_as_text() -> None:
    tensor = ir.Tensor.from_array(np.array(["a", "bé"], dtype=object))
    read = ir.Tensor.from_proto(tensor.to_proto("s"))
    assert read.dtype is DType.STRING
    assert [v.decode() if isinstance(v, bytes) else v for v in read.array()] == ["a", "bé"]


def test_the_digest_depends_on_type_shape_and_values_alone() -> None:
    values = np.array([1, 2], np.float32)
    typed = onnx.helper.make_tensor("other", TensorProto.FLOAT, [2], [1.0, 2.0])
    same = {ir.Tensor.from_array(values).digest(), ir.Tensor.from_proto(typed).digest()}
    assert len(same) == 1
    for other in (values.view(np.int32), values[None], values[::-1]):
        assert ir.Tensor.from_array(other).digest() not in same


def test_the_array_given_may_change_afterwards() -> None:
    values = np.zeros(3, np.float32)
    tensor = ir.Tensor.from_array(values)
    values[0] = 1
    assert tensor.array().tolist() == [0, 0, 0]


def _with(tensor: TensorProto, place: str) -> bytes:
    graph = ir.parse("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[3] x) => (float[3] y) { y = Neg(x) }""")
    model = onnx.ModelProto.FromString(ir.to_bytes(graph))
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "constant":
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["w"], value=tensor))
    else:
        indices = numpy_helper.from_array(np.array([1]))
        made = onnx.helper.make_sparse_tensor(tensor, indices, [3])
        model.graph.sparse_initializer.append(made)
    return model.SerializeToString()


HUGE = 1 << 30


@pytest.mark.parametrize("place", ["initializer", "constant", "sparse"])
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            TensorProto(name="w", dims=[HUGE, HUGE], data_type=1, raw_data=b"1234"),
            f"takes {1 << 62} bytes, and holds 4",
        ),
        (
            TensorProto(name="w", dims=[HUGE, HUGE], data_type=7, int64_data=[1]),
            f"takes {1 << 60} entries, and holds 1",
        ),
        (TensorProto(name="w", dims=[2], data_type=1, raw_data=b"1234567"), "takes 8 bytes"),
        (TensorProto(name="w", dims=[2], data_type=1, raw_data=b"1" * 12), "holds 12"),
        (TensorProto(name="w", dims=[2], data_type=1), "takes 2 entries, and holds 0"),
        (TensorProto(name="w", dims=[5], data_type=22, raw_data=b"12"), "takes 3 bytes"),
        (TensorProto(name="w", dims=[5], data_type=22, int32_data=[1] * 5), "takes 3 entries"),
        (TensorProto(name="w", dims=[2], data_type=8, string_data=[b"a"]), "takes 2 entries"),
        (TensorProto(name="w", dims=[-1], data_type=1), "which is no tensor"),
        (TensorProto(name="w", dims=[1], data_type=0, raw_data=b"1"), "which is no tensor"),
        (TensorProto(name="w", dims=[1], data_type=99, raw_data=b"1"), "the element type 99"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_tensor_that_does_not_hold_what_it_declares_is_refused(
    tensor: TensorProto, message: str, place: str
) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        ir.from_bytes(_with(tensor, place))
    assert raised.value.code == "G205"
    assert "`w`" in raised.value.message
    assert raised.value.where == "model"
    assert raised.value.hint


def test_an_unknown_element_type_of_an_input_is_refused() -> None:
    model = onnx.ModelProto.FromString(_with(TensorProto(name="w", data_type=1, dims=[0]), ""))
    model.graph.input[0].type.tensor_type.elem_type = 77
    with pytest.raises(ModelError, match="`x` has the element type 77"):
        ir.from_bytes(model.SerializeToString())
