"""Convolutions: what they couple, and that pruning them changes nothing that the oracle sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.coupling import Axis, Coupling, couple
from graphopt.passes.prune.removal.oracle import disagreement
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.testing import graph, random_feeds, run
from tests.unit.analysis.coupling.pruning import (
    RULES,
    assert_oracle,
    coupled,
    prune_at_random,
    reasons,
)

ORACLE = {
    "1-D": """
    g (float[1,3,9] x) => (float[1,2,5] y)
    <float[8,3,3] w1, float[8] b1, float[2,8,3] w2> {
      a = Conv(x, w1, b1)
      y = Conv(a, w2)
    }""",
    "2-D": """
    g (float[2,3,6,6] x) => (float[2,2,4,4] y)
    <float[8,3,3,3] w1, float[8] b1, float[6,8,1,1] w2, float[2,6,3,3] w3> {
      a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
      b = Relu(a)
      c = Conv(b, w2)
      d = Sigmoid(c)
      y = Conv(d, w3)
    }""",
    "3-D": """
    g (float[1,2,3,3,3] x) => (float[1,2,3,3,3] y)
    <float[6,2,1,3,1] w1, float[2,6,3,3,3] w2> {
      a = Conv<pads = [0, 1, 0, 0, 1, 0]>(x, w1)
      y = Conv<pads = [1, 1, 1, 1, 1, 1]>(a, w2)
    }""",
    "residual": """
    g (float[1,3,5,5] x) => (float[1,2,5,5] y)
    <float[8,3,1,1] stem, float[8] bs, float[6,8,1,1] down, float[8,6,1,1] up, float[2,8,1,1] w> {
      a = Conv(x, stem, bs)
      b = Conv(a, down)
      c = Relu(b)
      d = Conv(c, up)
      e = Add(a, d)
      y = Conv(e, w)
    }""",
    "grouped": """
    g (float[1,3,5,5] x) => (float[1,2,3,3] y)
    <float[12,3,1,1] w1, float[12] b1, float[18,4,3,3] w2, float[18] b2, float[2,18,1,1] w3> {
      a = Conv(x, w1, b1)
      b = Conv<group = 3>(a, w2, b2)
      c = Sigmoid(b)
      y = Conv(c, w3)
    }""",
    "grouped after grouped": """
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[12,3,1] w1, float[24,6,1] w2, float[12,8,1] w3, float[16,3,1] w4, float[2,16,1] w5> {
      a = Conv(x, w1)
      b = Conv<group = 2>(a, w2)
      c = Conv<group = 3>(b, w3)
      d = Conv<group = 4>(c, w4)
      y = Conv(d, w5)
    }""",
    "depthwise": """
    g (float[1,3,4,4] x) => (float[1,2,4,4] y)
    <float[6,3,1,1] w1, float[6] b1, float[6,1,3,3] w2, float[6] b2, float[2,6,1,1] w3> {
      a = Conv(x, w1, b1)
      b = Conv<group = 6, pads = [1, 1, 1, 1]>(a, w2, b2)
      y = Conv(b, w3)
    }""",
    "depthwise with a multiplier": """
    g (float[1,3,4,4] x) => (float[1,2,4,4] y)
    <float[6,3,1,1] w1, float[6] b1, float[18,1,3,3] w2, float[18] b2, float[2,18,1,1] w3> {
      a = Conv(x, w1, b1)
      b = Conv<group = 6, pads = [1, 1, 1, 1]>(a, w2, b2)
      y = Conv(b, w3)
    }""",
    "gates": """
    g (float[1,3,4,4] x) => (float[1,2,4,4] y)
    <float[6,3,1,1] w1, float[6,1,3,3] w2, float[6] b2, float[4,6,1,1] w3, float[4] b3,
     float[6,4,1,1] w4, float[6] b4, float[2,6,1,1] w5> {
      a = Conv(x, w1)
      b = Conv<group = 6, pads = [1, 1, 1, 1]>(a, w2, b2)
      c = Relu(b)
      d = GlobalAveragePool(c)
      e = Conv(d, w3, b3)
      f = Relu(e)
      h = Conv(f, w4, b4)
      i = Sigmoid(h)
      j = Mul(c, i)
      y = Conv(j, w5)
    }""",
    "transposed": """
    g (float[1,3,4,4] x) => (float[1,2,9,9] y)
    <float[3,8,3,3] w1, float[8] b1, float[8,6,2,2] w2, float[6] b2, float[6,2,1,1] w3> {
      a = ConvTranspose(x, w1, b1)
      b = ConvTranspose<pads = [1, 1, 0, 0], strides = [2, 2], output_shape = [9, 9]>(a, w2, b2)
      y = ConvTranspose(b, w3)
    }""",
    "transposed and grouped": """
    g (float[1,3,4] x) => (float[1,2,6] y)
    <float[12,3,1] w1, float[12,5,3] w2, float[15] b2, float[2,15,1] w3> {
      a = Conv(x, w1)
      b = ConvTranspose<group = 3>(a, w2, b2)
      y = Conv(b, w3)
    }""",
    "transposed and depthwise": """
    g (float[1,3,4] x) => (float[1,2,6] y)
    <float[4,3,1] w1, float[4,3,3] w2, float[12] b2, float[2,12,1] w3> {
      a = Conv(x, w1)
      b = ConvTranspose<group = 4>(a, w2, b2)
      y = Conv(b, w3)
    }""",
    "a weight that two nodes read": """
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[8,3,1] w1, float[8,3,1] w2, float[8,4,1] w3, float[2,8,1] w4, float[2,8,1] w5> {
      a = Conv(x, w1)
      b = Conv(x, w2)
      c = Conv<group = 2>(a, w3)
      d = Conv<group = 2>(b, w3)
      e = Conv(c, w4)
      f = Conv(d, w5)
      y = Add(e, f)
    }""",
    "a depthwise weight that two nodes read": """
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[8,3,1] w1, float[8,3,1] w2, float[8,1,1] w3, float[2,8,1] w4, float[2,8,1] w5> {
      a = Conv(x, w1)
      b = Conv(x, w2)
      c = Conv<group = 8>(a, w3)
      d = Conv<group = 8>(b, w3)
      e = Conv(c, w4)
      f = Conv(d, w5)
      y = Add(e, f)
    }""",
    "one channel in, and one out": """
    g (float[1,1,5,5] x) => (float[1,1,5,5] y)
    <float[6,1,1,1] w1, float[1,6,1,1] w2, float[4,1,1,1] w3, float[1,4,1,1] w4> {
      a = Conv(x, w1)
      b = Conv(a, w2)
      c = Conv(b, w3)
      y = Conv(c, w4)
    }""",
    "a sum that is fused": """
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[1,3,4,4] x) => (float[1,2,4,4] y)
    <float[6,3,1,1] w1, float[6,3,1,1] w2, float[6] b2, float[2,6,1,1] w3, float[1,6,4,4] b> {
      a = Conv(x, w1)
      b = com.microsoft.FusedConv<activation = "Relu">(x, w2, b2, a)
      y = Conv(b, w3)
    }""",
}


@pytest.mark.parametrize("text", ORACLE.values(), ids=ORACLE.keys())
def test_pruning_changes_nothing_that_the_oracle_sees(text: str) -> None:
    for seed in range(3):
        assert_oracle(text, fraction=0.2 + 0.25 * seed, seed=seed, tolerance=1e-5)


# -- what goes together --------------------------------------------------------------------


def _named(found: Coupling) -> dict[str, tuple[int, int]]:
    return {group.name: (group.size, group.step) for group in found.groups}


def test_groups_of_a_grouped_convolution_lose_as_many_but_not_the_same() -> None:
    made, found = coupled(ORACLE["grouped"])
    assert _named(found) == {"w1": (12, 3), "w2": (18, 3)}
    assert [why for _, why in found.why(made.value("w2"), 1)] == [
        "Conv `b` cuts it group by group, as its channels are cut"
    ]
    weight, second = made.value("w2").array(), made.value("w3").array()
    kept = np.array([0, 3, 4, 5, 8, 9])  # of each four: two others every time
    keep = np.isin(np.arange(12), kept)
    rows = np.array([i for i in range(18) if i not in {0, 7, 17}])
    cut = found.cut({"w1": keep, "w2": np.isin(np.arange(18), rows)})
    remove_units(made, cut, RULES)
    ir.verify(made)
    columns = {0: [0, 3], 1: [0, 1], 2: [0, 1]}
    expected = np.stack([weight[row][columns[row // 6]] for row in rows])
    np.testing.assert_array_equal(made.value("w2").array(), expected)
    np.testing.assert_array_equal(made.value("w3").array(), second[:, rows])
    assert made.value("b").shape == (1, 15, 3, 3)


def test_a_weight_of_two_grouped_convolutions_loses_the_same_columns_of_every_group() -> None:
    made, found = coupled(ORACLE["a weight that two nodes read"])
    entering = next(g for g in found.groups if Axis(made.value("w3"), 1) in g.units)
    assert entering.size == 4
    assert entering.units[Axis(made.value("a"), 1)].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert Axis(made.value("b"), 1) in entering.units


def test_a_depthwise_convolution_is_told_its_groups() -> None:
    pruned, _, _, found = prune_at_random(ORACLE["depthwise with a multiplier"], 0.5, seed=1)
    assert _named(found) == {"w1": (6, 1)}
    (depthwise,) = (n for n in pruned.nodes("Conv") if n.attribute("group", 1) > 1)
    assert depthwise.attribute("group") == 3
    assert pruned.value("w2").shape == (9, 1, 3, 3)
    assert pruned.value("b2").shape == (9,)


def test_one_output_of_each_group_is_not_depthwise() -> None:
    _, found = coupled("""
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[6,3,1] w1, float[3,2,1] w2, float[2,3,1] w3> {
      a = Conv(x, w1)
      b = Conv<group = 3>(a, w2)
      y = Conv(b, w3)
    }
    """)
    assert _named(found) == {"w1": (6, 3), "w2": (3, 3)}
    with pytest.raises(ValueError, match="the same number"):
        found.cut({"w2": np.array([True, False, True])})


def test_blocks_that_cross_are_balanced_together() -> None:
    made, found = coupled(ORACLE["grouped after grouped"])
    crossed = next(group for group in found.groups if group.name == "w2")
    assert (crossed.size, crossed.step) == (24, 6)
    channels = crossed.units[Axis(made.value("b"), 1)]
    sizes = [np.bincount(crossed.cells[channels[part]]) for part in np.split(np.arange(24), 6)]
    assert {tuple(sorted(size[size > 0])) for size in sizes} == {(4,)}


def test_a_pointwise_convolution_keeps_positions_apart() -> None:
    made, found = coupled("""
    g (float[1,4,3] x) => (float[1,2,5] y) <float[3,8] rows, float[2,4,1] w1, float[8,5] last> {
      a = MatMul(x, rows)
      b = Conv(a, w1)
      y = MatMul(b, last)
    }
    """)
    assert _named(found) == {"rows": (8, 1)}
    assert Axis(made.value("b"), 2) in found.groups[0].units


def test_a_computed_weight_is_an_activation_too() -> None:
    text = """
    g (float[1,3,4] x, float[6,5] z) => (float[1,2,4] y)
    <float[8,3,1] w1, float[5,8] mix, int64[1] last = {2}, float[2,6,1] w3> {
      a = Conv(x, w1)
      flat = MatMul(z, mix)
      w2 = Unsqueeze(flat, last)
      b = Conv(a, w2)
      y = Conv(b, w3)
    }
    """
    found = assert_oracle(text)
    assert [group.size for group in found.groups] == [8]


@pytest.mark.parametrize("node", ["Conv<group = 2>(a, w2)", "ConvTranspose<group = 2>(a, w2)"])
def test_a_computed_weight_of_a_grouped_convolution_is_cut_alike_in_every_group(node: str) -> None:
    text = """
    g (float[1,3,4] x, float[8,4,5] z) => (float[1,2,4] y)
    <float[8,3,1] w1, float[5,1] mix, float[2,8,1] w3> {
      a = Conv(x, w1)
      w2 = MatMul(z, mix)
      b = NODE
      y = Conv(b, w3)
    }
    """
    made, found = coupled(text.replace("NODE", node))
    assert not found.groups, "both sides of the weight come from an input"
    assert "it is an input of the model" in reasons(found)["`a` axis 1"]
    assert made.value("w1").shape == (8, 3, 1)


# -- what is left alone --------------------------------------------------------------------


def test_sizes_that_contradict_each_other_freeze() -> None:
    model = graph(ORACLE["1-D"])
    ir.infer_shapes(model)
    model.value("a").shape = (1, 7, 7)
    found = couple(model, RULES)
    assert not found.groups
    assert "the sizes around Conv `a` contradict each other" in reasons(found)["`w1` axis 0"]


def test_channels_that_are_not_known_freeze_the_weight() -> None:
    made, found = coupled("""
    g (float[1,3,n] x) => (float[1,2,m] y) <float[8,3,1] w1, float[2,8,1] w2> {
      a = Transpose<perm = [0, 2, 1]>(x)
      b = Transpose<perm = [0, 2, 1]>(a)
      c = Conv(b, w1)
      y = Conv(c, w2)
    }
    """)
    assert [group.name for group in found.groups] == ["w1"]
    assert found.why(made.value("w1"), 1)


LAST = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[1,5,5,3] x) => (float[1,5,5,2] y)
<float[1,5,5,6] a, float[6,SECOND] w1, float[2,THIRD] w2> {
  a = com.microsoft.NhwcConv(x, w1)
  y = com.microsoft.NhwcConv(a, w2)
}
"""


@pytest.mark.parametrize(
    ("second", "third", "position"), [("3,1,1", "6,1,1", 1), ("1,1,3", "1,1,6", 3)]
)
def test_channels_may_come_last(second: str, third: str, position: int) -> None:
    made, found = coupled(LAST.replace("SECOND", second).replace("THIRD", third))
    (group,) = found.groups
    assert set(group.axes) == {
        *(Axis(made.value("a"), 3), Axis(made.value("w1"), 0), Axis(made.value("w2"), position))
    }


def test_a_weight_that_may_be_laid_out_either_way_freezes() -> None:
    _, found = coupled(LAST.replace("SECOND", "3,3,3").replace("THIRD", "6,1,1"))
    assert not found.groups
    assert "it is not clear which axis" in reasons(found)["`w1` axis 0"][0]


DEFORMABLE = """
<ir_version: 9, opset_import: ["" : 19]>
g (float[1,3,4,4] x, float[1,36,4,4] steps, float[1,18,4,4] mask) => (float[1,2,4,4] y)
<float[8,3,1,1] w1, float[8,EACH,3,3] w2, float[8] b2, float[2,8,1,1] w3> {
  a = Conv(x, w1)
  b = DeformConv<group = GROUPS, offset_group = 2, pads = [1, 1, 1, 1]>(a, w2, steps, b2, mask)
  y = Conv(b, w3)
}
"""


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(1, {"w1": (8, 2), "w2": (8, 1)}), (2, {"w1": (8, 2), "w2": (8, 2)}), (8, {"w1": (8, 2)})],
)
def test_channels_that_share_offsets_stay_balanced(
    groups: int, expected: dict[str, tuple[int, int]]
) -> None:
    text = DEFORMABLE.replace("GROUPS", str(groups)).replace("EACH", str(8 // groups))
    assert _named(assert_oracle(text)) == expected


def test_pads_may_come_from_a_tensor() -> None:
    _, found = coupled("""
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[1,3,4,4] x, int64[4] pads) => (float[1,2,4,4] y)
    <float[3,8,1,1] w1, float[8] b1, float[1,8,4,4] a, float[8,2,1,1] w2> {
      a = com.microsoft.ConvTransposeWithDynamicPads(x, w1, pads, b1)
      y = com.microsoft.ConvTransposeWithDynamicPads(a, w2, pads)
    }
    """)
    assert _named(found) == {"w1": (8, 1)}
    assert found.groups[0].producers[0].bias is not None


# -- any chain -----------------------------------------------------------------------------


@st.composite
def chains(draw: Any) -> str:
    """Return the text of a chain of convolutions with random groups and multipliers."""
    channels = draw(st.integers(1, 4))
    head = f"g (float[1,{channels},3] x) => (float[1,2,3] y)"
    weights, lines, source = [], [], "x"
    for index in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["Conv", "ConvTranspose", "depthwise"]))
        fits = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = channels if kind == "depthwise" else draw(st.sampled_from(fits))
        each = draw(st.integers(1, 4))
        shape = (channels, each) if kind == "ConvTranspose" else (groups * each, channels // groups)
        bias = draw(st.booleans())
        weights += [f"float[{shape[0]},{shape[1]},3] w{index}"]
        weights += [f"float[{groups * each}] b{index}"] * bias
        inputs = f"{source}, w{index}" + f", b{index}" * bias
        op = "ConvTranspose" if kind == "ConvTranspose" else "Conv"
        lines.append(f"t{index} = {op}<group = {groups}, pads = [1, 1]>({inputs})")
        source, channels = f"t{index}", groups * each
    weights.append(f"float[2,{channels},1] last")
    body = "\n  ".join([*lines, f"y = Conv({source}, last)"])
    return f"{head}\n<{', '.join(weights)}> {{\n  {body}\n}}"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chains(), st.floats(0.1, 0.9), st.integers(0, 99))
def test_any_chain_of_convolutions_satisfies_the_oracle(
    text: str, fraction: float, seed: int
) -> None:
    pruned, silenced, _, found = prune_at_random(text, fraction, seed)
    assert all(group.is_exact for group in found.groups)
    ir.verify(pruned)
    for feed in random_feeds(pruned, seed=seed):
        expected = run(silenced, feed, optimize=False)
        assert disagreement(expected, run(pruned, feed, optimize=False)) <= 1e-5
