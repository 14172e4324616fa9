"""Shapes and sizes that a user states: what they become, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import api, ir
from graphopt.api.sizes import set_sizes, sizes_given
from graphopt.api.source import read_model
from graphopt.cost.shapes import sized
from graphopt.errors import DataError, ModelError, RecipeError
from graphopt.pipeline import probe_feeds
from graphopt.recipe import ModelSizes, parse_recipe, write_recipe
from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt.ir import Graph

_WEIGHT = ", ".join(["0.1"] * 108)


def _model() -> Graph:
    return graph(f"""g (float[batch, 3, h, w] x, int64[batch, t] ids) => (float[batch, K] y)
        <float[4, 3, 3, 3] c = {{{_WEIGHT}}}, int64[2] s = {{0, -1}}> {{
          a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, c)
          b = GlobalAveragePool(a)  d = Reshape(b, s)
          n = ReduceSum (ids)  f = Cast <to = 1> (n)  y = Add (d, f) }}""")


def _single() -> Graph:
    return graph("g (float[n, 4] x) => (float[n, 4] y) { y = Relu (x) }")


def test_numbers_fix_and_names_keep_or_rename() -> None:
    made = _model()
    set_sizes(made, ModelSizes({"x": (2, 3, "side", "side")}, {"t": 7}))
    assert made.value("x").shape == (2, 3, "side", "side")
    assert made.value("ids").shape == (2, 7)
    ir.infer_shapes(made)
    assert made.value("a").shape == (2, 4, "(side+1)//2", "(side+1)//2")
    assert made.value("y").shape == (2, 4)


def test_a_lone_shape_is_that_of_the_only_input() -> None:
    made = _single()
    named = set_sizes(made, sizes_given((5, "?"), None))
    assert made.value("x").shape == (5, 4)
    assert dict(named.shapes) == {"x": (5, "?")}


def test_bounds_are_kept_for_probes_estimates_and_data() -> None:
    made, _ = read_model(_single(), sizes_given(None, {"n": (2, 6)}))
    assert made.bounds == {"n": (2, 6)}
    sizes = {len(feed["x"]) for feed in probe_feeds(made, [], 0).feeds}
    assert {2, 6} <= sizes <= set(range(2, 7))
    assert sized(made, {})[1] == {"n": 6}
    assert made.copy().bounds == {"n": (2, 6)}


def test_dimensions_that_follow_are_fixed_too() -> None:
    made = graph("""g (float[b, past] x, float[b, m] mask) => (float[b, past] y)
        { y = Relu (x)  z = Relu (mask) }""")
    made.value("mask").shape = ("b", "past + 1")
    set_sizes(made, ModelSizes(dims={"past": 3}))
    assert made.value("mask").shape == ("b", 4)


@pytest.mark.parametrize(
    ("shapes", "dims", "message", "hint"),
    [
        ({"ix": (1,)}, {}, "no input `ix`", "x"),
        ({"": (1, 3, 8, 8)}, {}, "2 inputs, and a shape names none", "`x`, `ids`"),
        ({"x": (1, 3, 8)}, {}, "`x` has 4 dimensions, and 3 are given", "batch,3,h,w"),
        ({"x": (1, 4, 8, 8)}, {}, "dimension 1 of `x` is 3, and 4 is given", "export"),
        ({"x": ("?", "c", 8, 8)}, {}, "dimension 1 of `x` is 3, and c is given", "export"),
        ({"x": (1, 3, 8, 8), "ids": (2, 4)}, {}, "`batch` is given as 1 and as 2", "one symbol"),
        ({"x": (1, 3, 8, 8)}, {"batch": 2}, "`batch` is given as 1 and as 2", "one symbol"),
        ({"x": (9, 3, 8, 8)}, {"batch": "1..8"}, "`batch` is given as 9 and as 1..8", "one"),
        ({}, {"bach": 1}, "no open size `bach`", "did you mean `batch`?"),
    ],
)
def test_what_cannot_be_is_refused(
    shapes: Any, dims: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ModelError) as raised:
        set_sizes(_model(), ModelSizes(shapes, dims))
    assert raised.value.code == "G218"
    assert message in raised.value.message
    assert hint in str(raised.value.hint)


def test_a_size_that_a_node_cannot_have_is_refused_with_its_name() -> None:
    made = graph("""g (float[n, 4] x) => (float[m, 3] y) <float[5, 3] w> {
        t = Transpose <perm = [1, 0]> (x)  y = MatMul (x, w) }""")
    made.value("x").shape = ("n", "k")
    with pytest.raises(ModelError, match="cannot have that size"):
        set_sizes(made, ModelSizes({"x": ("?", 4)}))


@pytest.mark.parametrize("dim", [0, -1, "8..1", "0..4", "1..", "many", "1...3"])
def test_what_is_no_size_is_refused(dim: int | str) -> None:
    with pytest.raises(RecipeError) as raised:
        ModelSizes(dims={"n": dim})
    assert raised.value.code == "G103"


def test_a_recipe_holds_sizes_and_repeats_them() -> None:
    text = 'version = 1\n[model]\nshapes = {"in.put:0" = [1, "h", 3]}\ndims = {h = "2..4", n = 3}\n'
    found = parse_recipe(text).model
    assert found == ModelSizes({"in.put:0": (1, "h", 3)}, {"h": "2..4", "n": 3})
    assert parse_recipe(write_recipe(parse_recipe(text))).model == found
    assert "[model" not in write_recipe(parse_recipe("version = 1\n"))


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("dims = {n = 0}", "model"),
        ("shapes = {x = 3}", "shapes"),
        ("shapes = {x = [1.5]}", "shapes"),
        ("sizes = {x = 3}", "sizes"),
    ],
)
def test_a_recipe_is_read_strictly(line: str, where: str) -> None:
    with pytest.raises(RecipeError) as raised:
        parse_recipe(f"version = 1\n[model]\n{line}\n")
    assert where in str(raised.value)


def test_a_compile_is_for_those_sizes_and_its_recipe_repeats_it() -> None:
    compiled = api.compile(_single(), recipe="lossless", measure=False, shapes=(3, 4))
    assert compiled.graph.value("x").shape == (3, 4)
    assert compiled.graph.value("y").shape == (3, 4)
    assert parse_recipe(compiled.report.recipe).model == ModelSizes({"x": (3, 4)})


@pytest.mark.parametrize("dims", [{"n": 3}, {"n": (2, 3)}])
def test_data_of_another_size_is_refused(dims: Any) -> None:
    feeds = [{"x": np.zeros((5, 4), np.float32)}] * 4
    with pytest.raises(DataError) as raised:
        api.compile(_single(), recipe="lossless", measure=False, data=feeds, dims=dims)
    assert raised.value.code == "G212"
