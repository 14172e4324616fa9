"""The rewrite, taken from the registry as graphopt itself takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.registry import Registry
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.passes.base import Pass

MODEL = """
g ({kind}[N, 4] x) => ({kind}[N, 4] y{more}) <{kind} one = {{1}}> {{
  a = Abs (x)
  b = Add ({sum})
  [last] y = Div (x, b)
}}
"""
TOLERANCE = 1e-6


@pytest.fixture
def step() -> Pass:
    registry = Registry(plugins=["example-rewrite"])
    assert registry.provider_of("passes", "fuse-softsign") == "example-rewrite"
    return registry.pass_class("fuse-softsign")()


@pytest.mark.parametrize("order", ["a, one", "one, a"])
def test_three_operators_become_one(step: Pass, order: str) -> None:
    before, after = (graph(MODEL.format(kind="float", more="", sum=order)) for _ in range(2))
    noted = context()
    assert step.run(after, noted).modified
    ir.verify(after)
    assert [(n.op, n.name) for n in after.nodes()] == [("Softsign", "last")]
    assert noted.reasons == {"last": "x / (1 + |x|) is Softsign"}
    assert_same_outputs(before, after, random_feeds(before), rtol=TOLERANCE, atol=TOLERANCE)
    assert not step.run(after, context()).modified


@pytest.mark.parametrize(
    ("kind", "more", "reason"),
    [
        ("double", "", "onnxruntime has Softsign for float32 only"),
        ("float", ", float[N, 4] b", "`b` inside it is an output of the graph"),
    ],
)
def test_what_stays_says_why(step: Pass, kind: str, more: str, reason: str) -> None:
    model, noted = graph(MODEL.format(kind=kind, more=more, sum="a, one")), context()
    assert not step.run(model, noted).modified
    assert noted.reasons == {"last": reason}
