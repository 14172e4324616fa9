"""Activation functions that are spelled out become operators; what only looks like them stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_activations import FuseActivations
from graphopt.testing import assert_same_outputs, context, graph

if TYPE_CHECKING:
    from graphopt.ir import Graph

TOLERANCE = 1e-6
VALUES = np.array([[0.0, -0.5, 1.0], [-3.0, 20.0, 90.0], [-90.0, 1e30, -1e30]], np.float32)
EXTREMES = np.array([[np.inf, -np.inf, np.nan]], np.float32)


def model(body: str, *, opset: int = 17, kind: str = "float") -> Graph:
    text = f"""m ({kind}[N, 3] x) => ({kind}[N, 3] y)
        <{kind} one={{1}}, {kind} zero={{0}}, {kind} minus={{-1}}, {kind} tenth={{0.1}},
         {kind} two={{2}}, {kind}[3] same={{0.5,0.5,0.5}}, {kind}[3] others={{0.5,1,2}}>
        {{ {body} }}"""
    return graph(text, opset=opset)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("n=Neg(x) e=Exp(n) p=Add(e,one) y=Reciprocal(p)", "Sigmoid"),
        ("n=Mul(x,minus) e=Exp(n) p=Add(one,e) y=Div(one,p)", "Sigmoid"),
        ("y=Max(x,zero)", "Relu"),
        ("y=Max(zero,x)", "Relu"),
        ("p=Mul(x,tenth) y=Max(x,p)", "LeakyRelu"),
        ("p=Mul(tenth,x) y=Max(p,x)", "LeakyRelu"),
        ("p=Mul(x,one) y=Max(p,x)", "LeakyRelu"),
        ("r=Relu(x) n=Neg(x) q=Relu(n) p=Mul(q,tenth) y=Sub(r,p)", "LeakyRelu"),
        ("r=Relu(x) n=Neg(x) q=Relu(n) p=Mul(q,minus) y=Add(p,r)", "LeakyRelu"),
        ("y=PRelu(x,same)", "LeakyRelu"),
        ("y=PRelu(x,tenth)", "LeakyRelu"),
    ],
)
def test_each_is_one_operator(body: str, wanted: str) -> None:
    before = model(body, opset=18)
    after = before.copy()
    assert FuseActivations().run(after, context()).modified
    ir.verify(after)
    assert [n.op for n in after.nodes()] == [wanted]
    feeds = [{"x": VALUES}, {"x": EXTREMES}, {"x": np.zeros((0, 3), np.float32)}]
    assert_same_outputs(before, after, feeds, rtol=TOLERANCE, atol=TOLERANCE)
    assert not FuseActivations().run(after, context()).modified


@pytest.mark.parametrize(("opset", "wanted"), [(17, 3), (18, 1)])
def test_mish_is_for_runtimes_that_have_it(opset: int, wanted: int) -> None:
    before = model("s=Softplus(x) t=Tanh(s) y=Mul(t,x)", opset=opset)
    after = before.copy()
    assert not FuseActivations().run(after, context()).modified
    assert FuseActivations().run(after, context(target="nvidia-t4")).modified is (wanted == 1)
    assert len(after.nodes()) == wanted
    assert_same_outputs(before, after, [{"x": VALUES}], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("p=Mul(x,two) y=Max(x,p)", "the larger of x and a x is LeakyRelu only for 0 <= a <= 1"),
        ("p=Mul(x,minus) y=Max(x,p)", "the larger of x and a x is LeakyRelu only for 0 <= a <= 1"),
        ("y=PRelu(x,others)", "its slopes differ"),
        ("y=Max(x,one)", None),
        ("y=Max(x,zero,one)", None),
        ("e=Exp(x) p=Add(e,one) y=Reciprocal(p)", None),
        ("n=Neg(x) e=Exp(n) p=Add(e,two) y=Reciprocal(p)", None),
        ("p=Mul(x,others) y=Max(x,p)", None),
        ("r=Relu(x) n=Neg(x) q=Relu(n) p=Mul(q,others) y=Sub(r,p)", None),
    ],
)
def test_what_is_no_such_function_stays(body: str, reason: str | None) -> None:
    noted = context()
    assert not FuseActivations().run(model(body), noted).modified
    assert set(noted.reasons.values()) == ({reason} if reason else set())


def test_a_zero_with_more_axes_stays() -> None:
    text = """m (float[3] x) => (float[1,1,3] y) <float[1,1,1] high={0}> { y = Max(x, high) }"""
    assert not FuseActivations().run(graph(text), context()).modified


@pytest.mark.parametrize("kind", ["double", "int32"])
def test_other_types_stay(kind: str) -> None:
    text = f"m ({kind}[N] x) => ({kind}[N] y) <{kind} zero={{0}}> {{ y = Max(x, zero) }}"
    noted = context()
    assert not FuseActivations().run(graph(text), noted).modified
    assert set(noted.reasons.values()) == {"activations are fused in float32 only"}
