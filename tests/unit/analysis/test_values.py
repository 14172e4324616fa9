"""What is known of values before a graph runs."""

from __future__ import annotations

import pytest

from graphopt.analysis import integers, scalar, static_shape
from graphopt.testing import graph

TEXT = """g (float[N, 3] x, float[1] given) => (float[N, 3] y)
<float one = {2.5}, float[1, 1] boxed = {4}, float[2] two = {1, 2}, int64[2, 1] sizes = {3, 4},
 int64 size = {7}, string word = {"a"}> {
  y = Identity (x) }"""


@pytest.mark.parametrize(
    ("name", "number"),
    [("one", 2.5), ("boxed", 4.0), ("size", 7.0), ("two", None), ("word", None), ("given", None)],
)
def test_a_scalar_is_a_constant_of_one_number(name: str, number: float | None) -> None:
    assert scalar(graph(TEXT).value(name)) == number


@pytest.mark.parametrize(
    ("name", "numbers"), [("sizes", [3, 4]), ("size", [7]), ("one", None), ("x", None)]
)
def test_integers_are_flattened(name: str, numbers: list[int] | None) -> None:
    assert integers(graph(TEXT).value(name)) == numbers


def test_a_shape_is_static_when_every_dimension_is_a_number() -> None:
    model = graph(TEXT)
    assert static_shape(model.value("sizes")) == (2, 1)
    assert static_shape(model.value("one")) == ()
    assert static_shape(model.value("x")) is None


def test_of_nothing_nothing_is_known() -> None:
    assert (scalar(None), integers(None), static_shape(None)) == (None, None, None)
