"""Each way in which a graph can be illegal is found, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper as h

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[3] x, int64[3] k, bool c) => (float[3] y) <float[3] w = {1, 2, 3}> {
    [first] a = Neg(x)
    [second] b = Add(a, w)
    [third] y = If (c) <then_branch = t () => (float[3] p) { [inner] p = Relu(b) },
                        else_branch = e () => (float[3] q) { q = Identity(x) }>
}"""


def _graph() -> ir.Graph:
    graph = ir.parse(TEXT)
    ir.verify(graph)
    return graph


def _problem(graph: ir.Graph) -> str:
    with pytest.raises(ModelError) as raised:
        ir.verify(graph)
    error = raised.value
    assert (error.code, error.where) == ("G205", "g")
    assert error.hint
    return error.message


def _no_outputs(graph: ir.Graph) -> None:
    graph.set_outputs([])


def _same_output_twice(graph: ir.Graph) -> None:
    graph.set_outputs([*graph.outputs, *graph.outputs])


def _output_without_producer(graph: ir.Graph) -> None:
    graph.set_outputs([graph.new_value("orphan")])


def _removed_producer(graph: ir.Graph) -> None:
    graph.remove(graph.nodes("Neg")[0])


def _removed_capture(graph: ir.Graph) -> None:
    add = graph.nodes("Add")[0]
    graph.set_outputs([graph.value("x")])
    graph.nodes("If")[0].subgraphs[0].nodes()[0].set_input(0, graph.value("b"))
    graph.remove(add)


def _wrong_order(graph: ir.Graph) -> None:
    node = graph.add_node("Sign", [graph.value("x")], name="late")
    graph.nodes("Neg")[0].set_input(0, node.outputs[0])


def _capture_before_its_producer(graph: ir.Graph) -> None:
    node = graph.add_node("Sign", [graph.value("x")], name="late")
    graph.nodes("If")[0].subgraphs[0].nodes()[0].set_input(0, node.outputs[0])


def _cycle(graph: ir.Graph) -> None:
    graph.nodes("Neg")[0].set_input(0, graph.value("b"))


def _unknown_operator(graph: ir.Graph) -> None:
    graph.nodes("Neg")[0].op = "Nag"


def _operator_of_a_later_opset(graph: ir.Graph) -> None:
    graph.nodes("Neg")[0].op = "Gelu"


def _too_few_inputs(graph: ir.Graph) -> None:
    graph.nodes("Add")[0].set_inputs([graph.value("a")])


def _too_many_inputs(graph: ir.Graph) -> None:
    graph.nodes("Neg")[0].set_input(1, graph.value("w"))


def _too_many_outputs(graph: ir.Graph) -> None:
    node = graph.add_node("Neg", [graph.value("x")], 2, name="two")
    assert len(node.outputs) == 2


def _missing_attribute(graph: ir.Graph) -> None:
    graph.add_node("Concat", [graph.value("x"), graph.value("w")], name="joined")


def _inner_operator(graph: ir.Graph) -> None:
    graph.nodes("If")[0].subgraphs[0].nodes()[0].op = "Nag"


def _mixed_types(graph: ir.Graph) -> None:
    graph.add_node("Add", [graph.value("x"), graph.value("k")], name="mixed")


def _type_not_taken(graph: ir.Graph) -> None:
    graph.add_node("Sin", [graph.value("k")], name="sine")


def _type_of_a_fixed_place(graph: ir.Graph) -> None:
    graph.add_node("Reshape", [graph.value("x"), graph.value("w")], name="shaped")


def _type_of_an_output(graph: ir.Graph) -> None:
    graph.add_node("Neg", [graph.value("k")], name="typed").outputs[0].dtype = DType.FLOAT


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_outputs, "the graph has no outputs"),
        (_same_output_twice, "output `y` is listed 2 times"),
        (_output_without_producer, "output `orphan` is produced by no node"),
        (_removed_producer, "`second` reads `a`, which nobody defines"),
        (_removed_capture, "`inner` reads `b`, which nobody defines"),
        (_wrong_order, "`first` comes before `late`, whose output it reads"),
        (_capture_before_its_producer, "`third` comes before `late`, whose output it reads"),
        (_cycle, "the graph has a cycle: `first` → `second` → `first`"),
        (_unknown_operator, "`first`: opset 17 has no operator `Nag`"),
        (_operator_of_a_later_opset, "`first`: opset 17 has no operator `Gelu`"),
        (_too_few_inputs, "`second`: Add takes 2 to 2 inputs, not 1"),
        (_too_many_inputs, "`first`: Neg takes 1 to 1 inputs, not 2"),
        (_too_many_outputs, "`two`: Neg has 1 to 1 outputs, not 2"),
        (_missing_attribute, "`joined`: Concat needs the attribute `axis`"),
        (_inner_operator, "`inner`: opset 17 has no operator `Nag`"),
        (_mixed_types, "`mixed`: Add needs one element type, and `x` is float, `k` int64"),
        (_type_not_taken, "`sine`: Sin does not take int64 (`k`)"),
        (_type_of_a_fixed_place, "`shaped`: Reshape does not take float (`w`)"),
        (
            _type_of_an_output,
            "`typed`: Neg needs one element type, and `k` is int64, `typed_out` float",
        ),
    ],
    ids=lambda given: given.__name__.strip("_") if callable(given) else "",
)
def test_an_illegal_graph_is_named(damage: Callable[[ir.Graph], None], message: str) -> None:
    graph = _graph()
    damage(graph)
    if damage is _cycle:
        with pytest.raises(ModelError) as raised:
            ir.verify(graph)
        assert raised.value.message == message
    else:
        assert _problem(graph) == message


def _names_twice(*where: str) -> bytes:
    model = onnx.ModelProto.FromString(ir.to_bytes(_graph()))
    places = {
        "input": lambda: model.graph.input.append(model.graph.input[0]),
        "initializer": lambda: model.graph.initializer.append(model.graph.initializer[0]),
        "node": lambda: model.graph.node.append(model.graph.node[0]),
        "node of an input": lambda: model.graph.node.append(h.make_node("Neg", ["w"], ["x"])),
        "node of a constant": lambda: model.graph.node.append(h.make_node("Neg", ["x"], ["w"])),
    }
    for place in where:
        places[place]()
    return model.SerializeToString()


@pytest.mark.parametrize(
    "place", ["input", "initializer", "node", "node of an input", "node of a constant"]
)
def test_a_name_defined_twice_is_refused_when_read(place: str) -> None:
    with pytest.raises(ModelError, match="is defined twice") as raised:
        ir.from_bytes(_names_twice(place))
    assert raised.value.code == "G205"


def test_an_output_without_a_name_is_refused_when_read() -> None:
    model = onnx.ModelProto.FromString(ir.to_bytes(_graph()))
    model.graph.output[0].name = ""
    with pytest.raises(ModelError, match="no name"):
        ir.from_bytes(model.SerializeToString())


def test_what_others_define_is_theirs_to_check() -> None:
    graph = _graph()
    graph.add_node("Anything", [graph.value("k")], 3, domain="com.example")
    graph.opsets["com.example"] = 1
    graph.add_node("FusedConv", [graph.value("x")], domain="com.microsoft")
    ir.verify(graph)
    graph.opsets[""] = ir.newest_opset() + 1
    graph.add_node("FromTheFuture", [graph.value("k")])
    ir.verify(graph)


def test_a_local_function_may_have_any_signature() -> None:
    ir.verify(
        ir.parse("""<ir_version: 8, opset_import: ["" : 17, "l" : 1]>
        g (float[3] x) => (float[3] y) { y = l.Add(x) }
        <domain: "l", opset_import: ["" : 17]> Add (a) => (b) { b = Neg(a) }""")
    )


def test_a_repeated_place_of_one_type_is_held_to_it_and_a_free_one_is_not() -> None:
    graph = _graph()
    node = graph.add_node("Sum", [graph.value(n) for n in ("x", "w", "k")], name="sum")
    assert _problem(graph).startswith("`sum`: Sum does not take int64 (`k`)")
    graph.remove(node)
    body = ir.parse("""<ir_version: 8, opset_import: ["" : 17]>
        body (int64 i, bool on, float[3] u, int64[3] v) => (bool go, float[3] p, int64[3] q)
        { go = Identity(on)  p = Neg(u)  q = Neg(v) }""")
    trips = graph.add_constant("trips", np.array(2))
    carried = [graph.value("x"), graph.value("k")]
    graph.add_node("Loop", [trips, None, *carried], 2, {"body": body})
    ir.verify(graph)
