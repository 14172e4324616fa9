"""The textual form: stable, one line per thing, and the same for equal graphs; and ONNX's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper as h

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.testing import graph as parse
from graphopt.types import DType

GOLDEN = Path(__file__).parent / "golden"


def _everything() -> ir.Graph:
    """A graph with one of each thing that has a line, or part of a line, of its own."""
    graph = ir.parse("""<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    everything (float[N, 3] x, bool c, float[3] d) => (float[N, 3] y, float z)
    <float[3] d = {1, 2, 3}, float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, int64 k = {-1}> {
        [product] a = MatMul(x, w)
        k2 = Constant <value = float[2] {0.5, 1}> ()
        b = Clip(a, , d)
        y = If (c) <
            then_branch = then () => (float[N, 3] p) { p = local.F <alpha: float = 0.5> (b) },
            else_branch = else () => (float[N, 3] q) <float[1] e = {2}> { q = Add(a, e) }
        >
        m, _unused = MaxPool <kernel_shape = [1], auto_pad = "VALID"> (y)
        z = ReduceSum(x)
    }
    <domain: "local", opset_import: ["" : 17]> F <alpha> (p) => (r) { r = Neg(p) }""")
    sparse = h.make_sparse_tensor(
        onnx.numpy_helper.from_array(np.ones(1, np.float32), "s"),
        onnx.numpy_helper.from_array(np.array([1])),
        [3],
    )
    model = onnx.ModelProto.FromString(ir.to_bytes(graph))
    model.graph.sparse_initializer.append(sparse)
    graph = ir.from_bytes(model.SerializeToString())
    node = graph.add_node("Odd", [None, graph.value("s")], ["o"], domain="com.example")
    node.set_attribute("text", "two\nlines")
    graph.add_constant("i4", ir.Tensor.from_array(np.array([1, -8]), DType.INT4))
    return graph


@pytest.mark.parametrize("name", ["everything", "unknown"])
def test_the_text_of_a_graph_is_what_it_was(name: str) -> None:
    graph = {"everything": _everything, "unknown": _unknown}[name]()
    path = GOLDEN / f"{name}.txt"
    assert ir.to_text(graph) == path.read_text(encoding="utf-8")


def _unknown() -> ir.Graph:
    graph = ir.Graph("unknown")
    value = graph.new_value("x")
    graph.add_input(value)
    graph.set_outputs(graph.add_node("F", [value], domain="d").outputs)
    return graph


def test_equal_graphs_have_equal_text_and_others_have_not() -> None:
    first, second = _everything(), _everything()
    text = ir.to_text(first)
    assert ir.to_text(second) == text
    assert ir.to_text(first.copy()) == text
    second.set_tensor(second.value("w"), ir.Tensor.from_array(np.zeros((3, 3), np.float32)))
    assert ir.to_text(second) != text


def test_a_string_with_line_breaks_stays_on_its_line() -> None:
    lines = ir.to_text(_everything()).splitlines()
    assert [line for line in lines if "two\\nlines" in line]


def test_onnx_text_is_read() -> None:
    graph = ir.parse("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x) => (float[N] y) { y = Neg(x) }""")
    assert (graph.name, graph.opset, graph.ir_version) == ("g", 17, 8)
    assert ir.to_bytes(graph) == ir.to_bytes(parse("g (float[N] x) => (float[N] y) { y = Neg(x) }"))


def test_text_that_is_not_onnx_is_an_error_with_the_parsers_reason() -> None:
    with pytest.raises(ModelError, match="not ONNX text") as raised:
        ir.parse("this is prose")
    assert raised.value.code == "G202"
    assert raised.value.hint
    assert "\n" not in raised.value.message
