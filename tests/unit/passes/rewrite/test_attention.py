"""Attention where others matter: shared Transposes, other runtimes, a whole decoder."""

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
from tests.unit.passes.rewrite.attention_texts import attention

if TYPE_CHECKING:
    from pathlib import Path

_TOLERANCE = 1e-5


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


def test_other_runtimes_get_no_operators_that_they_lack() -> None:
    model = attention()
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
