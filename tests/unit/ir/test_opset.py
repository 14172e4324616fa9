"""Older operator sets are rewritten for newer ones: same outputs, and nothing lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper as h
from onnx import numpy_helper

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.testing import graph as parse
from graphopt.testing import random_feeds
from tests.unit.ir.running import run

if TYPE_CHECKING:
    from pathlib import Path

SQUEEZE = """<ir_version: {ir}, opset_import: ["" : {opset}]>
g (float[1, 2, 3] x) => (float[2, 3] y)
{{ a = Squeeze <axes = [0]> (x)  b = Softmax <axis = -1> (a)  y = Dropout <{ratio}> (b) }}"""


@pytest.mark.parametrize(
    ("name", "opset"),
    [("mnist_cntk", 7), ("face_rfb320", 9), ("dtln_model_1", 11), ("dtln_model_2", 11)],
)
def test_a_real_model_computes_the_same_afterwards(shared: Path, name: str, opset: int) -> None:
    path = shared / "models" / f"{name}.onnx"
    graph = ir.load(path)
    assert graph.opset == opset
    feeds = random_feeds(graph)[0]
    before = run(path.read_bytes(), feeds)
    weights = {id(v._tensor) for v in graph.initializers if v._tensor.size > 1024}
    ir.upgrade_opset(graph, 17)
    assert graph.opset == 17
    ir.verify(graph)
    assert weights <= {id(v._tensor) for v in graph.initializers}, "large weights are not copied"
    for expected, found in zip(before, run(ir.to_bytes(graph), feeds), strict=True):
        # The same kernels in another version: rounding of a few operations at most.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12])
def test_opsets_7_to_12_are_rewritten(opset: int) -> None:
    ratio = "ratio = 0.5" if opset < 12 else ""
    text = SQUEEZE.format(ir=3 if opset < 9 else 7, opset=opset, ratio=ratio)
    graph = ir.parse(text.replace("Dropout <>", "Dropout"))
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    (before,) = run(ir.to_bytes(graph), {"x": x})
    ir.upgrade_opset(graph, 17)
    ir.verify(graph)
    assert graph.opset == 17
    (after,) = run(ir.to_bytes(graph), {"x": x})
    # Softmax of opset 13 is another kernel of the same function.
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_initializers_that_had_to_be_inputs_become_constants() -> None:
    graph = ir.parse("""<ir_version: 3, opset_import: ["" : 8]>
        g (float[3] x, float[3] w) => (float[3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }""")
    assert [v.name for v in graph.inputs] == ["x", "w"]
    ir.upgrade_opset(graph, 17)
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.ir_version >= 4
    assert graph.value("w").array().tolist() == [1, 2, 3]
    (found,) = run(ir.to_bytes(graph), {"x": np.zeros(3, np.float32)})
    assert found.tolist() == [1, 2, 3]


def test_what_says_nothing_about_the_function_is_kept() -> None:
    weight = numpy_helper.from_array(np.zeros(2000, np.float32), "w")
    node = h.make_node("Add", ["x", "w"], ["a"], name="add", doc_string="of a node")
    node.metadata_props.add(key="namespace", value="layer")
    graph = h.make_graph(
        [node, h.make_node("Squeeze", ["a"], ["y"], axes=[0])],
        "g",
        [h.make_tensor_value_info("x", 1, [1, 2000], doc_string="of an input")],
        [h.make_tensor_value_info("y", 1, [2000])],
        [weight],
        doc_string="of a graph",
    )
    entry = graph.quantization_annotation.add(tensor_name="w")
    entry.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    model = h.make_model(
        graph, opset_imports=[h.make_opsetid("", 11), h.make_opsetid("d", 2)], ir_version=7
    )
    model.producer_name, model.doc_string = "exporter", "of a model"
    model.metadata_props.add(key="key", value="value")
    made = ir.from_bytes(model.SerializeToString())
    stored = made.value("w").tensor
    ir.upgrade_opset(made, 17)
    assert made.value("w").tensor is stored
    found = onnx.ModelProto.FromString(ir.to_bytes(made))
    assert (found.producer_name, found.doc_string) == ("exporter", "of a model")
    assert (found.metadata_props, found.graph.doc_string) == (model.metadata_props, "of a graph")
    assert found.graph.quantization_annotation == graph.quantization_annotation
    assert found.graph.node[0] == node
    assert found.graph.input == graph.input
    assert {o.domain: o.version for o in found.opset_import} == {"": 17, "d": 2}


FUNCTION = """<ir_version: 8, opset_import: ["" : 11, "l" : 1]>
g (float[1, 3] x) => (float[1, 3] y) {{ a = l.F(x)  y = Clip(a) }}
<domain: "l", opset_import: ["" : 11]> F (p) => (q) {{ {body} }}"""


def test_local_functions_come_along() -> None:
    graph = ir.parse(FUNCTION.format(body="r = Sin(p)  q = Cos(r)"))
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    before = run(ir.to_bytes(graph), {"x": x})[0]
    ir.upgrade_opset(graph, 17)
    ir.verify(graph)
    assert [f.name for f in graph.functions] == ["F"]
    np.testing.assert_array_equal(run(ir.to_bytes(graph), {"x": x})[0], before)


def test_a_function_whose_operators_changed_is_a_reason_to_stay() -> None:
    graph = ir.parse(FUNCTION.format(body="q = Squeeze <axes = [0]> (p)"))
    before = ir.to_bytes(graph)
    with pytest.raises(ModelError, match="`Squeeze` in the local function `F` changed"):
        ir.upgrade_opset(graph, 17)
    assert ir.to_bytes(graph) == before


def test_sparse_constants_are_a_reason_to_stay() -> None:
    model = onnx.ModelProto.FromString(ir.to_bytes(ir.parse(FUNCTION.format(body="q = Sin(p)"))))
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.array([1]))
    model.graph.sparse_initializer.append(h.make_sparse_tensor(values, indices, [3]))
    graph = ir.from_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="sparse initializers"):
        ir.upgrade_opset(graph, 17)


def test_an_operator_without_a_rule_is_named_and_the_graph_is_left_alone() -> None:
    graph = parse(
        "g (float[2, 2] x) => (float[2, 2] y) { y, a, b, c = BatchNormalization(x, x, x, x, x) }",
        opset=8,
    )
    before = ir.to_bytes(graph)
    with pytest.raises(ModelError, match="cannot rewrite opset 8 as 17: Assert") as raised:
        ir.upgrade_opset(graph, 17)
    assert raised.value.code == "G205"
    assert "\n" not in raised.value.message
    assert ir.to_bytes(graph) == before


def test_a_graph_that_is_new_enough_is_not_touched() -> None:
    graph = parse("g (float[3] x) => (float[3] y) { y = Neg(x) }", opset=17)
    before = ir.to_bytes(graph)
    ir.upgrade_opset(graph, 13)
    assert ir.to_bytes(graph) == before
    assert ir.newest_opset() == onnx.defs.onnx_opset_version()


def test_inner_graphs_are_rewritten_too() -> None:
    graph = parse(
        """g (float[1, 3] x, bool c) => (float[3] y) {
        y = If (c) <then_branch = t () => (float[3] p) { p = Squeeze <axes = [0]> (x) },
                    else_branch = e () => (float[3] q) {
                        q = ReduceSum <axes = [0], keepdims = 0> (x)
                    }>
        }""",
        opset=11,
    )
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    ir.upgrade_opset(graph, 17)
    ir.verify(graph)
    for flag in (True, False):
        (found,) = run(ir.to_bytes(graph), {"x": x, "c": np.array(flag)})
        np.testing.assert_array_equal(found, x[0])
