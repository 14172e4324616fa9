"""Fused attention loses whole heads, and computes what it computed without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.analysis.coupling import Axis
from graphopt.testing import graph
from tests.unit.analysis.coupling.pruning import assert_oracle, coupled, prune_at_random, reasons

if TYPE_CHECKING:
    from graphopt import ir

MS = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
NEW = '<ir_version: 10, opset_import: ["" : 23]>'

PACKED = (
    MS
    + """
g (float[2,5,6] x) => (float[2,5,3] y)
<float[6,36] w, float[36] b, float[12,3] out, float[6,6] first, float[2,5,12] a> {
  f = MatMul(x, first)
  a = com.microsoft.Attention<num_heads = 4>(f, w, b)
  y = MatMul(a, out)
}
"""
)


def test_packed_attention_loses_whole_heads_of_queries_keys_and_values() -> None:
    found = assert_oracle(PACKED)
    heads = next(group for group in found.groups if group.name == "w")
    assert heads.size == 4
    units = next(u for axis, u in heads.units.items() if axis.label == "`w` axis 1")
    assert units.tolist() == np.tile(np.repeat(np.arange(4), 3), 3).tolist()
    assert {p.weight.label for p in heads.producers} == {"`w` axis 1"}
    assert {group.name for group in found.groups} == {"first", "w"}


def test_packed_attention_is_told_its_new_sizes() -> None:
    text = PACKED.replace("num_heads = 4", "num_heads = 4, qkv_hidden_sizes = [8, 8, 12]")
    text = text.replace("[6,36]", "[6,28]").replace("float[36] b", "float[28] b")
    pruned, _, _, _ = prune_at_random(graph(text), 0.5)
    (node,) = pruned.nodes("Attention")
    assert node.attribute("num_heads") == 2
    assert node.attribute("qkv_hidden_sizes") == [4, 4, 6]
    assert_oracle(graph(text))


def test_a_bias_of_scores_loses_heads_too() -> None:
    text = PACKED.replace("(f, w, b)", "(f, w, b, , , bias)")
    text = text.replace("float[2,5,12] a>", "float[2,5,12] a, float[1,4,5,5] bias>")
    pruned, _, _, _ = prune_at_random(graph(text), 0.5)
    assert pruned.value("bias").shape == (1, 2, 5, 5)
    assert_oracle(graph(text))


MANY = (
    MS
    + """
g (float[2,5,6] x) => (float[2,5,3] y)
<float[6,12] wq, float[6,12] wk, float[6,8] wv, float[32] b, float[8,3] out, float[2,5,8] a> {
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  a = com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, v, b)
  y = MatMul(a, out)
}
"""
)


def test_multi_head_attention_loses_a_head_everywhere() -> None:
    found = assert_oracle(MANY)
    (heads,) = found.groups
    assert heads.size == 4
    assert {p.weight.value.name for p in heads.producers} == {"wq", "wk", "wv"}
    units = next(u for axis, u in heads.units.items() if axis.label == "`b` axis 0")
    assert units.tolist() == [*np.repeat([0, 1, 2, 3], 3)] * 2 + [*np.repeat([0, 1, 2, 3], 2)]


def test_heads_that_are_kept_for_the_next_call_stay() -> None:
    text = MANY.replace(
        "(float[2,5,3] y)", "(float[2,5,3] y, float[2,4,5,3] pk, float[2,4,5,2] pv)"
    )
    text = text.replace("a = com", "a, pk, pv = com")
    _, found = coupled(graph(text))
    assert not found.groups
    assert "it is an output of the model" in str(reasons(found)["`wq` axis 1"])


GROUPED = (
    MS
    + """
g (float[2,5,16] x, int32[2] lengths, int32[1] total) => (float[2,5,3] y)
<float[16,128] wq, float[16,32] wk, float[16,32] wv, float[128,3] out, float[8,8] cos,
 float[8,8] sin, float[2,5,128] a, float[2,2,5,16] pk, float[2,2,5,16] pv> {
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  a, pk, pv = com.microsoft.GroupQueryAttention<num_heads = 8, kv_num_heads = 2, do_rotary = 1>(
    q, k, v, , , lengths, total, cos, sin)
  y = MatMul(a, out)
}
"""
)


def _feeds(model: ir.Graph) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    shape = [d if isinstance(d, int) else 2 for d in model.value("x").shape or ()]
    feed = {"x": random.standard_normal(shape).astype(np.float32)}
    feed["lengths"], feed["total"] = np.full(2, 4, np.int32), np.full(1, 5, np.int32)
    return [feed]


def test_grouped_queries_go_with_the_keys_that_they_share() -> None:
    model = graph(GROUPED)
    found = assert_oracle(model, feeds=_feeds(model))
    (heads,) = found.groups
    assert heads.size == 2
    units = next(u for axis, u in heads.units.items() if axis.label == "`wq` axis 1")
    assert units.tolist() == np.repeat([0, 1], 64).tolist()
    pruned, _, _, _ = prune_at_random(model)
    (node,) = pruned.nodes("GroupQueryAttention")
    assert (node.attribute("num_heads"), node.attribute("kv_num_heads")) == (4, 1)


def test_grouped_queries_packed_with_keys_and_values() -> None:
    text = GROUPED.replace("float[16,128] wq, float[16,32] wk, float[16,32] wv", "float[16,192] wq")
    text = text.replace("  k = MatMul(x, wk)\n  v = MatMul(x, wv)\n", "")
    text = text.replace("q, k, v, , , lengths", "q, , , , , lengths")
    model = graph(text)
    (heads,) = assert_oracle(model, feeds=_feeds(model)).groups
    assert heads.size == 2
    units = next(u for axis, u in heads.units.items() if axis.label == "`wq` axis 1")
    expected = [*np.repeat([0, 1], 64), *np.repeat([0, 1], 16), *np.repeat([0, 1], 16)]
    assert units.tolist() == expected


STANDARD = (
    NEW
    + """
g (float[2,5,6] x) => (float[2,5,3] y)
<float[6,24] wq, float[6,12] wk, float[6,10] wv, float[20,3] out, float[4,5,5] mask> {
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  a = Attention<q_num_heads = 4, kv_num_heads = 2>(q, k, v, mask)
  y = MatMul(a, out)
}
"""
)


def test_standard_attention_loses_groups_of_heads() -> None:
    found = assert_oracle(STANDARD)
    (heads,) = found.groups
    assert heads.size == 2
    units = next(u for axis, u in heads.units.items() if axis.label == "`mask` axis 0")
    assert units.tolist() == [0, 0, 1, 1]
    pruned, _, _, _ = prune_at_random(graph(STANDARD))
    (node,) = pruned.nodes("Attention")
    assert (node.attribute("q_num_heads"), node.attribute("kv_num_heads")) == (2, 1)


def test_where_all_share_one_head_of_keys_each_goes_alone() -> None:
    text = STANDARD.replace("kv_num_heads = 2", "kv_num_heads = 1")
    text = text.replace("[6,12] wk", "[6,6] wk").replace("[6,10] wv", "[6,5] wv")
    (heads,) = assert_oracle(text).groups
    assert heads.size == 4
    pruned, _, _, _ = prune_at_random(graph(text))
    (node,) = pruned.nodes("Attention")
    assert (node.attribute("q_num_heads"), node.attribute("kv_num_heads")) == (2, 1)


APART = (
    NEW
    + """
g (float[2,5,6] x) => (float[2,5,3] y)
<float[6,16] wq, float[6,16] wk, float[6,16] wv, float[16,3] out, float[2,5,2] cos,
 float[2,5,2] sin, int64[4] split = {0, 0, 4, 4}, int64[3] merge = {0, 0, -1}> {
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  q1 = Reshape(q, split)
  k1 = Reshape(k, split)
  v1 = Reshape(v, split)
  q2 = Transpose<perm = [0, 2, 1, 3]>(q1)
  k2 = Transpose<perm = [0, 2, 1, 3]>(k1)
  v2 = Transpose<perm = [0, 2, 1, 3]>(v1)
  q3 = RotaryEmbedding(q2, cos, sin)
  k3 = RotaryEmbedding(k2, cos, sin)
  a = Attention(q3, k3, v2)
  a1 = Transpose<perm = [0, 2, 1, 3]>(a)
  a2 = Reshape(a1, merge)
  y = MatMul(a2, out)
}
"""
)


def test_heads_with_an_axis_of_their_own_go_as_a_whole() -> None:
    (heads,) = assert_oracle(APART).groups
    assert heads.size == 4
    units = next(u for axis, u in heads.units.items() if axis.label == "`wq` axis 1")
    assert units.tolist() == np.repeat(np.arange(4), 4).tolist()


@pytest.mark.parametrize("interleaved", [0, 1])
def test_what_is_rotated_goes_in_pairs(interleaved: int) -> None:
    text = (
        NEW
        + f"""
    g (float[2,3,5,6] x) => (float[2,3,5,7] y)
    <float[6,8] w, float[8,7] out, float[2,5,4] cos, float[2,5,4] sin> {{
      q = MatMul(x, w)
      r = RotaryEmbedding<interleaved = {interleaved}>(q, cos, sin)
      y = MatMul(r, out)
    }}
    """
    )
    (pairs,) = assert_oracle(text, fraction=0.3).groups
    assert pairs.size == 4
    units = next(u for axis, u in pairs.units.items() if axis.label == "`w` axis 1")
    expected = [0, 0, 1, 1, 2, 2, 3, 3] if interleaved else [0, 1, 2, 3] * 2
    assert len({(a, b) for a, b in zip(units.tolist(), expected, strict=True)}) == 4


def test_rotated_heads_of_one_axis_go_as_a_whole() -> None:
    text = (
        MS
        + """
    g (float[2,5,6] x, int64[2,5] places) => (float[2,5,7] y)
    <float[6,12] w, float[12,7] out, float[9,2] cos, float[9,2] sin, float[2,5,12] r> {
      q = MatMul(x, w)
      r = com.microsoft.RotaryEmbedding(q, places, cos, sin)
      y = MatMul(r, out)
    }
    """
    )
    (heads,) = assert_oracle(text).groups
    assert heads.size == 3


def test_sizes_that_do_not_fit_the_heads_are_left_alone() -> None:
    text = PACKED.replace("num_heads = 4", "num_heads = 5")
    made, found = coupled(graph(text))
    assert [group.name for group in found.groups] == []
    assert found.why(made.value("w"), 1)[0][1] == "the heads of `a` do not fit its sizes"
    assert Axis(made.value("w"), 1).size == 36
