"""The pass, taken from the registry as graphopt itself takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from graphopt import ir
from graphopt.registry import Registry
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.passes.base import Context, Pass

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
model (float[N, 4] x) => (float[N, 4] y) {
    a = Relu (x)
    [first] b = Dropout (a)
    c = Abs (b)
    y = Dropout (c)
}
"""
MASKED = """
<ir_version: 8, opset_import: ["" : 17]>
model (float[N, 4] x) => (float[N, 4] y, bool[N, 4] mask) {
    y, mask = Dropout (x)
}
"""
TRAINING = """
<ir_version: 8, opset_import: ["" : 17]>
model (float[N, 4] x) => (float[N, 4] y) <float ratio = {{0.5}}, bool training = {{{}}}> {{
    a = Dropout (x, ratio, training)
    y = Relu (a)
}}
"""


class Notes:
    """The one part of a context that this pass uses."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def explain(self, node: ir.Node, reason: str) -> None:
        assert node.op == "Dropout"
        self.reasons.append(reason)


@pytest.fixture
def pass_class() -> type[Pass]:
    registry = Registry(plugins=["example"])
    assert registry.provider_of("passes", "eliminate-dropout") == "example"
    return registry.pass_class("eliminate-dropout")


def run(transformation: Pass, graph: ir.Graph) -> tuple[bool, list[str]]:
    notes = Notes()
    result = transformation.run(graph, cast("Context", notes))
    ir.verify(graph)
    return result.modified, notes.reasons


def test_removes_every_dropout_and_keeps_the_output_name(pass_class: type[Pass]) -> None:
    graph = ir.parse(MODEL)
    modified, reasons = run(pass_class(), graph)
    assert modified
    assert reasons == ["removed: identity at inference"] * 2
    assert [node.op for node in graph.nodes()] == ["Relu", "Abs"]
    assert [value.name for value in graph.outputs] == ["y"]


def test_a_second_run_changes_nothing(pass_class: type[Pass]) -> None:
    graph = ir.parse(MODEL)
    run(pass_class(), graph)
    before = ir.structural_hash(graph)
    assert run(pass_class(), graph) == (False, [])
    assert ir.structural_hash(graph) == before


def test_leaves_nodes_that_are_named(pass_class: type[Pass]) -> None:
    graph = ir.parse(MODEL)
    modified, reasons = run(pass_class(keep=("first",)), graph)
    assert modified
    assert reasons == ["named in `keep`", "removed: identity at inference"]
    assert [node.name for node in graph.nodes("Dropout")] == ["first"]


def test_leaves_a_node_whose_mask_is_used(pass_class: type[Pass]) -> None:
    graph = ir.parse(MASKED)
    assert run(pass_class(), graph) == (False, ["its mask is used"])


@pytest.mark.parametrize(("training", "modified"), [("0", True), ("1", False)])
def test_leaves_a_node_in_training_mode(
    pass_class: type[Pass], training: str, modified: bool
) -> None:
    graph = ir.parse(TRAINING.format(training))
    assert run(pass_class(), graph)[0] is modified


def test_keeps_its_promise_to_the_registry(pass_class: type[Pass]) -> None:
    assert pass_class.effect is Effect.EXACT
    status = {plugin.name: plugin for plugin in Registry().plugins(load=True)}["example"]
    assert (status.status, status.distribution) == ("loaded", "graphopt-example")
    assert status.provides == ("pass eliminate-dropout",)
