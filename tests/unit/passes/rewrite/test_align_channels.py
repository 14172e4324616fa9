"""Channels are padded throughout a coupled group, and nothing that can be seen changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.analysis import ChannelGroups
from graphopt.errors import RecipeError
from graphopt.passes.rewrite.align_channels import AlignChannels
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.ir import Graph

TOLERANCE = 1e-5
"""Relative; sums of a few hundred products near zero get 1e-3 absolute."""
RESIDUAL = """m (float[N, 3, 8, 8] x) => (float[N, 5, 8, 8] y)
    <float[12, 3, 3, 3] w0, float[12] b0, float[12, 1, 3, 3] w1, float[12] b1,
     float[12, 12, 1, 1] w2, float[1, 12, 1, 1] scale, float[5, 12, 1, 1] w3> {
  [stem] a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
  b = Relu (a)
  [depthwise] c = Conv <group = 12, pads = [1, 1, 1, 1]> (b, w1, b1)
  d = Mul (c, scale)
  [point] e = Conv (d, w2)
  f = Add (b, e)
  [head] y = Conv (f, w3) }"""
BRANCHES = """m (float[N, 4, 8, 8] x) => (float[N, 16, 8, 8] y)
    <float[9, 4, 1, 1] w0, float[14, 4, 1, 1] w1, float[23, 1, 3, 3] w2, float[16, 23, 1, 1] w3,
     float[23] slope> {
  [left] a = Conv (x, w0)
  [right] b = Conv (x, w1)
  c = Concat <axis = 1> (a, b)
  [both] d = Conv <group = 23, pads = [1, 1, 1, 1]> (c, w2)
  s = Sigmoid (d)
  e = Mul (d, s)
  [out] y = Conv (e, w3) }"""
SQUEEZE = """m (float[N, 4, 8, 8] x) => (float[N, 16, 8, 8] y)
    <float[20, 4, 3, 3] w0, float[12, 20, 1, 1] w1, float[20, 12, 1, 1] w2,
     float[16, 20, 1, 1] w3> {
  [in] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  p = GlobalAveragePool (a)
  [squeeze] q = Conv (p, w1)
  r = Relu (q)
  [excite] t = Conv (r, w2)
  g = HardSigmoid (t)
  u = Mul (a, g)
  [out] y = Conv (u, w3) }"""


def aligned(text: str, target: str = "x86-avx512-vnni") -> tuple[Graph, Graph]:
    model = graph(text)
    after = model.copy()
    asked = context(target=target)
    result = AlignChannels("on").run(after, asked)
    after.sort()
    ir.verify(after)
    assert result.modified == (ir.structural_hash(model) != ir.structural_hash(after))
    return model, after


def weights(model: Graph) -> dict[str, tuple[object, ...]]:
    found = {}
    for node in model.nodes("Conv"):
        weight = node.inputs[1]
        assert weight is not None
        found[node.name] = tuple(weight.shape or ())
    return found


@pytest.mark.parametrize("text", [RESIDUAL, BRANCHES, SQUEEZE])
def test_the_outputs_stay_the_same(text: str) -> None:
    before, after = aligned(text)
    assert_same_outputs(before, after, random_feeds(before, count=3), rtol=TOLERANCE, atol=1e-3)


def test_a_residual_block_is_padded_as_one() -> None:
    _, after = aligned(RESIDUAL)
    assert weights(after) == {
        "stem": (16, 3, 3, 3),
        "depthwise": (16, 1, 3, 3),
        "point": (16, 16, 1, 1),
        "head": (5, 16, 1, 1),  # what goes in and out of the model keeps its channels
    }
    depthwise = next(n for n in after.nodes() if n.name == "depthwise")
    assert depthwise.attribute("group") == 16


def test_parts_of_a_concat_are_padded_each_and_their_readers_follow() -> None:
    _, after = aligned(BRANCHES)
    # 9 -> 16 and 14 -> 16: dense outputs; the 23 channels of both follow from their parts.
    assert weights(after) == {
        "left": (16, 4, 1, 1),
        "right": (16, 4, 1, 1),
        "both": (32, 1, 3, 3),
        "out": (16, 32, 1, 1),
    }


def test_excitations_are_padded_with_what_they_scale() -> None:
    _, after = aligned(SQUEEZE)
    assert weights(after)["squeeze"] == (16, 20, 1, 1)
    assert weights(after)["in"] == (20, 4, 3, 3)


def test_a_target_without_blocks_is_left_alone() -> None:
    before, after = aligned(RESIDUAL, target="arm")
    assert ir.structural_hash(before) == ir.structural_hash(after)


def test_more_zeros_than_channels_are_not_worth_it() -> None:
    text = RESIDUAL.replace("12", "6")
    assert weights(aligned(text)[1])["depthwise"] == (6, 1, 3, 3)


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        ("z = Softmax <axis = 1> (b)", "Softmax"),
        ("z = Div (b, a)", "Div"),
        ("z, i = MaxPool <kernel_shape = [2, 2]> (b)", "channels"),
    ],
)
def test_what_depends_on_the_channels_fixes_them(reader: str, why: str) -> None:
    text = f"""m (float[N, 4, 8, 8] x) => (float[N, 16, 8, 8] y, float[A, B, C, D] z)
        <float[12, 4, 1, 1] w0, float[16, 12, 1, 1] w1> {{
      [a] a = Conv (x, w0)
      b = Relu (a)
      {reader}
      [b] y = Conv (b, w1) }}"""
    before, after = aligned(text)
    assert ir.structural_hash(before) == ir.structural_hash(after)
    ir.infer_shapes(before)
    group = ChannelGroups(before).of(before.value("b"))
    assert group is not None
    assert why in (group.fixed or "")


def test_off_and_auto_change_nothing() -> None:
    for mode in ("off", "auto"):
        model = graph(RESIDUAL)
        assert not AlignChannels(mode).run(model, context()).modified


def test_an_unknown_mode_is_the_recipes_fault() -> None:
    with pytest.raises(RecipeError, match="`maybe` is not a mode"):
        AlignChannels("maybe")


def test_a_weight_that_is_computed_fixes_its_channels() -> None:
    text = """m (float[N, 4, 8, 8] x) => (float[N, 16, 8, 8] y)
        <float[12, 4, 1, 1] w0, float[16, 12, 1, 1] v> {
      [a] a = Conv (x, w0)
      w = Neg (v)
      [b] y = Conv (a, w) }"""
    before, after = aligned(text)
    assert ir.structural_hash(before) == ir.structural_hash(after)
