"""Normalizations: what is exact passes the oracle, what is not says so and still runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.testing import graph, random_feeds, run
from tests.unit.analysis.coupling.pruning import (
    assert_oracle,
    coupled,
    prune_at_random,
    reasons,
)

if TYPE_CHECKING:
    from graphopt import ir

CHAIN = """
g (float[2,3,4,5] x) => (float[2,2,4,5] y)
<float[8,3,1,1] first, float[2,8,1,1] second, {constants}> {{
  a = Conv(x, first)
  {lines}
  y = Conv(b, second)
}}
"""
FOUR = "float[8] s, float[8] t, float[8] m, float[8] v = {1, 2, 3, 4, 5, 6, 7, 8}"


def chain(lines: str, constants: str = FOUR, opset: int = 17) -> ir.Graph:
    made = graph(CHAIN.format(lines=lines, constants=constants), opset=opset)
    made.value("b").shape = (2, 8, 4, 5)  # onnx does not infer it for operators with a body
    return made


@pytest.mark.parametrize(
    "line",
    [
        "b = BatchNormalization(a, s, t, m, v)",
        "b = BatchNormalization<epsilon = 0.1, training_mode = 0>(a, s, t, m, v)",
        "b = InstanceNormalization(a, s, t)",
        "b = LpNormalization<axis = 1, p = 2>(a)",
        "b = LpNormalization<axis = -3, p = 1>(a)",
        "b = LpNormalization(a)",
        "b = MeanVarianceNormalization(a)",
        "b = LayerNormalization<axis = 2>(a, k)",
        "b = LayerNormalization<axis = -1>(a, w, w)",
    ],
)
def test_channels_that_are_normalized_apart_go_exactly(line: str) -> None:
    found = assert_oracle(chain(line, FOUR + ", float[4,5] k, float[5] w"))
    (group,) = found.groups
    assert (group.name, group.size, group.is_exact) == ("first", 8, True)


def test_vectors_of_a_batch_normalization_shrink() -> None:
    pruned, *_ = prune_at_random(chain("b = BatchNormalization(a, s, t, m, v)"))
    assert [pruned.value(name).shape for name in "stmv"] == [(4,)] * 4


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("b, r, u = BatchNormalization<training_mode = 1>(a, s, t, m, v)", "is in training"),
        ("b = LRN<size = 3>(a)", "LRN `b` mixes neighbours along it"),
    ],
)
def test_channels_that_are_mixed_stay(line: str, why: str) -> None:
    made, found = coupled(chain(line))
    assert not found.groups
    assert any(why in reason for _, reason in found.why(made.value("a"), 1))


def test_a_channel_of_a_local_response_is_fixed_but_images_are_not() -> None:
    made, found = coupled(chain("b = LRN<size = 3>(a)"))
    assert "mixes" not in str(found.why(made.value("a"), 2))


@pytest.mark.parametrize("opset", [18, 21])
def test_groups_of_channels_lose_as_many_each(opset: int) -> None:
    scales = "float[8] s, float[8] t" if opset == 21 else "float[4] s, float[4] t"
    made = chain("b = GroupNormalization<num_groups = 4>(a, s, t)", scales, opset)
    pruned, _, _, coupling = prune_at_random(made)
    (group,) = coupling.groups
    assert group.inexact == ("GroupNormalization `b` normalizes over fewer elements",)
    assert group.step == 4
    assert pruned.value("a").shape == (2, 4, 4, 5)
    assert pruned.value("s").shape == (4,)
    (feed,) = random_feeds(pruned)
    assert np.isfinite(run(pruned, feed)[0]).all()


@pytest.mark.parametrize("opset", [18, 21])
def test_groups_of_one_channel_just_become_fewer(opset: int) -> None:
    scales = "float[8] s, float[8] t"
    made = chain("b = GroupNormalization<num_groups = 8>(a, s, t)", scales, opset)
    (group,) = assert_oracle(made).groups
    assert group.step == 1
    pruned, *_ = prune_at_random(made)
    assert pruned.nodes("GroupNormalization")[0].attribute("num_groups") == 4


STREAM = """
g (float[2,5,3] x) => (float[2,5,2] y)
<float[3,8] first, float[8,2] second, float[3,8] third, {constants}> {{
  a = MatMul(x, first)
  {lines}
  y = MatMul(b, second)
}}
"""


def stream(lines: str, constants: str, opset: int = 17) -> ir.Graph:
    made = graph(STREAM.format(lines=lines, constants=constants), opset=opset)
    for value in made.values():
        if value.name in {"b", "d"}:
            value.shape = (2, 5, 8)
    return made


@pytest.mark.parametrize(
    ("lines", "constants", "opset"),
    [
        ("b = LayerNormalization(a, s, t)", "float[8] s, float[8] t", 17),
        ("b = LayerNormalization(a, s)", "float[1] s", 17),
        ("b = LayerNormalization<axis = 2>(a, s, t)", "float[8] s, float[1] t", 17),
        ("b, m, v = LayerNormalization(a, s)", "float[8] s", 17),
        ("b = RMSNormalization(a, s)", "float[8] s", 23),
        (
            "c = MatMul(x, third)\n b, , , d = com.microsoft.SkipLayerNormalization(a, c, s, t, u)",
            "float[8] s, float[8] t, float[8] u",
            17,
        ),
        (
            "c = MatMul(x, third)\n b = com.microsoft.SkipSimplifiedLayerNormalization(a, c, s)",
            "float[8] s",
            17,
        ),
        (
            "c = ReduceMean<axes = [-1]>(a)\n d = Sub(a, c)\n e = Mul(d, d)\n"
            "f = ReduceMean<axes = [-1]>(e)\n h = Sqrt(f)\n b = Div(d, h)",
            "float[8] s",
            17,
        ),
    ],
)
def test_features_that_are_normalized_over_go_but_not_exactly(
    lines: str, constants: str, opset: int
) -> None:
    made = stream(lines, constants, opset)
    pruned, _, _, coupling = prune_at_random(made)
    (group,) = coupling.groups
    assert (group.size, group.is_exact) == (8, False)
    assert pruned.value("b").shape == (2, 5, 4)
    if "float[8] s" in constants and "s)" in lines:
        assert pruned.value("s").shape == (4,)
    (feed,) = random_feeds(pruned)
    assert np.isfinite(run(pruned, feed, optimize=False)[0]).all()


def test_the_runtime_s_own_normalization_has_the_same_rule() -> None:
    made = stream("b = LayerNormalization(a, s)", "float[8] s")
    made.nodes("LayerNormalization")[0].op = "SimplifiedLayerNormalization"
    _, found = coupled(made)
    (group,) = found.groups
    assert group.inexact == ("SimplifiedLayerNormalization `b` normalizes over fewer elements",)
    assert "`s` axis 0" in {axis.label for axis in group.axes}


def test_layer_normalization_lets_what_is_not_normalized_through() -> None:
    made = graph("""
    g (float[2,3,4] x) => (float[2,2,4] y)
    <float[8,3,1] first, float[2,8,1] second, float[4] s> {
      a = Conv(x, first)
      b, m, v = LayerNormalization(a, s)
      c = Add(b, m)
      d = Mul(c, v)
      y = Conv(d, second)
    }
    """)
    (group,) = assert_oracle(made).groups
    assert group.is_exact
    assert "`m` axis 1" in {axis.label for axis in group.axes}


def test_layers_normalized_by_microsoft_know_where_channels_are() -> None:
    made = graph("""
    g (float[2,4,5,3] x) => (float[2,4,5,2] y)
    <float[3,8] first, float[8,2] second, float[8] s, float[8] t> {
      a = MatMul(x, first)
      b = com.microsoft.GroupNorm<groups = 2>(a, s, t)
      y = MatMul(b, second)
    }
    """)
    made.value("b").shape = (2, 4, 5, 8)
    _, found = coupled(made)
    (group,) = found.groups
    assert (group.size, group.step, group.is_exact) == (8, 2, False)
    assert {"`s` axis 0", "`t` axis 0"} <= {axis.label for axis in group.axes}


def test_embeddings_that_are_normalized_at_once_stay() -> None:
    made = graph("""
    g (int32[2,5] x, int32[2,5] z) => (float[2,5,2] y)
    <float[10,8] words, float[5,8] places, float[2,8] kinds, float[8] s, float[8] t,
     float[8,2] head> {
      a, i = com.microsoft.EmbedLayerNormalization(x, z, words, places, kinds, s, t)
      y = MatMul(a, head)
    }
    """)
    made.value("a").shape, made.value("i").shape = (2, 5, 8), (2,)
    _, found = coupled(made)
    assert not found.groups
    assert any("adds several tables" in why for whys in reasons(found).values() for why in whys)
