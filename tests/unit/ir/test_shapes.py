"""Shape inference: symbols stay, bound symbols become sizes, what nobody knows stays unknown."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper as h

from graphopt import ir
from graphopt.testing import graph as parse
from graphopt.types import DType

CONVOLUTION = """g (float[N, 3, H, 8] x) => (float[N, K] y)
    <float[4, 3, 3, 3] w, int64[2] s = {0, -1}>
    { a = Conv <pads = [1, 1, 1, 1], strides = [1, 2]> (x, w)
      b = Relu(a)  c = GlobalAveragePool(b)  y = Reshape(c, s) }"""


def test_symbols_stay_symbols() -> None:
    graph = parse(CONVOLUTION)
    assert graph.value("a").shape is None
    ir.infer_shapes(graph)
    assert graph.value("x").shape == ("N", 3, "H", 8)
    assert graph.value("b").shape[:2] == ("N", 4)
    assert graph.value("b").shape[3] == 4
    assert graph.value("b").dtype is DType.FLOAT
    assert not isinstance(graph.value("b").shape[2], int)


def test_bound_symbols_become_sizes_everywhere() -> None:
    graph = parse(CONVOLUTION)
    ir.infer_shapes(graph)
    ir.infer_shapes(graph, {"N": 2, "H": 6})
    assert graph.value("x").shape == (2, 3, 6, 8)
    assert graph.value("b").shape == (2, 4, 6, 4)
    assert graph.value("y").shape == (2, 4)


def test_shapes_that_are_computed_are_followed() -> None:
    graph = parse("""g (float[2, 3, 4] x) => (float[P, Q] y)
        <int64[1] z = {0}, int64[1] o = {1}, int64[1] m = {-1}>
        { s = Shape(x)  b = Slice(s, z, o)  t = Concat <axis = 0> (b, m)  y = Reshape(x, t) }""")
    ir.infer_shapes(graph)
    assert graph.value("y").shape == (2, 12)


def test_large_constants_count_by_their_shape_alone() -> None:
    graph = parse("g (float[N, 64] x) => (float[N, M] y) { a = Neg(x)  y = Identity(a) }")
    weight = graph.add_constant("w", np.zeros((64, 50), np.float32))
    node = graph.add_node("MatMul", [graph.value("a"), weight])
    ir.infer_shapes(graph)
    assert node.outputs[0].shape == ("N", 50)


def test_large_constants_around_and_inside_inner_graphs_are_known() -> None:
    graph = parse("""g (float[2, 64] x, bool c) => (float[2, P] y) {
        y = If (c) <then_branch = t () => (float[2, Q] p) { p = MatMul(x, x) },
                    else_branch = e () => (float[2, R] q) { q = MatMul(x, x) }>
    }""")
    for owner, inner in zip((graph, None), graph.nodes("If")[0].subgraphs, strict=True):
        weight = (owner or inner).add_constant("w", np.zeros((64, 50), np.float32))
        inner.nodes()[0].set_input(1, weight)
    ir.infer_shapes(graph)
    assert graph.value("y").shape == (2, 50)


def test_types_of_custom_operators_are_believed_and_those_of_known_ones_passed_on() -> None:
    model = h.make_model(
        h.make_graph(
            [
                h.make_node("Secret", ["x"], ["a"], domain="com.example"),
                h.make_node("Relu", ["a"], ["b"]),
                h.make_node("QuickGelu", ["b"], ["y"], domain="com.microsoft"),
            ],
            "g",
            [h.make_tensor_value_info("x", 1, ["N", 4])],
            [onnx.ValueInfoProto(name="y")],
            value_info=[h.make_tensor_value_info("a", 1, ["N", 9])],
        ),
        opset_imports=[h.make_opsetid("", 17)],
    )
    graph = ir.from_bytes(model.SerializeToString())
    ir.infer_shapes(graph)
    assert graph.value("b").shape == ("N", 9)
    assert (graph.value("y").dtype, graph.value("y").shape) == (DType.FLOAT, ("N", 9))


def test_what_cannot_be_known_stays_unknown() -> None:
    graph = parse(
        """g (float[N] x) => (int64[P, Q] y)
        { a = NonZero(x)  y = Identity(a)  b = Nothing.Known(x) }""".replace("Nothing.Known", "d.F")
    )
    graph.opsets["d"] = 1
    ir.infer_shapes(graph)
    assert graph.value("a").dtype is DType.INT64
    assert not isinstance(graph.value("a").shape[1], int)
    assert (graph.value("b").dtype, graph.value("b").shape) == (None, None)


def test_a_node_that_breaks_the_rules_is_told_of_and_the_others_go_on() -> None:
    graph = parse("""g (float[2, 3] x) => (float[2, 3] y, int64[P] z)
        { y = Neg(x)  s = Det(x)
          z = Shape(x)  b = Neg(y) }""")
    notes = ir.infer_shapes(graph)
    assert graph.value("b").shape == (2, 3)
    assert [n for n in notes if "Det" in n]
