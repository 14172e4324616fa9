"""The minimum cut finds the cheapest labelling, whatever the graph."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.planner.cuts import Costs, border_costs, minimum_cut, patterns, total_cost
from graphopt.testing import graph

NAMES = ("a", "b", "c", "d", "e")
times = st.integers(0, 50).map(float)


@st.composite
def all_costs(draw: st.DrawFn) -> Costs:
    floats = {n: draw(times) for n in NAMES}
    integers = {n: draw(st.one_of(times, st.just(math.inf))) for n in NAMES}
    pairs = draw(st.sets(st.sampled_from(list(itertools.combinations(NAMES, 2)))))
    return Costs(floats, integers, {pair: draw(times) for pair in sorted(pairs)})


@given(all_costs())
@settings(max_examples=200, deadline=None)
def test_no_labelling_is_cheaper(costs: Costs) -> None:
    every = (
        frozenset(kept)
        for count in range(len(NAMES) + 1)
        for kept in itertools.combinations(NAMES, count)
    )
    best = min(total_cost(costs, kept) for kept in every)
    found = total_cost(costs, minimum_cut(costs))
    assert found == pytest.approx(best, abs=1e-6)


def test_a_cheap_operator_between_dear_borders_stays_with_its_neighbours() -> None:
    floats = {"a": 90.0, "b": 10.0, "c": 90.0}
    integers = {"a": 30.0, "b": 14.0, "c": 30.0}
    near = {("a", "b"): 5.0, ("b", "c"): 5.0}
    assert minimum_cut(Costs(floats, integers, near)) == frozenset()
    free = {("a", "b"): 1.0, ("b", "c"): 1.0}
    assert minimum_cut(Costs(floats, integers, free)) == {"b"}
    assert minimum_cut(Costs(floats, integers, near), border_scale=0.2) == {"b"}


def test_what_has_no_integer_kernel_stays_in_float() -> None:
    costs = Costs({"a": 90.0}, {"a": math.inf}, {})
    assert minimum_cut(costs) == {"a"}


def test_borders_lie_between_products_whatever_stands_between() -> None:
    model = graph(
        """m (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)
        <float[4, 4, 1, 1] u, float[4, 4, 1, 1] v, float[4, 4, 1, 1] w> {
      [first] a = Conv (x, u)
      b = Relu (a)
      [second] c = Conv (b, v)
      d = Add (b, c)
      [third] y = Conv (d, w) }"""
    )
    ir.infer_shapes(model)
    borders = border_costs(model)
    assert set(borders) == {("first", "second"), ("first", "third"), ("second", "third")}
    assert all(cost > 3.0 for cost in borders.values())


def test_names_with_special_characters_match_only_themselves() -> None:
    assert patterns(frozenset({"conv[0]", "a*"})) == ("a[*]", "conv[[]0]")
