"""The engine, with rules for a handful of operators that say no more than they must."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.coupling import Axis, Coupling, CouplingRule, Links, couple
from graphopt.testing import graph


def _relu(node: ir.Node, links: Links) -> None:
    for position in range(len(node.outputs[0].shape or ())):
        links.tie(Axis(_source(node), position), Axis(node.outputs[0], position))


def _conv(node: ir.Node, links: Links) -> None:
    weight, made = _source(node, 1), node.outputs[0]
    links.consume(node, Axis(_source(node), 1), Axis(weight, 1))
    links.produce(node, Axis(made, 1), Axis(weight, 0))


def _grouped(node: ir.Node, links: Links) -> None:
    blocks = node.attribute("group", 1)
    if blocks == 1:
        _conv(node, links)
        return
    links.consume(node, Axis(_source(node), 1))
    links.balance(Axis(_source(node), 1), blocks, node)
    links.balance(Axis(node.outputs[0], 1), blocks, node)
    links.produce(node, Axis(node.outputs[0], 1), Axis(_source(node, 1), 0))


def _split(node: ir.Node, links: Links) -> None:
    source, made = _source(node), node.outputs[0]
    links.tie(Axis(source, 0), Axis(made, 0))
    links.multiply(Axis(source, 1), [Axis(made, 1), Axis(made, 2)], node)
    links.tie(Axis(source, 2), Axis(made, 3))


def _merge(node: ir.Node, links: Links) -> None:
    source, made = _source(node), node.outputs[0]
    links.tie(Axis(source, 0), Axis(made, 0))
    links.multiply(Axis(made, 1), [Axis(source, 1), Axis(source, 2)], node)
    links.tie(Axis(source, 3), Axis(made, 2))


def _reshape(node: ir.Node, links: Links) -> None:
    (_split if len(node.outputs[0].shape or ()) == 4 else _merge)(node, links)


def _transpose(node: ir.Node, links: Links) -> None:
    for position, origin in enumerate(node.attribute("perm")):
        links.tie(Axis(_source(node), origin), Axis(node.outputs[0], position))


def _add(node: ir.Node, links: Links) -> None:
    for value in node.inputs:
        assert value is not None
        for position in range(len(value.shape or ())):
            links.tie(Axis(value, position), Axis(node.outputs[0], position))


def _source(node: ir.Node, index: int = 0) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


RULES = {
    rule.name: rule
    for rule in (
        CouplingRule("Relu", _relu),
        CouplingRule("Conv", _grouped),
        CouplingRule("Reshape", _reshape),
        CouplingRule("Transpose", _transpose),
        CouplingRule("Add", _add),
    )
}


def coupled(text: str) -> tuple[ir.Graph, Coupling]:
    made = graph(text)
    ir.infer_shapes(made)
    return made, couple(made, RULES)


CHAIN = """
g (float[1,3,4] x) => (float[1,2,4] y)
<float[6,3,1] first, float[2,6,1] second> {
  a = Conv(x, first)
  b = Relu(a)
  y = Conv(b, second)
}
"""


def test_hidden_channels_are_one_group_with_its_weights() -> None:
    made, found = coupled(CHAIN)
    (group,) = found.groups
    assert group.name == "first"
    assert group.size == 6
    assert {axis.label for axis in group.axes} == {
        *("`a` axis 1", "`b` axis 1", "`first` axis 0", "`second` axis 1")
    }
    assert [c.node.outputs[0].name for c in group.consumers] == ["y"]
    assert [p.weight.value.name for p in group.producers] == ["first"]
    keep = np.array([True, False, True, True, True, True])
    cut = found.cut({"first": keep})
    kept = cut.kept(made.value("second"), 1)
    assert kept is not None
    assert kept.tolist() == [0, 2, 3, 4, 5]
    assert cut.kept(made.value("second"), 0) is None


def test_borders_stay_and_say_why() -> None:
    made, found = coupled(CHAIN)
    assert [why for _, why in found.why(made.value("first"), 1)] == ["it is an input of the model"]
    assert [why for _, why in found.why(made.value("second"), 0)] == [
        "it is an output of the model"
    ]


def test_an_operator_without_a_rule_freezes_what_it_touches() -> None:
    made, found = coupled(CHAIN.replace("Relu", "Sin"))
    assert not found.groups
    ((_, why),) = found.why(made.value("first"), 0)
    assert why == "there is no coupling rule for Sin (`b`)"


def test_a_residual_stream_is_one_group_over_all_its_layers() -> None:
    _, found = coupled("""
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[6,3,1] stem, float[5,6,1] down, float[6,5,1] up, float[2,6,1] head> {
      a = Conv(x, stem)
      b = Conv(a, down)
      c = Conv(b, up)
      d = Add(a, c)
      y = Conv(d, head)
    }
    """)
    assert {group.name: group.size for group in found.groups} == {"down": 5, "stem": 6}
    stream = found.groups[1]
    assert {p.weight.value.name for p in stream.producers} == {"stem", "up"}
    assert {c.weight.value.name for c in stream.consumers if c.weight} == {"down", "head"}


SHUFFLE = """
g (float[1,3,4] x) => (float[1,2,4] y)
<float[8,3,1] first, float[8,4,1] second, float[2,8,1] third,
 int64[4] split = {1, 2, 4, 4}, int64[3] merge = {1, 8, 4}> {
  a = Conv(x, first)
  b = Conv<group = 2>(a, second)
  c = Reshape(b, split)
  d = Transpose<perm = [0, 2, 1, 3]>(c)
  e = Reshape(d, merge)
  y = Conv(e, third)
}
"""


def test_a_shuffle_removes_the_same_channel_of_every_group() -> None:
    made, found = coupled(SHUFFLE)
    shuffled = next(group for group in found.groups if group.name == "second")
    assert shuffled.size == 4
    assert shuffled.units[Axis(made.value("b"), 1)].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert shuffled.units[Axis(made.value("e"), 1)].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert shuffled.step == 1


def test_a_grouped_convolution_loses_as_many_in_every_group() -> None:
    _, found = coupled(SHUFFLE)
    entering = next(group for group in found.groups if group.name == "first")
    assert entering.step == 2
    assert entering.cells.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    uneven = np.array([False] + [True] * 7)
    with pytest.raises(ValueError, match="must lose the same number"):
        found.cut({"first": uneven})


def test_what_nobody_sums_over_stays() -> None:
    made, found = coupled("""
    g (float[1,3,4] x) => (float[1,2,4] y) <float[6,3,1] first, float[2,3,1] second> {
      a = Conv(x, first)
      y = Conv(x, second)
    }
    """)
    assert not found.groups
    assert [why for _, why in found.why(made.value("first"), 0)] == ["no operator sums over it"]


def test_groups_do_not_depend_on_the_order_of_nodes() -> None:
    made = graph("""
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[6,3,1] one, float[6,3,1] other, float[2,6,1] last> {
      a = Conv(x, one)
      b = Conv(x, other)
      c = Add(a, b)
      y = Conv(c, last)
    }
    """)
    turned = graph("""
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[6,3,1] one, float[6,3,1] other, float[2,6,1] last> {
      b = Conv(x, other)
      a = Conv(x, one)
      c = Add(a, b)
      y = Conv(c, last)
    }
    """)
    for model in (made, turned):
        ir.infer_shapes(model)
    first, second = couple(made, RULES), couple(turned, RULES)
    assert [(g.name, g.size) for g in first.groups] == [(g.name, g.size) for g in second.groups]
    for one, other in zip(first.groups, second.groups, strict=True):
        assert [a.label for a in one.axes] == [a.label for a in other.axes]
        assert [u.tolist() for u in one.units.values()] == [
            u.tolist() for u in other.units.values()
        ]


@pytest.mark.parametrize("keep", [np.zeros(6, dtype=bool), np.ones(5, dtype=bool), np.ones(6)])
def test_a_mask_that_is_none_is_refused(keep: np.ndarray) -> None:
    _, found = coupled(CHAIN)
    with pytest.raises(ValueError, match="first"):
        found.cut({"first": keep})
