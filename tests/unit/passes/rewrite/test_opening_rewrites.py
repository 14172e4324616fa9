"""Rewrites that open the way for integer kernels, on random shapes: the same outputs, then rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.passes.rewrite.fold_pad import FoldPad
from graphopt.passes.rewrite.fold_shapes import FoldShapes
from graphopt.passes.rewrite.replace_hard_swish import ReplaceHardSwish
from graphopt.passes.rewrite.replace_reduce_mean import ReplaceReduceMean
from graphopt.passes.rewrite.replace_strided_slice import ReplaceStridedSlice
from graphopt.passes.rewrite.replace_sub_div import ReplaceSubDiv
from graphopt.runtime import census
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass

TOLERANCE = 1e-5
"""Relative and absolute: float32 sums in another order."""


def check(before: Graph, step: Pass, *, modified: bool = True, size: int = 2) -> Graph:
    """Run the pass, compare on random feeds, and run it again."""
    after = before.copy()
    assert step.run(after, context()).modified is modified
    ir.verify(after)
    feeds = random_feeds(before, count=2, size=size)
    assert_same_outputs(before, after, feeds, rtol=TOLERANCE, atol=TOLERANCE)
    assert not step.run(after, context()).modified
    return after


def ops(found: Graph) -> list[str]:
    return [n.op for n in found.nodes()]


sizes = st.integers(1, 7)


@given(channels=sizes, height=sizes, width=sizes, before=st.integers(0, 3), after=st.integers(0, 3),
       steps=st.tuples(st.integers(1, 3), st.integers(1, 3)))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_shortcut_is_a_convolution(
    channels: int, height: int, width: int, before: int, after: int, steps: tuple[int, int]
) -> None:
    text = f"""m (float[N,{channels},{height},{width}] x) => (float[A,B,C,D] y)
        <int64[2] s={{0,0}}, int64[2] e={{{height},2147483647}}, int64[2] ax={{-2,3}},
         int64[2] st={{{steps[0]},{steps[1]}}}, int64[8] p={{0,{before},0,0,0,{after},0,0}}> {{
      a = Slice(x, s, e, ax, st)
      y = Pad(a, p) }}"""
    assert ops(check(graph(text), ReplaceStridedSlice())) == ["Conv"]


def test_many_channels_keep_the_slice() -> None:
    text = """m (float[1,250,4,4] x) => (float[1,260,2,2] y)
        <int64[2] s={0,0}, int64[2] e={4,4}, int64[2] ax={2,3}, int64[2] st={2,2},
         int64[8] p={0,10,0,0,0,0,0,0}> {
      a = Slice(x, s, e, ax, st)
      y = Pad(a, p) }"""
    check(graph(text), ReplaceStridedSlice(), modified=False)


pads = st.lists(st.integers(0, 2), min_size=4, max_size=4)


@given(around=pads, own=pads, kernel=st.integers(1, 4), stride=st.integers(1, 3),
       op=st.sampled_from(["AveragePool", "MaxPool", "Conv"]), counts=st.booleans(),
       ceil=st.booleans(), relu=st.booleans())  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_padding_is_folded_only_where_nothing_changes(
    around: list[int], own: list[int], kernel: int, stride: int, op: str, counts: bool,
    ceil: bool, relu: bool,
) -> None:  # fmt: skip
    # onnxruntime folds a Pad of any width into a pooling, and then refuses to run it.
    widest = max(a + b for a, b in zip(around, own, strict=True))
    assume(any(around) and (widest < kernel or op == "Conv"))
    extra = {
        "AveragePool": f",count_include_pad={int(counts)},ceil_mode={int(ceil)}",
        "MaxPool": f",ceil_mode={int(ceil)}",
        "Conv": "",
    }[op]
    top, left, bottom, right = around
    attributes = f"kernel_shape=[{kernel},{kernel}],strides=[{stride},{stride}],pads={own}{extra}"
    text = f"""m (float[N,2,5,6] x) => (float[A,2,C,D] y)
        <int64[8] p={{0,0,{top},{left},0,0,{bottom},{right}}}, float[2,2,{kernel},{kernel}] w> {{
      r = {"Relu" if relu else "Neg"}(x)
      a = Pad(r, p)
      y = {op}<{attributes}>(a{", w" if op == "Conv" else ""}) }}"""
    before = graph(text)
    folds = FoldPad().run(before.copy(), context()).modified
    check(before, FoldPad(), modified=folds)
    assert folds or op != "Conv"
    assert not (folds and op == "MaxPool" and not relu)


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 18, 21])
def test_padding_of_every_opset(opset: int) -> None:
    given_as = "Pad(x, p)" if opset >= 11 else "Pad<pads=[0,0,1,2,0,0,0,1]>(x)"
    text = f"""m (float[1,2,5,6] x) => (float[1,2,4,7] y)
        <int64[8] p={{0,0,1,2,0,0,0,1}}, float[2,2,3,3] w> {{
      a = {given_as}
      y = Conv(a, w) }}"""
    assert ops(check(graph(text, opset=opset), FoldPad())) == ["Conv"]


def test_padding_by_axes() -> None:
    text = """m (float[1,2,5,6] x) => (float[1,2,4,6] y)
        <int64[4] p={1,2,0,0}, int64[2] axes={-2,-1}, float zero={0.0}, float[2,2,3,3] w> {
      a = Pad(x, p, zero, axes)
      y = Conv(a, w) }"""
    after = check(graph(text, opset=18), FoldPad())
    assert after.nodes("Conv")[0].attribute("pads") == [1, 2, 0, 0]


@given(shape=st.lists(sizes, min_size=1, max_size=3), keep=st.booleans(), split=st.booleans())
@settings(max_examples=40, deadline=None)
def test_means_of_feature_maps_are_poolings(shape: list[int], keep: bool, split: bool) -> None:
    rank = len(shape) + 2
    axes = list(range(2, rank))
    parts = [[rank - 1], axes[:-1]] if split and len(axes) > 1 else [axes]
    body, name = "", "b"
    for index, part in enumerate(parts):
        target = "y" if index == len(parts) - 1 else f"m{index}"
        body += f"{target} = ReduceMean<axes={part},keepdims={int(keep)}>({name})\n"
        name = target
    result = ",".join("ABCDE"[: rank if keep else 2])
    text = f"""m (float[N,2,{",".join(map(str, shape))}] x) => (float[{result}] y)
        <float[3,2,{",".join(["1"] * len(shape))}] w> {{
      a = Conv(x, w)
      b = Relu(a)
      {body} }}"""
    found = ops(check(graph(text), ReplaceReduceMean()))
    assert found == ["Conv", "Relu", "GlobalAveragePool", *["Flatten"] * (not keep)]


def test_normalizations_stay_one_operator() -> None:
    text = """m (float[1,16,32] x) => (float[1,16,32] y)
        <float two={2.0}, float eps={0.1}, float[32] g> {
      p = Pow(x, two)
      m = ReduceMean<axes=[-1]>(p)
      a = Add(m, eps)
      s = Sqrt(a)
      q = Div(x, s)
      y = Mul(q, g) }"""
    after = check(graph(text), ReplaceReduceMean(), modified=False)
    assert census(after).kernels == {"SimplifiedLayerNormalization": 1}


@given(values=st.lists(st.floats(0.0625, 64.0, width=32), min_size=4, max_size=4),
       negative=st.booleans())  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_subtraction_and_division(values: list[float], negative: bool) -> None:
    c = np.array(values, dtype=np.float32) * (-1 if negative else 1)
    text = """m (float[N,4] x) => (float[N,4] y) <float[4] c> {
      a = Div(x, c)
      y = Sub(a, c) }"""
    assert ops(check(graph(text, c=c), ReplaceSubDiv())) == ["Mul", "Add"]


@pytest.mark.parametrize("value", [0.0, 1e-45, math.inf, math.nan])
def test_what_has_no_inverse_stays(value: float) -> None:
    model = graph(
        "m (float[N] x) => (float[N] y) <float[1] c> { y = Div(x, c) }",
        c=np.array([value], dtype=np.float32),
    )
    assert not ReplaceSubDiv().run(model, context()).modified


def test_gelu_stays_one_operator() -> None:
    text = """m (float[2,8] x) => (float[2,8] y)
        <float root={1.4142135}, float one={1.0}, float half={0.5}> {
      a = Div(x, root)
      b = Erf(a)
      c = Add(b, one)
      d = Mul(x, c)
      y = Mul(d, half) }"""
    after = check(graph(text), ReplaceSubDiv(), modified=False)
    assert census(after).kernels == {"com.microsoft.Gelu": 1}


def test_hard_swish_in_every_spelling_runs_two_kernels() -> None:
    constants = "<float t={3.0}, float z={0.0}, float s={6.0}>"
    clipped = "a = Add(x, t)\n c = Clip(a, z, s)\n"
    for body in (
        "y = HardSwish(x)",
        clipped + "d = Div(c, s)\n y = Mul(x, d)",
        clipped + "d = Mul(c, x)\n y = Div(d, s)",
    ):
        model = graph(f"m (float[N,9] x) => (float[N,9] y) {constants} {{ {body} }}")
        after = check(model, ReplaceHardSwish())
        assert sorted(ops(after)) == ["HardSigmoid", "Mul"]


def test_double_precision_keeps_its_hard_swish() -> None:
    model = graph("m (double[N] x) => (double[N] y) { y = HardSwish(x) }")
    assert not ReplaceHardSwish().run(model, context()).modified


@given(batch=st.integers(1, 4), groups=st.integers(1, 3), each=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_channel_shuffle_of_any_batch_has_constant_shapes(
    batch: int, groups: int, each: int
) -> None:
    text = f"""m (float[N,{groups * each},3] x) => (float[A,B,C] y)
        <int64 i0={{0}}, int64 i1={{1}}, int64 g={{{groups}}}, int64[1] u={{0}},
         int64[1] rest={{-1}}> {{
      s = Shape(x)
      n = Gather(s, i0)
      c = Gather(s, i1)
      d = Div(c, g)
      nu = Unsqueeze(n, u)
      gu = Unsqueeze(g, u)
      du = Unsqueeze(d, u)
      cu = Unsqueeze(c, u)
      five = Concat<axis=0>(nu, gu, du, rest)
      four = Concat<axis=0>(nu, cu, rest)
      a = Reshape(x, five)
      b = Transpose<perm=[0,2,1,3]>(a)
      y = Reshape(b, four) }}"""
    after = check(graph(text), FoldShapes(), size=batch)
    assert all(n.inputs[1] is not None and n.inputs[1].is_constant for n in after.nodes("Reshape"))


def test_subgraphs_are_left_alone() -> None:
    text = """m (bool c, float[1,2,4,4] x) => (float[1,2,1,1] y) {
      y = If (c) <
        then_branch = t () => (float[1,2,1,1] a) { a = ReduceMean<axes=[2,3]>(x) },
        else_branch = e () => (float[1,2,1,1] b) { b = GlobalMaxPool(x) } > }"""
    for step in (ReplaceReduceMean(), FoldPad(), FoldShapes(), ReplaceHardSwish(), ReplaceSubDiv()):
        assert not step.run(graph(text), context()).modified
