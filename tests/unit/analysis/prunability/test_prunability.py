"""What is told of groups, of what stays, and of the axes of a tensor."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.coupling.couple import Trace, traced
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.analysis.prunability import (
    Costs,
    GroupFacts,
    Origin,
    Span,
    TensorFacts,
    Tie,
    describe_group,
    explain_value,
    stored_weights,
    what_stays,
)
from graphopt.testing import graph

RULES = {rule.name: rule for rule in BUILTIN_RULES}
CHAIN = """
g (float[1,3,4] x) => (float[1,2,4] y)
<float[6,3,1] first, float[6] bias, float[2,6,1] second> {
  [one] a = Conv(x, first, bias)
  [two] b = Relu(a)
  [three] y = Conv(b, second)
}
"""
JOINED = """
g (float[1,3,4] x) => (float[1,2,4] y, float[1,2,4] z)
<float[4,3,1] left, float[2,3,1] right, float[2,6,1] last> {
  a = Conv(x, left)
  z = Conv(x, right)
  [join] b = Concat <axis = 1> (a, z)
  y = Conv(b, last)
}
"""
FLAT = """
g (float[1,3,2] x) => (float[1,2] y) <float[4,3,1] first, float[8,2] last> {
  a = Conv(x, first)
  [flat] b = Flatten(a)
  y = MatMul(b, last)
}
"""
UNKNOWN = """
<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[1,3,4] x) => (float[1,2,4] y)
<float[6,3,1] first, float[6,6,1] second, float[2,6,1] third, float[1,6,4] b> {
  a = Conv(x, first)
  [strange] b = my.Strange(a)
  c = Conv(b, second)
  y = Conv(c, third)
}
"""


def made(text: str) -> tuple[ir.Graph, Trace]:
    found = graph(text)
    ir.infer_shapes(found)
    return found, traced(found, RULES)


def described(text: str, kernels: list[tuple[tuple[str, ...], float]]) -> list[GroupFacts]:
    model, trace = made(text)
    costs = Costs(stored_weights(model), kernels)
    return [describe_group(g, trace, model.nodes(), costs) for g in trace.coupling.groups]


def explained(text: str, name: str, axis: int | None = None) -> TensorFacts:
    model, trace = made(text)
    return explain_value(trace, model.value(name), axis)


def test_a_group_in_words_and_figures() -> None:
    (found,) = described(CHAIN, [(("one", "two"), 3.0), (("three",), 1.0), ((), 4.0)])
    assert (found.name, found.units, found.unit, found.width, found.step) == (
        *("first", 6, "channel", 1, 1),
    )
    assert (found.makers, found.readers, found.inexact) == (("one",), ("three",), ())
    assert found.is_exact
    assert found.weights == 1.0
    assert (found.milliseconds, found.time) == (4.0, 0.5)
    assert Span("second", 1, 1, 6, 6, True) in found.spans
    assert Span("b", 1, 1, 6, 6, False) in found.spans


def test_what_a_part_of_an_axis_weighs() -> None:
    (found,) = described(JOINED, [(("join",), 3.0)])
    assert found.name == "left"
    # All of `left`, and four of the six columns of `last`.
    assert found.weights == pytest.approx((12 + 8) / (12 + 6 + 12))
    # The widest part of what it touches counts: all four indices of `a`.
    assert found.milliseconds == 3.0
    assert Span("b", 1, 1, 4, 6, False) in found.spans


def test_a_unit_may_be_several_indices() -> None:
    (found,) = described(FLAT, [])
    spans = {(span.tensor, span.axis): span.per_unit for span in found.spans}
    assert (spans["first", 0], spans["last", 0]) == (1, 2)
    assert (found.width, found.time) == (1, 0.0)


def test_each_axis_of_a_weight() -> None:
    found = explained(CHAIN, "first")
    assert (found.role, found.maker, found.readers) == ("weight", None, ("one",))
    made_axis, read_axis, taps = found.axes
    (part,) = made_axis.parts
    assert (part.group, part.unit, part.ranges) == ("first", "channel", ((0, 5),))
    assert part.ties == (Tie("one", "Conv", (("bias", 0), ("a", 1))),)
    assert part.origins == ()
    (part,) = read_axis.parts
    assert part.group is None
    assert part.origins == (Origin("it is an input of the model", "x", 1),)
    assert part.ties == (Tie("one", "Conv", (("x", 1),)),)
    assert (taps.size, taps.parts) == (1, ())


def test_indices_of_one_axis_with_two_fates() -> None:
    (axis,) = explained(JOINED, "b", 1).axes
    free, fixed = axis.parts
    assert (free.ranges, free.group) == (((0, 3),), "left")
    assert free.ties[0] == Tie("join", "Concat", (("a", 1),))
    assert (fixed.ranges, fixed.group) == (((4, 5),), None)
    assert fixed.origins == (Origin("it is an output of the model", "z", 1),)
    assert fixed.ties[0] == Tie("join", "Concat", (("z", 1),))


def test_scattered_indices_are_runs() -> None:
    (axis,) = explained(FLAT, "last", 0).axes
    (part,) = axis.parts
    assert part.ranges == ((0, 7),)
    assert part.ties == (Tie("y", "MatMul", (("b", 1),)),)


def test_an_operator_without_a_rule_is_what_stays() -> None:
    model, trace = made(UNKNOWN)
    weights = stored_weights(model)
    assert {value.name: size for value, size in weights.items()} == {
        "first": 18,
        "second": 36,
        "third": 12,
    }
    found = {
        each.tensors: (each.reason, round(each.share * 66)) for each in what_stays(trace, weights)
    }
    assert found["first",] == ("there is no coupling rule for Strange (`strange`)", 18)
    assert found["third",] == ("it is an output of the model", 12)
    assert ("second",) not in found


def test_reasons_that_differ_in_names_are_one() -> None:
    text = CHAIN.replace("[two] b = Relu(a)", "[two] c = my.A(a) [too] b = my.A(c)").strip()
    model = graph('<ir_version: 8, opset_import: ["" : 17, "my" : 1]>' + text)
    ir.infer_shapes(model)
    (first, *_) = what_stays(traced(model, RULES), stored_weights(model))
    assert first.reason == "there is no coupling rule for A (`two`)"
    assert first.tensors == ("bias", "first")
    assert first.share == pytest.approx(24 / 36)


def test_the_shares_of_what_stays_and_of_what_goes_are_all() -> None:
    model, trace = made(JOINED)
    weights = stored_weights(model)
    stays = {each.tensors: each.share for each in what_stays(trace, weights)}
    assert stays == {("last", "right"): pytest.approx(18 / 30)}
    assert np.isclose(sum(stays.values()) + 12 / 30, 1.0)
