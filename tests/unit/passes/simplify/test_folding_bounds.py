"""Folding costs no more than it may: what a model grows by, and what is in memory at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.simplify import fold_constants
from graphopt.passes.simplify.fold_constants import FoldConstants
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

BOMBS = {
    "ConstantOfShape": "b = ConstantOfShape (s)",
    "Expand": "b = Expand (one, s)",
    "Tile": "b = Tile (one, s)",
    "Pad": "b = Pad (one, p)",
    "Range": "r = Range (nought, end, step)\n b = Unsqueeze (r, front)",
    "MatMul": "c = Expand (one, t)\n b = MatMul (c, row)",
}


def _bomb(line: str) -> ir.Graph:
    return graph(f"""m (float[N, 1] x) => (float y)
    <float[1, 1] one, int64[2] s = {{64, 1024}}, int64[4] p = {{0, 0, 63, 1023}},
     int64[1] front = {{0}}, int64 nought = {{0}}, int64 end = {{65536}}, int64 step = {{1}},
     int64[2] t = {{1024, 1}}, float[1, 256] row> {{
      {line}
      f = Cast <to = 1> (b)
      m = ReduceMean <keepdims = 0> (f)
      a = Add (x, m)
      y = ReduceMean <keepdims = 0> (a) }}""")


@pytest.mark.parametrize("op", BOMBS)
def test_what_is_made_large_out_of_little_stays_computed(op: str) -> None:
    model = _bomb(BOMBS[op])
    before, asked = model.copy(), context()
    FoldConstants(max_bytes=100_000).run(model, asked)
    assert ir.tensor_bytes(model) < 120_000
    assert any("would add more than 100000 bytes" in r for r in asked.reasons.values())
    assert_same_outputs(before, model, random_feeds(model), rtol=0.0, atol=0.0)


TURNED = """m (float[N, 64] x) => (float[N, 64] y, float[N, 64] z)
    <float[64, 64] a, float[64, 64] b> {
  [own] t = Transpose <perm = [1, 0]> (a)
  [shared] u = Transpose <perm = [1, 0]> (b)
  y = MatMul (x, t)
  v = MatMul (x, u)
  z = MatMul (v, b) }"""


def test_a_result_may_take_the_place_of_what_only_it_was_made_of() -> None:
    model, asked = graph(TURNED), context()
    before = model.copy()
    FoldConstants(max_bytes=1000).run(model, asked)
    assert [n.name for n in model.nodes("Transpose")] == ["shared"]
    assert ir.tensor_bytes(model) == ir.tensor_bytes(before)
    assert asked.reasons == {"shared": "its result would add more than 1000 bytes"}
    assert_same_outputs(before, model, random_feeds(model), rtol=0.0, atol=0.0)


def test_all_results_together_are_bounded() -> None:
    lines = "\n".join(f"e{i} = Expand (one, s)\n a{i + 1} = Add (a{i}, e{i})" for i in range(8))
    text = f"""m (float[N, 8] a0) => (float[N, 8] a8)
    <float[1] one = {{2.0}}, int64[1] s = {{8}}> {{ {lines} }}"""
    model, asked = graph(text), context()
    FoldConstants(max_growth=100).run(model, asked)
    assert len(model.nodes("Expand")) == 5
    assert set(asked.reasons.values()) == {"all results together would add more than 100 bytes"}


def test_a_target_with_little_storage_gets_little_more_to_store() -> None:
    asked = context()
    small = dataclasses.replace(asked.target.memory, storage_limit_bytes=4096)
    asked.target = dataclasses.replace(asked.target, memory=small)
    model = _bomb("b = Expand (one, s)")
    FoldConstants().run(model, asked)
    assert "all results together would add more than 256 bytes" in asked.reasons.values()


@pytest.mark.parametrize("batch", [0, 300, 1 << 20])
def test_batches_compute_what_all_together_compute(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(fold_constants, "_BATCH_BYTES", batch)
    model = graph("""m (float[N, 8] x) => (float[N, 8] y, float[8] d) <float[8] a, float[8] b> {
      c = Mul (a, b)
      d = Neg (c)
      e = Add (d, c)
      f = Concat <axis = 0> (e, d)
      g, h = Split <axis = 0> (f)
      i = Sub (g, h)
      y = Add (x, i) }""")
    before = model.copy()
    FoldConstants().run(model, context())
    assert not {"Concat", "Split", "Sub"} & {n.op for n in model.nodes()}
    assert_same_outputs(before, model, random_feeds(model), rtol=0.0, atol=0.0)


def test_operators_on_strings_and_sequences_stay() -> None:
    model = ir.parse("""<ir_version: 8, opset_import: ["" : 17]>
    m (float[N] x) => (float[N] y) <int64 n = {0}> {
      s = SequenceEmpty ()
      c = Constant <value_float = 2.0> ()
      t = SequenceInsert (s, c)
      e = SequenceAt (t, n)
      y = Mul (x, e) }""")
    before = model.copy()
    FoldConstants().run(model, context())
    assert [n.op for n in model.nodes()][-1] == "Mul"
    feeds = [{"x": np.ones(2, np.float32)}]
    assert_same_outputs(before, model, feeds, rtol=0.0, atol=0.0)
