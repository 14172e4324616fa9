"""Sizes that are known are stored; what else their operators compute stays."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.passes.rewrite.fold_shapes import FoldShapes
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

_SPLIT = """g (float[n, 3, 4] x) => (y, z) <int64[2] two = {1, 2}> {
  s = Shape (x)  a, b = Split <axis = 0> (s, two)
  y = Expand (x, b)  c = Cast <to = 1> (a)  z = Mul (x, c) }"""
_CONDITION = """g (float[n, 4] x) => (y) <int64[1] four = {4}> {
  s = Shape <start = 1> (x)  k = Equal (s, four)  c = Cast <to = 1> (x)
  y = Where (k, x, c) }"""


@pytest.mark.parametrize("text", [_SPLIT, _CONDITION])
@pytest.mark.parametrize("size", [1, 3])
def test_outputs_stay(text: str, size: int) -> None:
    model = graph(text, opset=17)
    after = model.copy()
    assert FoldShapes().run(after, context()).modified
    ir.verify(after)
    assert_same_outputs(model, after, random_feeds(model, size=size), rtol=0, atol=0)


def test_a_part_of_a_split_that_is_read_keeps_the_split() -> None:
    model = graph(_SPLIT, opset=17)
    FoldShapes().run(model, context())
    assert len(model.nodes("Split")) == 1


def test_a_condition_on_sizes_becomes_a_truth_value() -> None:
    model = graph(_CONDITION, opset=17)
    FoldShapes().run(model, context())
    (chosen,) = model.nodes("Where")
    assert chosen.inputs[0] is not None
    assert chosen.inputs[0].array().tolist() == [True]
