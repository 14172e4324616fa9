"""Reductions: what is summed is read exactly, what is averaged is read, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis.coupling.rules.reduction import _places_after
from graphopt.testing import graph, random_feeds, run
from tests.unit.analysis.coupling.pruning import assert_oracle, coupled, prune_at_random

if TYPE_CHECKING:
    from graphopt import ir

LAST = """
g (float[2,3,4] x) => (float[R] y)
<float[8,3,1] first, {constants}> {{
  a = Conv(x, first)
  {lines}
}}
"""


def last(lines: str, constants: str = "float unused", opset: int = 18) -> ir.Graph:
    """Return a graph that ends with ``lines``, whose output has as many axes as it has."""
    made = graph(LAST.format(lines=lines, constants=constants), opset=opset)
    made.outputs[0].shape = None
    return made


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_sums_over_channels_are_read_exactly(op: str, keepdims: int) -> None:
    made = last(f"y = {op}<keepdims = {keepdims}>(a, k)", "int64[1] k = {1}")
    (group,) = assert_oracle(made).groups
    assert (group.name, group.size, group.is_exact) == ("first", 8, True)
    assert group.consumers[0].node.op == op


@pytest.mark.parametrize(
    ("line", "opset"),
    [
        ("y = ReduceSum(a)", 13),
        ("y = ReduceSum<keepdims = 0>(a, two)", 13),
        ("y = ReduceL2<axes = [-2]>(a)", 17),
        ("b = Abs(a)\n y = ReduceLogSum<axes = [1]>(b)", 17),
        ("y = ReduceSum<axes = [1, -1], keepdims = 0>(a)", 11),
    ],
)
def test_sums_over_several_axes(line: str, opset: int) -> None:
    (group,) = assert_oracle(last(line, "int64[2] two = {2, 1}", opset)).groups
    assert group.is_exact


def test_two_axes_of_one_tensor_that_shrink_are_both_silenced() -> None:
    made = graph("""
    g (float[2,3,5] x) => (float[2] y) <float[8,3,1] first, float[5,6] other, int64[2] k = {1, 2}> {
      a = Conv(x, first)
      b = MatMul(a, other)
      y = ReduceSum<keepdims = 0>(b, k)
    }
    """)
    found = assert_oracle(made)
    assert {group.name for group in found.groups} == {"first", "other"}


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceLogSumExp"])
def test_what_changes_with_fewer_elements_says_so(op: str) -> None:
    made = last(f"y = {op}(a, k)", "int64[1] k = {1}")
    pruned, _, _, coupling = prune_at_random(made)
    (group,) = coupling.groups
    assert group.inexact == (f"{op} `y` " + group.inexact[0].partition("`y` ")[2],)
    assert "of fewer elements" in group.inexact[0]
    (feed,) = random_feeds(pruned)
    assert run(pruned, feed)[0].shape == (2, 1, 4)


def test_a_product_of_fewer_factors_means_nothing() -> None:
    made, found = coupled(last("y = ReduceProd(a, k)", "int64[1] k = {1}"))
    assert not found.groups
    assert found.why(made.value("a"), 1)[0][1] == "ReduceProd `y` multiplies along it"


MIDDLE = """
g (float[2,3,4,5] x) => (float[2,2,N,M] y)
<float[8,3,1,1] first, float[2,8,1,1] second, {constants}> {{
  a = Conv(x, first)
  {lines}
  y = Conv(b, second)
}}
"""


def middle(lines: str, constants: str = "float unused", opset: int = 18) -> ir.Graph:
    return graph(MIDDLE.format(lines=lines, constants=constants), opset=opset)


@pytest.mark.parametrize(
    ("lines", "opset"),
    [
        ("b = ReduceMean(a, space)", 18),
        ("b = ReduceMean<axes = [-1, 2]>(a)", 17),
        ("c = ReduceMax<keepdims = 0>(a, one)\n b = Unsqueeze(c, one)", 18),
        ("c = ReduceSum<noop_with_empty_axes = 1>(a)\n b = Relu(c)", 18),
        ("b = ReduceSum<noop_with_empty_axes = 1>(a, none)", 18),
        ("b = Softmax<axis = 3>(a)", 18),
        ("b = LogSoftmax(a)", 18),
        ("b = Hardmax<axis = -2>(a)", 18),
        ("b = Softmax<axis = 3>(a)", 11),
        ("b = CumSum(a, three)", 18),
        ("b, i = TopK<axis = 2>(a, one)", 18),
        ("c = ArgMax<axis = 2>(a)\n b = Cast<to = 1>(c)", 18),
        ("c = ArgMin<axis = 3, keepdims = 0>(a)\n d = Cast<to = 1>(c)\n b = Unsqueeze(d, one)", 18),
    ],
)
def test_other_axes_do_not_matter(lines: str, opset: int) -> None:
    constants = "int64[2] space = {2, 3}, int64[1] one = {2}, int64[0] none, int64 three = {3}"
    (group,) = assert_oracle(middle(lines, constants, opset)).groups
    assert (group.size, group.is_exact) == (8, True)


@pytest.mark.parametrize(
    ("lines", "opset", "why"),
    [
        ("b = Softmax<axis = 1>(a)", 18, "Softmax `b` makes its elements add up to one"),
        ("b = Softmax(a)", 12, "Softmax `b` makes its elements add up to one"),
        ("b = LogSoftmax<axis = 0>(a)", 12, "LogSoftmax `b` makes its elements add up to one"),
        ("b = CumSum(a, one)", 18, "CumSum `b` runs along it"),
        ("b, i = TopK<axis = 1>(a, eight)", 18, "TopK `b` sorts along it"),
        ("c = ArgMax<axis = 1>(a)\n d = Cast<to = 1>(c)\n b = Add(d, a)", 18, "an index of it"),
        ("c = NonZero(a)\n b = Relu(a)", 18, "NonZero `c` finds depends on the data"),
        ("c = Unique(a)\n b = Relu(a)", 18, "Unique `c` finds depends on the data"),
    ],
)
def test_an_axis_that_is_needed_whole_stays(lines: str, opset: int, why: str) -> None:
    made, found = coupled(middle(lines, "int64 one = {1}, int64[1] eight = {8}", opset))
    assert not found.groups
    assert any(why in reason for _, reason in found.why(made.value("first"), 0))


def test_axes_that_are_computed_freeze_all() -> None:
    made = graph("""
    g (float[2,3,4] x, int64[1] k) => (float[A,B,C] y) <float[8,3,1] first> {
      a = Conv(x, first)
      y = ReduceSum(a, k)
    }
    """)
    _, found = coupled(made)
    assert not found.groups
    assert "is not known" in str(found.why(made.value("first"), 0))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.data())
def test_places_after_a_reduction_are_numpys(count: int, data: st.DataObject) -> None:
    reduced = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    sizes = tuple(range(2, 2 + count))
    for keepdims in (False, True):
        shape = np.zeros(sizes).sum(axis=tuple(reduced), keepdims=keepdims).shape
        places = _places_after(count, reduced, keepdims)
        for before, after in enumerate(places):
            if before not in reduced:
                assert after is not None
                assert shape[after] == sizes[before]
            elif not keepdims:
                assert after is None
