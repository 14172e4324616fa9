"""A rule that fails takes its own node out, with a reason that names it, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.coupling import Axis, Coupling, CouplingRule, Links, couple
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.testing import graph

if TYPE_CHECKING:
    from collections.abc import Callable

CHAIN = """
g (float[1,3,4] x) => (float[1,2,4] y)
<float[6,3,1] first, float[6,6,1] second, float[2,6,1] third> {
  a = Conv(x, first)
  [faulty] b = Relu(a)
  c = Conv(b, second)
  y = Conv(c, third)
}
"""


def source(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def raises(node: ir.Node, links: Links) -> None:
    links.tie(Axis(source(node), 1), Axis(node.outputs[0], 1))
    raise KeyError("axis")


def says_nothing(node: ir.Node, links: Links) -> None:
    raise RuntimeError


def contradicts(node: ir.Node, links: Links) -> None:
    links.tie(Axis(source(node), 1), Axis(node.outputs[0], 2))


def points_beyond(node: ir.Node, links: Links) -> None:
    links.tie(Axis(source(node), 1), Axis(node.outputs[0], 1), np.arange(6), np.arange(6) + 1)


def points_before(node: ir.Node, links: Links) -> None:
    links.freeze(Axis(source(node), 1), "never said", np.array([-1]))


def runs_together_wrongly(node: ir.Node, links: Links) -> None:
    made = node.outputs[0]
    links.multiply(Axis(source(node), 1), [Axis(made, 1), Axis(made, 2)], node)


def halves_unevenly(node: ir.Node, links: Links) -> None:
    links.tie(Axis(source(node), 1), Axis(node.outputs[0], 1))
    links.balance(Axis(source(node), 1), 4, node)


def coupled(rule: Callable[[ir.Node, Links], None]) -> tuple[ir.Graph, Coupling]:
    made = graph(CHAIN)
    ir.infer_shapes(made)
    rules = {rule.name: rule for rule in BUILTIN_RULES} | {"Relu": CouplingRule("Relu", rule)}
    return made, couple(made, rules)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (raises, "KeyError: 'axis'"),
        (says_nothing, "RuntimeError: no more is said"),
        (contradicts, "ValueError: 6 indices of `a` axis 1, 4 of `b` axis 2"),
        (points_beyond, "ValueError: `b` axis 1 has the indices 0 to 5"),
        (points_before, "ValueError: `a` axis 1 has the indices 0 to 5"),
        (runs_together_wrongly, "ValueError: `a` axis 1 has 6 indices, not [6, 4] together"),
        (halves_unevenly, "ValueError: `a` axis 1 has 6 indices: no 4 equal parts"),
    ],
)
def test_a_faulty_rule_keeps_its_node_as_it_is(
    rule: Callable[[ir.Node, Links], None], fault: str
) -> None:
    made, found = coupled(rule)
    reason = f"the coupling rule `Relu` failed at `faulty`: {fault}"
    for name in ("a", "b", "first"):
        position = 0 if name == "first" else 1
        ((indices, why),) = found.why(made.value(name), position)
        assert (indices.tolist(), why) == ([*range(6)], reason)
    assert [group.name for group in found.groups] == ["second"]


def test_what_a_user_stops_is_not_swallowed() -> None:
    def stopped(node: ir.Node, links: Links) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        coupled(stopped)
