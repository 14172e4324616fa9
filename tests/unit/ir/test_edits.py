"""Small edits that passes share: dropping constants, copying nodes, naming them."""

from __future__ import annotations

from graphopt.testing import graph

TEXT = """g (float[2] x) => (float[2] y, float[2] shown)
<float[2] w = {1, 2}, float[2] unread = {3, 4}, float[2] shown = {5, 6}> {
  y = Add (x, w) }"""


def test_only_constants_that_nobody_reads_are_dropped() -> None:
    model = graph(TEXT)
    for name in ("w", "unread", "shown", "x", "y"):
        model.drop_constant(model.value(name))
    model.drop_constant(None)
    assert {v.name for v in model.initializers} == {"w", "shown"}
    assert [v.name for v in model.inputs] == ["x"]


def test_constants_of_another_level_stay() -> None:
    model, other = graph(TEXT), graph(TEXT)
    model.drop_constant(other.value("unread"))
    assert model.find("unread") is not None
    assert other.find("unread") is not None


def test_a_copy_computes_the_same_under_another_name() -> None:
    model = graph(
        "g (float[2, 3] x) => (float[3, 2] y) { y = Transpose <perm = [1, 0]> (x) }",
    )
    node = model.nodes("Transpose")[0]
    copy = model.add_copy(node, "second")
    assert (copy.op, copy.name, copy.inputs) == ("Transpose", "second", node.inputs)
    assert copy.attribute("perm") == [1, 0]
    assert copy.outputs[0] is not node.outputs[0]
    assert copy.outputs[0].name != "y"
    assert (copy.outputs[0].shape, copy.outputs[0].dtype) == ((3, 2), node.outputs[0].dtype)


def test_a_node_is_called_by_its_name_or_its_first_output() -> None:
    node = graph(TEXT).nodes("Add")[0]
    node.name = ""
    assert node.label == "y"
    node.name = "sum"
    assert node.label == "sum"
