"""Spelled-out softmaxes become one operator; what is summed over another axis stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_softmax import FuseSoftmax
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.ir import Graph

TOLERANCE = 1e-6


def model(body: str, *, opset: int = 17, kind: str = "float", more: str = "") -> Graph:
    text = f"""m ({kind}[N, 3, 4] x) => ({kind}[N, 3, 4] y{more})
        <int64[1] last={{-1}}, int64[1] middle={{1}}, int64[2] both={{1, 2}}> {{ {body} }}"""
    return graph(text, opset=opset)


def spelled(end: str = "y = Div(e, s)", *, axes: str = "last", opset: int = 17) -> str:
    listed = {"last": "[2]", "middle": "[-2]", "both": "[1, 2]"}[axes]
    maximum = f"ReduceMax(x, {axes})" if opset >= 18 else f"ReduceMax<axes={listed}>(x)"
    return f"m = {maximum} d = Sub(x, m) e = Exp(d) s = ReduceSum(e, {axes}) {end}"


LOGARITHM = "l = Log(s) y = Sub(d, l)"


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("axes", ["last", "middle"])
@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        ("y = Div(e, s)", "Softmax"),
        ("r = Reciprocal(s) y = Mul(r, e)", "Softmax"),
        (LOGARITHM, "LogSoftmax"),
    ],
)
def test_every_spelling_is_one_operator(end: str, wanted: str, axes: str, opset: int) -> None:
    before = model(spelled(end, axes=axes, opset=opset), opset=opset)
    after = before.copy()
    assert FuseSoftmax().run(after, context()).modified
    ir.verify(after)
    (node,) = after.nodes()
    assert (node.op, node.attribute("axis")) == (wanted, {"last": 2, "middle": 1}[axes])
    feeds = [*random_feeds(before, count=2), {"x": np.full((1, 3, 4), 80, np.float32)}]
    feeds += [{"x": np.zeros((0, 3, 4), np.float32)}]
    assert_same_outputs(before, after, feeds, rtol=TOLERANCE, atol=TOLERANCE)
    assert not FuseSoftmax().run(after, context()).modified


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("e = Exp(x) s = ReduceSum(e, last) y = Div(e, s)", "Softmax"),
        ("e = Exp(x) s = ReduceSum(e, last) l = Log(s) y = Sub(x, l)", "LogSoftmax"),
    ],
)
def test_the_maximum_may_be_left_out(body: str, wanted: str) -> None:
    before = model(body)
    after = before.copy()
    assert FuseSoftmax().run(after, context()).modified
    assert [n.op for n in after.nodes()] == [wanted]
    assert_same_outputs(before, after, random_feeds(before), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (spelled(axes="both"), "it does not run over one axis that is known"),
        ("e = Exp(x) s = ReduceSum(e) y = Div(e, s)",
         "it does not run over one axis that is known"),
        (spelled().replace("(e, last)", "<keepdims=0>(e, last)").replace("3, 4", "4, 4"), None),
        (spelled("y = Div(s, e)"), None),
        (spelled("f = Exp(x) y = Div(f, s)"), None),
    ],
)  # fmt: skip
def test_what_is_no_softmax_stays(body: str, reason: str | None) -> None:
    noted, made = context(), ir.parse(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        m (float[4, 4, 4] x) => (float[4, 4, 4] y) <int64[1] last={{-1}}, int64[2] both={{1, 2}}>
        {{ {body} }}"""
    )  # fmt: skip
    assert not FuseSoftmax().run(made, noted).modified
    assert set(noted.reasons.values()) == ({reason} if reason else set())


@pytest.mark.parametrize(
    ("old", "new"), [("Sub(x, m)", "Sub(m, x)"), ("axes=[2]", "axes=[1]"), ("Sub(x", "Add(x")]
)
def test_what_is_no_shift_by_the_maximum_stays_in_front(old: str, new: str) -> None:
    before = model(spelled().replace(old, new))
    after = before.copy()
    assert FuseSoftmax().run(after, context()).modified
    assert [n.op for n in after.nodes()] == [
        "ReduceMax",
        new[:3] if "(" in new else "Sub",
        "Softmax",
    ]
    assert_same_outputs(before, after, random_feeds(before), rtol=TOLERANCE, atol=TOLERANCE)


def test_a_sum_that_is_read_elsewhere_stays() -> None:
    noted = context()
    made = model(spelled() + " z = Neg(s)", more=", float[N, 3, 1] z")
    assert not FuseSoftmax().run(made, noted).modified
    assert noted.reasons == {"y": "`z` reads `s` inside it too"}


def test_other_types_and_older_sets_stay() -> None:
    noted = context()
    made = model("e = Exp(x) s = ReduceSum(e, last) y = Div(e, s)", kind="double")
    assert not FuseSoftmax().run(made, noted).modified
    assert noted.reasons == {"y": "a softmax is fused in float32 only"}
    old = "e = Exp(x) s = ReduceSum<axes=[2]>(e) y = Div(e, s)"
    assert not FuseSoftmax().run(model(old, opset=11), context()).modified
