"""Group normalization as onnxruntime runs it fast, and as accelerators do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.passes.rewrite.replace_group_norm import ReplaceGroupNorm
from graphopt.runtime import census
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.ir import Graph

TOLERANCE = 1e-5
"""Relative and absolute: sums in another order."""
ACCELERATOR = "nvidia-t4"


def operator(shape: str, *, opset: int = 21, extra: str = "") -> Graph:
    text = f"""m (float[{shape}] x) => (float[{shape}] y) <float[6] s, float[6] b> {{
        [gn] y = GroupNormalization<num_groups=3{extra}>(x, s, b) }}"""
    return graph(text, opset=opset)


def spelled(shape: str = "N,6,4,5", **changed: str) -> Graph:
    parts = {
        "groups": "0,3,-1", "sizes": "0,6,4,5", "ones": "1,1,1", "zeros": "0,0,0",
        "scale": "float[6,1,1] s", "bias": "float[6,1,1] b", "count": "3", **changed,
    }  # fmt: skip
    text = """m (float[{shape}] x) => (float[{shape}] y)
        <int64[3] g={{{groups}}}, int64[4] d={{{sizes}}}, float[{count}] one={{{ones}}},
         float[{count}] zero={{{zeros}}}, {scale}, {bias}> {{
        r = Reshape(x, g)  n = InstanceNormalization<epsilon=0.001>(r, one, zero)
        k = Reshape(n, d)  m = Mul(k, s)  [last] y = Add(m, b) }}""".format(shape=shape, **parts)
    return graph(text, opset=21)


@pytest.mark.parametrize(
    ("shape", "kernels"),
    [("2,6,4,5", 5), ("N,6,4,5", 5), ("N,6,H,W", 6), ("2,6,7", 5), ("N,6,2,3,4", 5)],
)
@pytest.mark.parametrize("extra", ["", ", epsilon=0.1"])
def test_onnxruntime_gets_the_kernels_it_has(shape: str, kernels: int, extra: str) -> None:
    before = operator(shape, extra=extra)
    after, noted = before.copy(), context()
    assert ReplaceGroupNorm().run(after, noted).modified
    ir.verify(after)
    assert len(after.nodes()) == kernels < census(before).executed
    assert after.nodes("Add")[0].name == "gn"
    assert set(noted.reasons.values()) == {"onnxruntime has no kernel of GroupNormalization"}
    feeds = random_feeds(before, count=2, size=3)
    assert_same_outputs(before, after, feeds, rtol=TOLERANCE, atol=TOLERANCE)
    assert not ReplaceGroupNorm().run(after, context()).modified


@pytest.mark.parametrize("scale", ["float[6,1,1] s", "float[1,6,1,1] s"])
def test_accelerators_get_the_operator(scale: str) -> None:
    before = spelled(scale=scale)
    after = before.copy()
    assert ReplaceGroupNorm().run(after, context(target=ACCELERATOR)).modified
    ir.verify(after)
    (node,) = after.nodes()
    assert (node.op, node.name, node.attribute("num_groups")) == ("GroupNormalization", "last", 3)
    assert node.attribute("epsilon") == pytest.approx(0.001)
    assert_same_outputs(before, after, random_feeds(before), rtol=TOLERANCE, atol=TOLERANCE)


def test_there_and_back() -> None:
    before = operator("N,6,4,5")
    after = before.copy()
    ReplaceGroupNorm().run(after, context())
    ReplaceGroupNorm().run(after, context(target=ACCELERATOR))
    assert [n.op for n in after.nodes()] == ["GroupNormalization"]
    assert_same_outputs(before, after, random_feeds(before), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (operator("N,6,0,5"), "the number of its channels is not known, or there is nothing to "
                              "normalize"),
        (operator("N,C,4,5"), "the number of its channels is not known, or there is nothing to "
                              "normalize"),
    ],
)  # fmt: skip
def test_an_operator_that_stays_says_why(model: Graph, reason: str) -> None:
    noted = context()
    assert not ReplaceGroupNorm().run(model, noted).modified
    assert noted.reasons == {"gn": reason}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ones": "1,2,1"}, "its groups have scales of their own"),
        ({"zeros": "1,0,0"}, "its groups have scales of their own"),
        ({"scale": "float[6,4,5] s"}, "its scale and bias are not those of channels"),
        ({"bias": "float[5] b"}, "its scale and bias are not those of channels"),
        ({"groups": "6,4,-1", "count": "4", "ones": "1,1,1,1", "zeros": "0,0,0,0",
          "shape": "4,6,4,5"}, "it does not normalize groups of channels"),
        ({"sizes": "0,5,4,6"}, "it does not normalize groups of channels"),
    ],
)  # fmt: skip
def test_another_normalization_says_why_it_stays(changed: dict[str, str], reason: str) -> None:
    noted = context(target=ACCELERATOR)
    model = spelled(**changed)
    if changed.get("sizes"):
        model.outputs[0].shape = None
    assert not ReplaceGroupNorm().run(model, noted).modified
    assert noted.reasons == {"last": reason}


def test_the_operator_of_older_sets_stays() -> None:
    text = """m (float[N,6,4] x) => (float[N,6,4] y) <float[3] s, float[3] b> {
        [gn] y = GroupNormalization<num_groups=3>(x, s, b) }"""
    noted = context()
    assert not ReplaceGroupNorm().run(graph(text, opset=18), noted).modified
    assert noted.reasons == {"gn": "before opset 21 GroupNormalization is another function"}
