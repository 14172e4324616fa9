"""The spellings of attention that exporters have: each is one operator that computes the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_attention import FuseAttention
from graphopt.testing import assert_same_outputs, context, graph, random_feeds
from tests.unit.passes.rewrite.attention_texts import attention

_TOLERANCE = 1e-5

_LAST_TWO = "dots = MatMul (q1, k1)\n  scores = "

SPELLINGS = {
    "scaled by a product": {},
    "scaled by a division": {"scores": f"{_LAST_TWO}Div (dots, scale)"},
    "not scaled": {"scores": "scores = MatMul (q1, k1)"},
    "scaled twice": {"scores": "half = Mul (q1, scale)\n  dots = MatMul (half, k1)\n"
                     "  scores = Div (dots, scale)"},
    "safe softmax of torch": {
        "scores": "half = Mul (q1, scale)\n  third = Mul (k1, scale)\n"
                  "  scores = MatMul (half, third)",
        "weights": "plain = Softmax <axis = -1> (scores)\n  lost = IsNaN (plain)\n"
                   "  weights = Where (lost, zero, plain)",
    },
    "keys turned after heads": {
        "key": "k0 = Reshape (k, parts)\n  k2 = Transpose <perm = [0, 2, 1, 3]> (k0)\n"
               "  k1 = Transpose <perm = [0, 1, 3, 2]> (k2)",
    },
    "keys turned flat, as torch's dynamo exporter does": {
        "constants": ", int64[1] minus = {-1}, int64[1] three = {3}, int64[1] four = {4}, "
                     "int64[3] split = {2, 1, 1}",
        "key": "k0 = Reshape (k, parts)\n  k2 = Transpose <perm = [0, 2, 1, 3]> (k0)\n"
               "  size = Shape (k2)\n  first, length, last = Split <axis = 0> (size, split)\n"
               "  flat3 = Concat <axis = 0> (minus, length, four)\n  k3 = Reshape (k2, flat3)\n"
               "  k4 = Transpose <perm = [0, 2, 1]> (k3)\n"
               "  turned = Concat <axis = 0> (first, four, length)\n"
               "  k1 = Reshape (k4, turned)",
    },
    "rows scaled before they are parted": {
        "query": "q2 = Mul (q, scale)\n  q0 = Reshape (q2, parts)\n"
                 "  q1 = Transpose <perm = [0, 2, 1, 3]> (q0)",
    },
    "a soft cap": {
        "constants": ", float cap = {3.0}",
        "scores": "dots = MatMul (q1, k1)\n  scaled = Mul (dots, scale)\n"
                  "  low = Div (scaled, cap)\n  bent = Tanh (low)\n  scores = Mul (bent, cap)",
    },
    "softmax along axis 3": {"weights": "weights = Softmax <axis = 3> (scores)"},
    "a reshape that changes nothing": {
        "mixed": "mixed0 = MatMul (weights, v1)\n  whole = Shape (mixed0)\n"
                 "  mixed = Reshape (mixed0, whole)",
    },
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_becomes_one_operator(spelling: dict[str, str]) -> None:
    before = attention(**spelling)  # type: ignore[arg-type]
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    assert [n.op for n in after.nodes()] == ["Attention"]
    for size in (1, 5):
        feeds = random_feeds(before, size=size)
        assert_same_outputs(before, after, feeds, rtol=_TOLERANCE, atol=_TOLERANCE)


def test_number_of_rows_and_columns_may_differ() -> None:
    before = attention()
    after = before.copy()
    assert FuseAttention().run(after, context()).modified
    random = np.random.default_rng(1)
    feed = {
        name: random.standard_normal((2, length, 12)).astype(np.float32)
        for name, length in (("q", 3), ("k", 7), ("v", 7))
    }
    assert_same_outputs(before, after, [feed], rtol=_TOLERANCE, atol=_TOLERANCE)


REFUSED = {
    "divided the wrong way round": {"scores": f"{_LAST_TWO}Div (scale, dots)"},
    "softmax over the rows": {"weights": "weights = Softmax <axis = 2> (scores)"},
    "a negative scale": {
        "constants": ", float negative = {-0.5}", "scores": f"{_LAST_TWO}Mul (dots, negative)"
    },
    "a scale of zero": {"scores": f"{_LAST_TWO}Mul (dots, zero)"},
    "a scale for each key": {
        "inputs": ", float[S] each", "scores": f"{_LAST_TWO}Mul (dots, each)"
    },
    "a cap that is not undone": {
        "constants": ", float cap = {3.0}, float other = {2.0}",
        "scores": "dots = MatMul (q1, k1)\n  low = Div (dots, cap)\n  bent = Tanh (low)\n"
                  "  scores = Mul (bent, other)",
    },
    "weights that are returned": {"outputs": "float[N, T, 12] y, float[N, 3, T, S] weights"},
    "scores that are returned": {"outputs": "float[N, T, 12] y, float[N, 3, T, S] scores"},
    "products that are returned": {"outputs": "float[N, T, 12] y, float[N, 3, T, S] dots"},
    "weights on the right": {
        "inputs": ", float[N, 3, 4, T] w", "mixed": "mixed = MatMul (w, weights)",
        "rows": "y = Identity (q)",
    },
}  # fmt: skip


@pytest.mark.parametrize("spelling", REFUSED.values(), ids=REFUSED)
def test_what_differs_is_left_alone(spelling: dict[str, str]) -> None:
    model = attention(**spelling)  # type: ignore[arg-type]
    kept = [n.op for n in model.nodes()]
    assert not FuseAttention().run(model, context()).modified
    assert [n.op for n in model.nodes()] == kept
    assert model.opset == 17


def test_other_types_are_left_alone() -> None:
    body = "s = MatMul (q, k)\n w = Softmax (s)\n y = MatMul (w, v)"
    for kind in ("double", "float16"):
        model = graph(f"""m ({kind}[1, 2, 3, 4] q, {kind}[1, 2, 4, 5] k, {kind}[1, 2, 5, 4] v)
          => ({kind}[1, 2, 3, 4] y) {{ {body} }}""")
        assert not FuseAttention().run(model, context()).modified


def test_heads_without_rows_become_an_operator_of_heads() -> None:
    before = graph("""m (float[N, 3, T, 4] q, float[N, 3, S, 4] k, float[N, 3, S, 5] v)
      => (float[N, 3, T, 5] y) {
      turned = Transpose <perm = [0, 1, 3, 2]> (k)
      scores = MatMul (q, turned)
      weights = Softmax (scores)
      y = MatMul (weights, v)
    }""")
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    (node,) = after.nodes()
    assert (node.op, node.attribute("q_num_heads")) == ("Attention", None)
    assert_same_outputs(before, after, random_feeds(before, size=3), rtol=_TOLERANCE, atol=1e-6)


def test_rows_are_taken_of_normalized_heads() -> None:
    before = attention(
        constants=", float[4] w = {1.0, 0.5, 2.0, 1.5}",
        query="q0 = Reshape (q, parts)\n  n = LayerNormalization <axis = -1> (q0, w)\n"
        "  q1 = Transpose <perm = [0, 2, 1, 3]> (n)",
    )
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    assert len(after.nodes("Transpose")) == 0
    assert_same_outputs(before, after, random_feeds(before, size=3), rtol=_TOLERANCE, atol=1e-6)


@pytest.mark.parametrize("parts", ["gather", "split"])
def test_query_key_and_value_of_common_rows(parts: str) -> None:
    taken = (
        "q1 = Gather <axis = 0> (outside, c0)\n k2 = Gather <axis = 0> (outside, c1)\n"
        " v1 = Gather <axis = 0> (outside, c2)"
        if parts == "gather"
        else "q2, k3, v2 = Split <axis = 0> (outside)\n q1 = Squeeze (q2, a0)\n"
        " k2 = Squeeze (k3, a0)\n v1 = Squeeze (v2, a0)"
    )
    before = graph(f"""m (float[N, 5, 24] x) => (float[N, 5, 8] y)
      <int64[5] parts = {{0, 0, 3, 2, 4}}, int64[3] flat = {{0, 0, 8}}, int64[1] a0 = {{0}},
       int64 c0 = {{0}}, int64 c1 = {{1}}, int64 c2 = {{2}}> {{
      packed = Reshape (x, parts)
      outside = Transpose <perm = [2, 0, 3, 1, 4]> (packed)
      {taken}
      k1 = Transpose <perm = [0, 1, 3, 2]> (k2)
      scores = MatMul (q1, k1)
      weights = Softmax (scores)
      mixed = MatMul (weights, v1)
      back = Transpose <perm = [0, 2, 1, 3]> (mixed)
      y = Reshape (back, flat)
    }}""")
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    assert sorted(n.op for n in after.nodes()) == ["Attention", "Split"]
    assert_same_outputs(before, after, random_feeds(before, size=2), rtol=_TOLERANCE, atol=1e-6)


REPEATED = {
    "expand": "u = Unsqueeze ({0}, two)\n {0}e = Expand (u{0}, wide)\n {1} = Reshape ({0}e, all)",
    "tile": "u{0} = Unsqueeze ({0}, two)\n {0}e = Tile (u{0}, times)\n {1} = Reshape ({0}e, all)",
    "gather": "{1} = Gather <axis = 1> ({0}, order)",
}


@pytest.mark.parametrize("way", ["expand", "tile", "gather"])
def test_heads_that_several_queries_share_are_not_copied(way: str) -> None:
    text = REPEATED[way].replace("u = ", "u{0} = ")
    before = graph(f"""m (float[2, 5, 24] q, float[2, 5, 8] k, float[2, 5, 8] v)
      => (float[2, 5, 24] y)
      <int64[4] six = {{0, 0, 6, 4}}, int64[4] parts = {{0, 0, 2, 4}}, int64[1] two = {{2}},
       int64[5] wide = {{2, 2, 3, 5, 4}}, int64[5] times = {{1, 1, 3, 1, 1}},
       int64[4] all = {{2, 6, 5, 4}}, int64[6] order = {{0, 0, 0, 1, 1, 1}},
       int64[3] flat = {{0, 0, 24}}> {{
      q0 = Reshape (q, six)
      q1 = Transpose <perm = [0, 2, 1, 3]> (q0)
      k0 = Reshape (k, parts)
      kh = Transpose <perm = [0, 2, 1, 3]> (k0)
      v0 = Reshape (v, parts)
      vh = Transpose <perm = [0, 2, 1, 3]> (v0)
      {text.format("kh", "k2")}
      {text.format("vh", "v1")}
      k1 = Transpose <perm = [0, 1, 3, 2]> (k2)
      scores = MatMul (q1, k1)
      weights = Softmax (scores)
      mixed = MatMul (weights, v1)
      back = Transpose <perm = [0, 2, 1, 3]> (mixed)
      y = Reshape (back, flat)
    }}""")
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    (node,) = after.nodes()
    assert (node.attribute("q_num_heads"), node.attribute("kv_num_heads")) == (6, 2)
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=1e-6)


def test_heads_that_are_shared_in_another_order_stay_copied() -> None:
    before = graph("""m (float[2, 4, 5, 4] q, float[2, 2, 5, 4] k, float[2, 2, 5, 4] v)
      => (float[2, 4, 5, 4] y) <int64[4] order = {0, 1, 0, 1}> {
      k2 = Gather <axis = 1> (k, order)
      v1 = Gather <axis = 1> (v, order)
      k1 = Transpose <perm = [0, 1, 3, 2]> (k2)
      scores = MatMul (q, k1)
      weights = Softmax (scores)
      y = MatMul (weights, v1)
    }""")
    after = before.copy()
    assert FuseAttention().run(after, context()).modified
    assert len(after.nodes("Gather")) == 2
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=1e-6)


def test_an_operator_of_heads_is_given_rows() -> None:
    before = attention(
        scores="", weights="", opset=23,
        key="k0 = Reshape (k, parts)\n  k1 = Transpose <perm = [0, 2, 1, 3]> (k0)",
        mixed="mixed = Attention <is_causal = 1, scale = 0.25> (q1, k1, v1)",
    )  # fmt: skip
    after = before.copy()
    assert FuseAttention().run(after, context()).modified
    (node,) = after.nodes()
    assert [node.attribute(n) for n in ("is_causal", "q_num_heads", "kv_num_heads")] == [1, 3, 3]
    assert math.isclose(node.attribute("scale"), 0.25)
    assert_same_outputs(before, after, random_feeds(before, size=4), rtol=_TOLERANCE, atol=1e-6)
    assert not FuseAttention().run(after, context()).modified


@pytest.mark.parametrize("mask", [False, True])
def test_batch_and_heads_in_one_axis(mask: bool) -> None:
    """So write the torch script exports of bmm: scores are taken apart for the mask alone."""
    masked = (
        "wide = Reshape (dots, apart)\n near = Add (wide, m)\n scores = Reshape (near, together)"
        if mask
        else "scores = Identity (dots)"
    )
    before = graph(f"""m (float[2, 5, 12] q, float[2, 7, 12] k, float[2, 7, 12] v,
        float[2, 1, 5, 7] m) => (float[2, 5, 12] y)
      <int64[4] parts = {{2, -1, 3, 4}}, int64[3] flat = {{6, -1, 4}}, float half = {{0.5}},
       int64[4] apart = {{2, 3, 5, 7}}, int64[3] together = {{6, 5, 7}},
       int64[4] heads = {{2, 3, 5, 4}}, int64[3] rows = {{2, 5, 12}}> {{
      qs = Mul (q, half)
      q0 = Reshape (qs, parts)
      q1 = Transpose <perm = [0, 2, 1, 3]> (q0)
      q2 = Reshape (q1, flat)
      k0 = Reshape (k, parts)
      k1 = Transpose <perm = [0, 2, 1, 3]> (k0)
      k2 = Reshape (k1, flat)
      v0 = Reshape (v, parts)
      v1 = Transpose <perm = [0, 2, 1, 3]> (v0)
      v2 = Reshape (v1, flat)
      k3 = Transpose <perm = [0, 2, 1]> (k2)
      dots = MatMul (q2, k3)
      {masked}
      weights = Softmax <axis = -1> (scores)
      mixed = MatMul (weights, v2)
      apart2 = Reshape (mixed, heads)
      back = Transpose <perm = [0, 2, 1, 3]> (apart2)
      y = Reshape (back, rows)
    }}""")
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    assert {n.op for n in after.nodes()} <= {"Attention", "Equal", "Where"}
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=1e-6)


def test_three_axes_without_heads_are_left_alone() -> None:
    model = graph("""m (float[2, 5, 4] q, float[2, 4, 7] k, float[2, 7, 4] v)
      => (float[2, 5, 4] y) {
      scores = MatMul (q, k)
      weights = Softmax (scores)
      y = MatMul (weights, v)
    }""")
    assert not FuseAttention().run(model, context()).modified
