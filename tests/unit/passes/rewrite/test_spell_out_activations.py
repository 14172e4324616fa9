"""Activations with slow kernels, spelled out: the same values, extremes included."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.spell_out_activations import SpellOutActivations
from graphopt.testing import assert_same_outputs, context, graph, random_feeds, run

TOLERANCE = 1e-6
SLOPES = np.array([0.25, -1.0, 3.0], np.float32)
VALUES = np.array([[0.0, -0.5, 1.0], [-3.0, 15.0, 21.0], [-15.0, -40.0, 40.0]], np.float32)
EXTREMES = np.array([[np.inf, -np.inf, np.nan], [3e38, -3e38, -100.0]], np.float32)
PRELU = "y = PRelu(x, s)"
MISH = "y = Mish(x)"
SPELLED = "a = Softplus(x) b = Tanh(a) y = Mul(b, x)"


def model(body: str, *, opset: int = 18, kind: str = "float") -> ir.Graph:
    text = f"m ({kind}[N, 3] x) => ({kind}[N, 3] y) <{kind}[3] s> {{ {body} }}"
    return graph(text, opset=opset, s=SLOPES)


@pytest.mark.parametrize(
    ("body", "opset", "wanted"),
    [
        (MISH, 18, "Min Exp Add Mul Add Div Mul"),
        (SPELLED, 13, "Min Exp Add Mul Add Div Mul"),
    ],
)
def test_the_values_are_the_same(body: str, opset: int, wanted: str) -> None:
    before = model(body, opset=opset)
    after = before.copy()
    assert SpellOutActivations().run(after, context()).modified
    ir.verify(after)
    assert sorted(n.op for n in after.nodes()) == sorted(wanted.split())
    feeds = [{"x": v} for v in (VALUES, EXTREMES, np.zeros((0, 3), np.float32))]
    assert_same_outputs(before, after, feeds, rtol=TOLERANCE, atol=TOLERANCE)
    assert not SpellOutActivations().run(after, context()).modified


def test_small_values_of_mish_stay_precise() -> None:
    """exp(-15) must not be lost in a sum with 1."""
    x = np.linspace(-30, 30, 300, dtype=np.float32).reshape(-1, 3)
    after = model(MISH)
    SpellOutActivations().run(after, context())
    wide = x.astype(np.float64)
    wanted = wide * np.tanh(np.log1p(np.exp(wide)))
    np.testing.assert_allclose(run(after, {"x": x})[0], wanted, rtol=2e-6, atol=0)


WIDE = "m (float[N, 3, 40, 40] x) => (float[N, 3, 40, 40] y) <float[3, 1, 1] s> { y = PRelu(x, s) }"


@pytest.mark.parametrize("extreme", [np.nan, np.inf, -np.inf, -0.0])
def test_prelu_in_parts_has_the_same_values(extreme: float) -> None:
    before = graph(WIDE, s=SLOPES.reshape(3, 1, 1))
    after = before.copy()
    assert SpellOutActivations().run(after, context()).modified
    ir.verify(after)
    assert sorted(n.op for n in after.nodes()) == ["Add", "Min", "Mul", "Relu"]
    (feed,) = random_feeds(before)
    feed["x"][:, :, 0] = extreme
    empty = {"x": np.zeros((0, 3, 40, 40), np.float32)}
    assert_same_outputs(before, after, [feed, empty], rtol=TOLERANCE, atol=TOLERANCE)
    assert not SpellOutActivations().run(after, context()).modified


@pytest.mark.parametrize("body", [PRELU, MISH, SPELLED])
def test_an_accelerator_keeps_the_operator(body: str) -> None:
    assert not SpellOutActivations().run(model(body), context(target="nvidia-t4")).modified


@pytest.mark.parametrize(
    ("text", "slope", "reason"),
    [
        (WIDE, np.inf, "its slopes are not finite"),
        (WIDE.replace("40, 40", "9, 9"), 2.0,
         "PRelu of fewer than 4096 elements is as fast as its parts"),
        (WIDE.replace("float", "double"), 2.0, "it is spelled out in float32 only"),
    ],
)  # fmt: skip
def test_what_stays_says_why(text: str, slope: float, reason: str) -> None:
    noted = context()
    kind = np.float64 if "double" in text else np.float32
    made = graph(text, s=np.full((3, 1, 1), slope, kind))
    assert not SpellOutActivations().run(made, noted).modified
    assert noted.reasons == {"y": reason}


def test_where_min_does_not_broadcast_nothing_is_spelled_out() -> None:
    text = """<ir_version: 8, opset_import: ["" : 7]>
    m (float[N, 4] x) => (float[N, 4] y) { s = Softplus(x)  t = Tanh(s)  y = Mul(x, t) }"""
    assert not SpellOutActivations().run(graph(text), context()).modified
