"""What graph edits promise: names, uses, captures, order, and the independence of copies."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper as h

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.testing import graph as parse
from graphopt.types import DType
from tests.unit.ir.running import run

CHAIN = "g (float[N, 3] x) => (float[N, 3] y) { a = Neg(x)  b = Abs(a)  y = Relu(b) }"

CAPTURE = """g (float[3] x, bool c) => (float[3] y) {
    a = Neg(x)
    b = Abs(x)
    y = If (c) <
        then_branch = t () => (float[3] p) {
            p = If (c) <then_branch = tt () => (float[3] q) { q = Relu(a) },
                        else_branch = te () => (float[3] r) { r = Identity(x) }>
        },
        else_branch = e () => (float[3] s) { s = Add(a, a) }
    >
}"""

X = np.array([-1.0, 0.0, 2.0], np.float32)


def _names(graph: ir.Graph) -> list[str]:
    return [v.name for v in graph.outputs]


def _run(graph: ir.Graph, **feeds: object) -> np.ndarray:
    ir.verify(graph)
    return run(ir.to_bytes(graph), feeds)[0]


# -- reading -------------------------------------------------------------------------------


def test_a_value_knows_who_makes_it_and_who_reads_it() -> None:
    graph = parse("g (float[3] x) => (float[3] y) { a = Neg(x)  y = Add(a, a) }")
    value = graph.value("a")
    (neg, add) = graph.nodes()
    assert (value.producer, value.uses) == (neg, ((add, 0), (add, 1)))
    assert value.consumers == (add,)
    assert (value.dtype, value.is_input, value.is_output, value.is_constant) == (None, *[False] * 3)
    assert graph.value("x").is_input
    assert graph.value("y").is_output
    assert (graph.value("x").dtype, graph.value("x").shape) == (DType.FLOAT, (3,))
    assert [n.op for n in graph.nodes("Add")] == ["Add"]


def test_an_unknown_name_is_an_error_and_find_says_none() -> None:
    graph = parse(CHAIN)
    assert graph.find("nope") is None
    with pytest.raises(ModelError, match="no tensor `nope`"):
        graph.value("nope")
    with pytest.raises(ModelError, match="not a constant"):
        graph.value("a").array()


def test_walk_reaches_every_level_and_nodes_only_one() -> None:
    graph = parse(CAPTURE)
    assert [n.op for n in graph.nodes()] == ["Neg", "Abs", "If"]
    ops = sorted(n.op for n in graph.walk())
    assert ops == ["Abs", "Add", "Identity", "If", "If", "Neg", "Relu"]


def test_a_capture_counts_as_a_use_of_the_outer_value() -> None:
    graph = parse(CAPTURE)
    assert sorted(n.op for n in graph.value("a").consumers) == ["Add", "Relu"]
    inner = graph.nodes("If")[0].subgraphs[0]
    assert inner.lookup("a") is graph.value("a")
    assert inner.opset == graph.opset == 17


def test_constants_are_initializers_or_constant_nodes_and_defaults_are_not() -> None:
    graph = parse("""g (float[3] x, float[3] d) => (float[3] y)
        <float[3] d = {1, 2, 3}, float[3] w = {4, 5, 6}>
        { k = Constant <value_ints = [7, 8]> ()  s = Constant <value_float = 0.5> ()
          a = Add(x, d)  b = Add(a, w)  y = Mul(b, s) }""")
    constants = {v.name: v.array().tolist() for v in graph.values() if v.is_constant}
    assert constants == {"w": [4.0, 5.0, 6.0], "k": [7, 8], "s": 0.5}
    assert graph.value("k").tensor.dtype is DType.INT64
    assert [v.name for v in graph.feeds] == ["x"]
    assert graph.value("d").is_initializer
    with pytest.raises(ValueError, match="read-only"):
        graph.value("w").array()[0] = 0


def test_before_ir_version_4_an_initializer_is_an_input_and_still_constant() -> None:
    graph = parse("""<ir_version: 3, opset_import: ["" : 8]>
        g (float[3] x, float[3] w) => (float[3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }""")
    assert graph.value("w").is_constant
    assert [v.name for v in graph.feeds] == ["x"]


def test_attributes_are_python_values() -> None:
    tensor = ir.Tensor.from_array(np.array([1, 2], np.int8))
    graph = parse(CHAIN)
    node = graph.nodes()[0]
    given = {"i": 3, "f": 0.5, "s": "tëxt", "ints": [1, 2], "floats": [0.5], "strings": ["a", "b"]}
    for key, value in given.items():
        node.set_attribute(key, value)
    node.set_attribute("t", tensor)
    assert {k: node.attribute(k) for k in given} == given
    assert node.attribute("t").array().tolist() == [1, 2]
    assert node.attribute_names == (*given, "t")
    assert node.attribute("none", 7) == 7
    node.set_attribute("i", None)
    assert "i" not in node.attribute_names


# -- replace_uses, rename, remove ----------------------------------------------------------


def test_replace_uses_moves_readers_and_output_names() -> None:
    graph = parse(CHAIN)
    graph.replace_uses(graph.value("b"), graph.value("a"))
    assert graph.nodes("Relu")[0].inputs == (graph.value("a"),)
    graph.replace_uses(graph.value("y"), graph.value("a"))
    assert _names(graph) == ["y"]
    assert graph.value("y").producer is graph.nodes("Neg")[0]
    assert graph.value("y").shape == ("N", 3)
    for node in graph.nodes("Relu", "Abs"):
        graph.remove(node)
    np.testing.assert_array_equal(_run(graph, x=np.ones((1, 3), np.float32)), -np.ones((1, 3)))


def test_replace_uses_reaches_captures_at_every_depth() -> None:
    graph = parse(CAPTURE)
    graph.replace_uses(graph.value("a"), graph.value("b"))
    graph.remove(graph.nodes("Neg")[0])
    np.testing.assert_array_equal(_run(graph, x=X, c=np.array(True)), np.abs(X))
    np.testing.assert_array_equal(_run(graph, x=X, c=np.array(False)), 2 * np.abs(X))


@pytest.mark.parametrize("new", ["x", "w", "z"])
def test_an_output_that_cannot_take_the_name_is_copied(new: str) -> None:
    graph = parse("""g (float[3] x) => (float[3] y, float[3] z) <float[3] w = {1, 2, 3}>
        { y = Neg(x)  z = Add(x, w) }""")
    graph.replace_uses(graph.value("y"), graph.value(new))
    assert _names(graph) == ["y", "z"]
    assert graph.value("y").producer.op == "Identity"
    expected = {"x": X, "w": [1, 2, 3], "z": X + np.array([1, 2, 3])}[new]
    np.testing.assert_array_equal(_run(graph, x=X), expected)


def test_replacing_an_identity_output_by_its_own_source_changes_nothing() -> None:
    graph = parse("g (float[3] x) => (float[3] y) { y = Identity(x) }")
    before = ir.structural_hash(graph)
    graph.replace_uses(graph.value("y"), graph.value("x"))
    assert ir.structural_hash(graph) == before


def test_an_input_that_is_returned_keeps_its_name() -> None:
    graph = parse("g (float[3] x) => (float[3] x, float[3] y) { a = Abs(x)  y = Neg(x) }")
    graph.replace_uses(graph.value("x"), graph.value("a"))
    graph.nodes("Abs")[0].set_inputs([graph.value("x")])
    assert [v.name for v in graph.inputs] == ["x"]
    assert _names(graph) == ["x", "y"]
    ir.verify(graph)


def test_a_scalar_output_keeps_its_shape() -> None:
    graph = parse("g (float[3] x) => (float y) { a = ReduceSum(x)  y = Squeeze(a) }")
    graph.replace_uses(graph.value("y"), graph.value("a"))
    assert graph.value("y").shape == ()


def test_rename_is_seen_by_readers_annotations_and_declared_types() -> None:
    model = h.make_model(
        h.make_graph(
            [h.make_node("Custom", ["x"], ["a"], domain="d"), h.make_node("Neg", ["a"], ["y"])],
            "g",
            [h.make_tensor_value_info("x", 1, [3])],
            [h.make_tensor_value_info("y", 1, [3])],
            value_info=[h.make_tensor_value_info("a", 1, [3], doc_string="kept")],
        ),
        opset_imports=[h.make_opsetid("", 17), h.make_opsetid("d", 1)],
    )
    entry = model.graph.quantization_annotation.add(tensor_name="a")
    entry.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="a")
    graph = ir.from_bytes(model.SerializeToString())
    copy = graph.copy()
    copy.rename(copy.value("a"), "b")
    found = onnx.ModelProto.FromString(ir.to_bytes(copy)).graph
    assert [list(n.input) for n in found.node] == [["x"], ["b"]]
    assert [(i.name, i.doc_string) for i in found.value_info] == [("b", "kept")]
    assert found.quantization_annotation[0].tensor_name == "b"
    assert found.quantization_annotation[0].quant_parameter_tensor_names[0].value == "b"
    assert onnx.ModelProto.FromString(ir.to_bytes(graph)) == model


def test_what_is_said_about_a_tensor_goes_with_it() -> None:
    model = onnx.ModelProto.FromString(ir.to_bytes(parse(CHAIN)))
    for name in ("a", "b"):
        model.graph.quantization_annotation.add(tensor_name=name)
    model.graph.sparse_initializer.append(
        h.make_sparse_tensor(
            onnx.numpy_helper.from_array(np.ones(1, np.float32), "s"),
            onnx.numpy_helper.from_array(np.array([1])),
            [3],
        )
    )
    model.graph.value_info.append(h.make_tensor_value_info("b", 1, ["N", 3]))
    graph = ir.from_bytes(model.SerializeToString())
    graph.replace_uses(graph.value("b"), graph.value("a"))
    graph.remove(graph.nodes("Abs")[0])
    graph.remove_value(graph.value("s"))
    found = onnx.ModelProto.FromString(ir.to_bytes(graph)).graph
    assert [a.tensor_name for a in found.quantization_annotation] == ["a"]
    assert not found.sparse_initializer
    assert not found.value_info


def test_a_sparse_constant_can_be_renamed() -> None:
    sparse = h.make_sparse_tensor(
        onnx.numpy_helper.from_array(np.ones(1, np.float32), "s"),
        onnx.numpy_helper.from_array(np.array([1])),
        [3],
    )
    made = parse("g (float[3] x) => (float[3] y) { y = Neg(x) }")
    model = onnx.ModelProto.FromString(ir.to_bytes(made))
    model.graph.sparse_initializer.append(sparse)
    model.graph.node[0].CopyFrom(h.make_node("Add", ["x", "s"], ["y"]))
    graph = ir.from_bytes(model.SerializeToString())
    assert graph.value("s").shape == (3,)
    graph.rename(graph.value("s"), "t")
    ir.verify(ir.from_bytes(ir.to_bytes(graph)))
    np.testing.assert_array_equal(_run(graph, x=X), X + np.array([0, 1, 0]))


@pytest.mark.parametrize("name", ["x", "b", "q", "p"])
def test_a_name_that_is_taken_at_any_level_is_refused(name: str) -> None:
    graph = parse(CAPTURE)
    with pytest.raises(ModelError, match="defined twice"):
        graph.rename(graph.value("a"), name)
    graph.rename(graph.value("a"), "a")


def test_an_inner_value_cannot_take_the_name_of_an_outer_one() -> None:
    inner = parse(CAPTURE).nodes("If")[0].subgraphs[1]
    with pytest.raises(ModelError, match="defined twice"):
        inner.rename(inner.value("s"), "x")


def test_unique_names_avoid_every_level() -> None:
    graph = parse(CAPTURE)
    inner = graph.nodes("If")[0].subgraphs[0]
    assert graph.unique_name("free") == "free"
    assert {graph.unique_name("q"), graph.unique_name("a"), inner.unique_name("a")}.isdisjoint(
        {"q", "a"}
    )
    made = [graph.add_constant("w", np.float32(i)).name for i in range(3)]
    assert len(set(made)) == 3
    assert graph.add_node("Neg", [graph.value("a")], name="q").outputs[0].name != "q"


def test_a_graph_built_by_hand_becomes_an_inner_graph() -> None:
    graph = parse("g (float[3] x, bool c) => (float[3] y) { a = Neg(x)  y = Identity(a) }")
    branches = {}
    for key, op in (("then_branch", "Abs"), ("else_branch", "Relu")):
        inner = ir.Graph(key)
        node = inner.add_node(op, [graph.value("a")], [f"{op}_out"])
        inner.set_outputs(node.outputs)
        node.outputs[0].dtype = DType.FLOAT
        branches[key] = inner
    node = graph.add_node("If", [graph.value("c")], attributes=branches)
    assert inner.parent is graph
    assert graph.unique_name("Abs_out") != "Abs_out"
    graph.replace_uses(graph.value("y"), node.outputs[0])
    graph.remove(graph.nodes("Identity")[0])
    np.testing.assert_array_equal(_run(graph, x=X, c=np.array(True)), np.abs(X))


def test_remove_takes_the_values_and_the_uses_of_inner_graphs_away() -> None:
    graph = parse(CAPTURE)
    node = graph.nodes("If")[0]
    graph.set_outputs([graph.value("b")])
    graph.remove(node)
    assert graph.find("y") is None
    assert graph.value("a").uses == ()
    assert graph.value("x").consumers == tuple(graph.nodes("Neg", "Abs"))
    graph.remove(graph.nodes("Neg")[0])
    ir.verify(graph)
    weight = graph.add_constant("w", np.float32(1))
    graph.remove_value(weight)
    assert graph.find("w") is None
    assert graph.initializers == ()


# -- order ---------------------------------------------------------------------------------


def test_sort_is_stable_and_puts_producers_first() -> None:
    graph = parse("""g (float[3] x) => (float[3] y)
        { a = Neg(x)  b = Abs(x)  c = Relu(x)  y = Sum(a, b, c) }""")
    order = graph.nodes()
    graph.sort()
    assert graph.nodes() == order
    late = graph.add_node("Sign", [graph.value("x")])
    order[1].set_input(0, late.outputs[0])
    graph.sort()
    assert [n.op for n in graph.nodes()] == ["Neg", "Sign", "Abs", "Relu", "Sum"]
    ir.verify(graph)


def test_sort_follows_what_inner_graphs_capture() -> None:
    graph = parse(CAPTURE)
    neg, absolute, branch = graph.nodes()
    late = graph.add_node("Sign", [graph.value("x")])
    graph.replace_uses(graph.value("a"), late.outputs[0])
    graph.sort()
    assert graph.nodes() == [neg, absolute, late, branch]


def test_a_cycle_is_named_in_the_order_of_the_data() -> None:
    graph = parse("g (float[3] x) => (float[3] y) { a = Neg(x)  b = Abs(a)  y = Relu(b) }")
    neg, absolute, relu = graph.nodes()
    for node, name in zip(graph.nodes(), ["n", "m", ""], strict=True):
        node.name = name
    neg.set_input(0, graph.value("y"))
    with pytest.raises(ModelError, match="cycle: `n` → `m` → `Relu` → `n`") as raised:
        graph.sort()
    assert raised.value.code == "G205"
    assert raised.value.hint
    with pytest.raises(ModelError, match="cycle"):
        ir.verify(graph)
    assert (absolute.op, relu.op) == ("Abs", "Relu")


def test_a_node_whose_inner_graph_reads_its_own_output_is_a_cycle() -> None:
    graph = parse(CAPTURE)
    graph.replace_uses(graph.value("a"), graph.value("y"))
    with pytest.raises(ModelError, match="cycle: `If` → `If`"):
        graph.sort()


# -- copies and parts ----------------------------------------------------------------------


def test_a_copy_is_equal_and_independent() -> None:
    graph = parse(CAPTURE)
    graph.metadata["k"] = "v"
    copy = graph.copy()
    before = ir.to_bytes(graph)
    assert ir.to_bytes(copy) == before
    assert {*copy.values()}.isdisjoint(graph.values())
    assert {*copy.walk()}.isdisjoint(graph.walk())
    copy.replace_uses(copy.value("a"), copy.value("b"))
    copy.rename(copy.value("x"), "renamed")
    copy.nodes("Abs")[0].set_attribute("new", 1)
    copy.nodes("If")[0].subgraphs[1].add_node("Neg", [copy.value("b")])
    copy.add_constant("w", np.float32(1))
    copy.metadata["k"], copy.opsets["d"] = "changed", 1
    assert ir.to_bytes(graph) == before


def test_the_copy_of_an_inner_graph_still_sees_what_is_around_it() -> None:
    graph = parse(CAPTURE)
    inner = graph.nodes("If")[0].subgraphs[0].copy()
    assert inner.opset == 17
    assert inner.nodes()[0].subgraphs[0].nodes()[0].inputs == (graph.value("a"),)


def test_assign_makes_a_graph_what_another_was() -> None:
    graph, other = parse(CHAIN), parse(CAPTURE)
    expected = ir.to_bytes(other)
    graph.assign(other)
    assert ir.to_bytes(graph) == expected
    assert all(n.graph is graph for n in graph.nodes())
    assert all(g.root is graph for n in graph.walk() for g in n.subgraphs)
    assert graph.value("a").graph is graph


def test_extract_cuts_between_the_named_tensors() -> None:
    graph = parse(CHAIN)
    part = ir.extract(graph, ["a"], ["b"])
    assert [n.op for n in part.nodes()] == ["Abs"]
    assert ([v.name for v in part.inputs], _names(part)) == (["a"], ["b"])
    assert len(graph.nodes()) == 3
    ir.infer_shapes(graph)
    part = ir.extract(graph, ["a"], ["b"])
    np.testing.assert_array_equal(_run(part, a=-X[None]), np.abs(X)[None])


def test_extract_keeps_inputs_that_are_still_needed_and_captures() -> None:
    graph = parse(CAPTURE)
    ir.infer_shapes(graph)
    part = ir.extract(graph, ["a"], ["y"])
    assert [v.name for v in part.inputs] == ["x", "c", "a"]
    assert [n.op for n in part.nodes()] == ["If"]
    np.testing.assert_array_equal(_run(part, a=X, x=X, c=np.array(False)), 2 * X)


def test_extract_cuts_one_of_several_outputs_off_its_node() -> None:
    graph = parse("""g (float[4] x) => (float[4] y) <int64[2] s = {2, 2}>
        { a, b = Split(x, s)  c = Neg(b)  y = Concat <axis = 0> (a, c) }""")
    ir.infer_shapes(graph)
    part = ir.extract(graph, ["b"], ["y"])
    assert [v.name for v in part.inputs] == ["x", "b"]
    found = _run(part, x=np.arange(4, dtype=np.float32), b=np.full(2, 9, np.float32))
    np.testing.assert_array_equal(found, [0, 1, -9, -9])


def test_extract_makes_a_constant_an_input_where_it_is_cut() -> None:
    graph = parse("""g (float[3] x) => (float[3] y) <float[3] w = {1, 2, 3}>
        { a = Add(x, w)  y = Neg(a) }""")
    part = ir.extract(graph, ["w"], ["a"])
    assert [v.name for v in part.inputs] == ["x", "w"]
    assert part.initializers == ()
    assert ir.extract(graph, ["a"], ["y"]).initializers == ()


def test_extract_refuses_a_name_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="`nope`"):
        ir.extract(parse(CHAIN), [], ["nope"])


# -- hashes --------------------------------------------------------------------------------


def _edit_op(graph: ir.Graph) -> None:
    graph.nodes("Neg")[0].op = "Sign"


def _edit_domain(graph: ir.Graph) -> None:
    graph.nodes("Neg")[0].domain = "d"


def _edit_attribute(graph: ir.Graph) -> None:
    graph.nodes("Neg")[0].set_attribute("alpha", 0.5)


def _edit_wiring(graph: ir.Graph) -> None:
    graph.nodes("Abs")[0].set_input(0, graph.value("a"))


def _edit_weight(graph: ir.Graph) -> None:
    graph.set_tensor(graph.value("w"), ir.Tensor.from_array(np.array([1, 2, 4], np.float32)))


def _edit_weight_type(graph: ir.Graph) -> None:
    values = np.array([1, 2, 3], np.float32).view(np.int32)
    graph.set_tensor(graph.value("w"), ir.Tensor.from_array(values))


def _edit_weight_shape(graph: ir.Graph) -> None:
    graph.set_tensor(graph.value("w"), ir.Tensor.from_array(np.array([[1, 2, 3]], np.float32)))


def _edit_opset(graph: ir.Graph) -> None:
    graph.opsets[""] = 18


def _edit_input(graph: ir.Graph) -> None:
    graph.value("x").shape = (4,)


def _edit_outputs(graph: ir.Graph) -> None:
    graph.set_outputs([graph.value("b"), *graph.outputs])


def _edit_name(graph: ir.Graph) -> None:
    graph.rename(graph.value("a"), "z")


def _edit_inner(graph: ir.Graph) -> None:
    graph.nodes("If")[0].subgraphs[1].nodes()[0].op = "Mul"


HASHED = CAPTURE.replace("=> (float[3] y) {", "=> (float[3] y) <float[3] w = {1, 2, 3}> {")
EDITS = (
    *(_edit_op, _edit_domain, _edit_attribute, _edit_wiring, _edit_weight, _edit_weight_type),
    *(_edit_weight_shape, _edit_opset, _edit_input, _edit_outputs, _edit_name, _edit_inner),
)


@pytest.mark.parametrize("edit", EDITS, ids=lambda f: f.__name__.removeprefix("_edit_"))
def test_the_hash_sees_what_matters(edit: object) -> None:
    graph = parse(HASHED)
    before = ir.structural_hash(graph)
    assert ir.structural_hash(graph.copy()) == before
    edit(graph)
    assert ir.structural_hash(graph) != before


def test_the_hash_does_not_see_what_follows_from_the_rest_or_says_nothing() -> None:
    graph = parse(HASHED)
    before = ir.structural_hash(graph)
    ir.infer_shapes(graph)
    graph.metadata["graphopt.version"] = "1"
    stored = graph.value("w").array()
    graph.set_tensor(graph.value("w"), ir.Tensor.from_array(stored))
    assert ir.structural_hash(graph) == before


def test_the_hash_sees_sparse_constants_and_function_bodies() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "l" : 1]>
        g (float[3] x) => (float[3] y) {{ y = l.F(x) }}
        <domain: "l", opset_import: ["" : 17]> F (a) => (b) {{ b = {}(a) }}"""
    neg, absolute = (ir.parse(text.format(op)) for op in ("Neg", "Abs"))
    assert ir.structural_hash(neg) != ir.structural_hash(absolute)
    assert [f.operators for f in neg.functions] == [("Neg",)]
    assert [(f.domain, f.name) for f in neg.functions] == [("l", "F")]
    model = onnx.ModelProto.FromString(ir.to_bytes(neg))
    indices = onnx.numpy_helper.from_array(np.array([1]))
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "s")
    model.graph.sparse_initializer.append(h.make_sparse_tensor(values, indices, [3]))
    hashed = ir.structural_hash(ir.from_bytes(model.SerializeToString()))
    assert hashed != ir.structural_hash(neg)
    model.graph.sparse_initializer[0].values.raw_data = b"\0\0\0@"
    assert ir.structural_hash(ir.from_bytes(model.SerializeToString())) != hashed


def test_reprs_name_what_they_are() -> None:
    graph = parse("g (float[N, 3] x) => (float[N, 3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }")
    assert repr(graph) == "Graph('g', 1 nodes)"
    assert repr(graph.nodes()[0]) == "Node(Add '')"
    assert repr(graph.value("x")) == "Value(x: float['N', 3])"
    assert repr(graph.value("w").tensor) == "Tensor(FLOAT [3])"
