"""Options of insert-qdq: which operators they keep in float, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.testing import context, graph, random_feeds

WEIGHTS = ", ".join(f"float[4, 4, 1, 1] w{i}" for i in range(4))
MODEL = f"""m (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y) <{WEIGHTS}> {{
  [stem] a = Conv (x, w0)
  [body_1] b = Conv (a, w1)
  [body_2] c = Conv (b, w2)
  [head] y = Conv (c, w3) }}"""


def integers(text: str = MODEL, *, opset: int = 17, **options: Any) -> tuple[list[str], Any]:
    """Return the names of the operators that read integers, and what the pass returned."""
    model = graph(text, opset=opset)
    asked = context(data=random_feeds(model, count=2), model=model)
    result = InsertQdq(**{"placement": "integer", **options}).run(model, asked)
    ir.verify(model)
    names = []
    for node in model.nodes("Conv"):
        weight = node.inputs[1]
        assert weight is not None
        if weight.producer is not None:
            names.append(node.name)
    return names, (result, asked.reasons)


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("integer", ["stem", "body_1", "body_2", "head"]),
        ("head-1", ["body_1", "body_2", "head"]),
        ("tail-1", ["stem", "body_1", "body_2"]),
        ("head-1-tail-1", ["body_1", "body_2"]),
        ("head-2-tail-1", ["body_2"]),
        ("head-3", ["head"]),
        ("tail-3", ["stem"]),
        ("head-4", []),
        ("head-9-tail-9", []),
        ("float", []),
    ],
)
def test_placements(placement: str, expected: list[str]) -> None:
    found, (result, reasons) = integers(placement=placement)
    assert found == expected
    assert result.modified is bool(expected)
    assert len(reasons) == 4 - len(expected)
    if expected:
        assert result.metrics["integer"] == len(expected)
        assert result.metrics["heavy"] == 4
        assert f"{len(expected)} of 4 heavy operators integer" in result.notes


@pytest.mark.parametrize(
    "placement",
    ["", "ints", "head", "head-", "head-x", "tail-1-head-1", "head-1tail-1", "head-1-", "-"],
)
def test_what_is_no_placement_is_refused(placement: str) -> None:
    with pytest.raises(RecipeError) as raised:
        InsertQdq(placement=placement)
    assert raised.value.code == "G103"
    assert "head-K" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"exclude": ("body_*",)}, ["stem", "head"]),
        ({"exclude": ("stem", "head")}, ["body_1", "body_2"]),
        ({"exclude": ("nosuch",)}, ["stem", "body_1", "body_2", "head"]),
        ({"only": ("body_?",)}, ["body_1", "body_2"]),
        ({"only": ("body_*",), "exclude": ("*_2",)}, ["body_1"]),
        ({"only": ("nosuch",)}, []),
    ],
)
def test_globs_choose_by_name(options: dict[str, Any], expected: list[str]) -> None:
    assert integers(**options)[0] == expected


def test_nodes_without_a_name_go_by_their_output() -> None:
    model = graph(MODEL.replace("[body_1] ", ""))
    asked = context(data=random_feeds(model, count=2), model=model)
    InsertQdq(placement="integer", exclude=("b",)).run(model, asked)
    assert asked.reasons == {"b": "float between integers; protected from quantization at load"}


def test_old_opsets_are_declined() -> None:
    found, (result, reasons) = integers(opset=12)
    assert found == []
    assert not result.modified
    assert set(reasons.values()) == {"opset 12 has no per-channel DequantizeLinear"}


def test_tensors_that_the_data_never_reached_stay_float() -> None:
    model = graph(MODEL)
    asked = context(ranges={"x": (-1, 1), "a": (-1, 1), "b": (-1, 1)})
    InsertQdq(placement="integer").run(model, asked)
    assert asked.reasons == {
        "body_2": "`c` has no calibrated range",
        "head": "`c` has no calibrated range",
    }


def test_weights_that_are_computed_stay_float() -> None:
    text = """m (float[N, 4, 4, 4] x, float[4, 4, 1, 1] w) => (float[N, 4, 4, 4] y)
        <float[4, 4, 1, 1] w1> {
      [first] a = Conv (x, w1)
      [given] y = Conv (a, w) }"""
    found, (_, reasons) = integers(text)
    assert found == ["first"]
    assert reasons["given"] == "its weight is computed at run time, or is not float32"


def test_half_precision_is_left_alone() -> None:
    text = """m (float16[N, 4, 4, 4] x) => (float16[N, 4, 4, 4] y) <float16[4, 4, 1, 1] w> {
      [half] y = Conv (x, w) }"""
    model = graph(text)
    asked = context(ranges={"x": (-1, 1), "y": (-1, 1)})
    result = InsertQdq(placement="integer").run(model, asked)
    assert not result.modified
    assert asked.reasons == {"half": "its input `x` is float16, not float32"}


def test_equal_weights_of_two_operators_are_stored_once() -> None:
    text = """m (float[N, 4, 4, 4] x) => (float[N, 4, 4, 4] y) <float[4, 4, 1, 1] w> {
      a = Conv (x, w)
      y = Conv (a, w) }"""
    model = graph(text)
    asked = context(data=random_feeds(model, count=2), model=model)
    InsertQdq(placement="integer", align=False).run(model, asked)
    stored = [v.name for v in model.initializers if v.shape == (4, 4, 1, 1)]
    assert stored == ["w_quantized"]


def test_the_input_graph_s_inner_graphs_are_left_alone() -> None:
    text = """m (float[N, 4, 4, 4] x, bool c) => (float[N, 4, 4, 4] y) <float[4, 4, 1, 1] w> {
      [outer] a = Conv (x, w)
      y = If (c) <
        then_branch = t () => (float[N, 4, 4, 4] p) { [inner] p = Conv (a, w) },
        else_branch = e () => (float[N, 4, 4, 4] q) { q = Neg (a) } > }"""
    model = graph(text)
    asked = context(data=random_feeds(model, count=2), model=model)
    InsertQdq(placement="integer", align=False).run(model, asked)
    ir.verify(model)
    branch = model.nodes("If")[0].subgraphs[0]
    assert [n.op for n in branch.nodes()] == ["Conv"]
    assert model.find("w") is not None
