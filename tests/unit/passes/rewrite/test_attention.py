"""Attention and rotary embeddings: what is fused computes the same, what differs is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_attention import FuseAttention
from graphopt.passes.rewrite.fuse_rms_norm import FuseRmsNorm
from graphopt.passes.rewrite.fuse_rotary_embedding import FuseRotaryEmbedding
from graphopt.passes.simplify.fold_constants import FoldConstants
from graphopt.runtime import census
from graphopt.testing import assert_same_outputs, context, graph, random_feeds
from graphopt.types import DType

if TYPE_CHECKING:
    from pathlib import Path

_TOLERANCE = 1e-5


def _attention(
    scores: str = "scores = Mul (dots, scale)", weights: str = "Softmax (scores)", mask: str = ""
) -> ir.Graph:
    return graph(f"""m (float[2, 4, 6] q, float[2, 4, 6] k, float[2, 4, 6] v{mask})
      => (float[2, 4, 6] y)
      <float scale = {{0.5}}, int64[4] parts = {{0, 0, 3, 2}}, int64[3] flat = {{0, 0, 6}}> {{
      q0 = Reshape (q, parts)
      q1 = Transpose <perm = [0, 2, 1, 3]> (q0)
      k0 = Reshape (k, parts)
      k1 = Transpose <perm = [0, 2, 3, 1]> (k0)
      v0 = Reshape (v, parts)
      v1 = Transpose <perm = [0, 2, 1, 3]> (v0)
      dots = MatMul (q1, k1)
      {scores}
      weights = {weights}
      mixed = MatMul (weights, v1)
      rows = Transpose <perm = [0, 2, 1, 3]> (mixed)
      y = Reshape (rows, flat)
    }}""")


@pytest.mark.parametrize(
    ("scores", "mask"),
    [
        ("scores = Mul (dots, scale)", ""),
        ("scores = Mul (scale, dots)", ""),
        ("scores = Div (dots, scale)", ""),
        ("scaled = Div (dots, scale)\n scores = Add (mask, scaled)", ", float[4, 4] mask"),
        ("scores = Add (dots, mask)", ", float[2, 1, 4, 4] mask"),
        ("scores = Add (dots, mask)", ", float[1, 3, 4, 4] mask"),
    ],
)
def test_spellings_of_attention(scores: str, mask: str) -> None:
    before = _attention(scores, mask=mask)
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    assert [n.op for n in after.nodes()] == ["Attention"]
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=_TOLERANCE)


@pytest.mark.parametrize(
    ("scores", "weights"),
    [
        ("scores = Div (scale, dots)", "Softmax (scores)"),
        ("scores = Mul (dots, scale)", "Softmax <axis = 2> (scores)"),
    ],
)
def test_what_is_not_attention_stays(scores: str, weights: str) -> None:
    model = _attention(scores, weights)
    assert not FuseAttention().run(model, context()).modified


def test_keys_that_are_parted_and_turned_at_once() -> None:
    before = graph("""m (float[N, T, 8] q, float[N, T, 8] k, float[N, T, 8] v, float[1, 2, 3, 4] z)
      => (float[N, T, 8] y, float[1, 3, 4, 2] other)
      <int64[4] parts = {0, 0, 2, 4}, int64[3] flat = {0, 0, 8}> {
      q0 = Reshape (q, parts)
      q1 = Transpose <perm = [0, 2, 1, 3]> (q0)
      k0 = Reshape (k, parts)
      k1 = Transpose <perm = [0, 2, 3, 1]> (k0)
      v0 = Reshape (v, parts)
      v1 = Transpose <perm = [0, 2, 1, 3]> (v0)
      dots = MatMul (q1, k1)
      weights = Softmax (dots)
      mixed = MatMul (weights, v1)
      rows = Transpose <perm = [0, 2, 1, 3]> (mixed)
      y = Reshape (rows, flat)
      other = Transpose <perm = [0, 2, 3, 1]> (z)
    }""")
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    assert sorted(n.op for n in after.nodes()) == ["Attention", "Transpose"]
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=_TOLERANCE)


def test_weights_that_are_returned_are_kept() -> None:
    model = _attention()
    weights = model.nodes("Softmax")[0].outputs[0]
    weights.dtype, weights.shape = DType.FLOAT, (2, 3, 4, 4)
    model.set_outputs([*model.outputs, weights])
    assert not FuseAttention().run(model, context()).modified


def test_other_runtimes_get_no_operators_that_they_lack() -> None:
    model = _attention()
    asked = context(target="cortex-m4")
    assert not FuseAttention().run(model, asked).modified
    assert not FuseRotaryEmbedding().run(model, asked).modified


@pytest.mark.slow
def test_decoder_is_fused_whole(shared: Path) -> None:
    before = ir.load(shared / "models" / "stories260k_decoder.onnx")
    after = before.copy()
    asked = context()
    FoldConstants().run(after, asked)
    assert FuseRotaryEmbedding().run(after, asked).metrics == {"fused": 10}
    assert FuseAttention().run(after, asked).metrics == {"fused": 5}
    assert FuseRmsNorm().run(after, asked).metrics == {"fused": 11}
    ir.verify(after)
    assert_same_outputs(before, after, random_feeds(before, size=7), rtol=1e-3, atol=1e-4)
    assert census(after).executed < census(before).executed / 4
