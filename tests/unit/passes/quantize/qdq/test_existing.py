"""A model that comes with Q and DQ keeps its parameters, and is completed around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.quantization import affine, stored_constant
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.pipeline import snr_db
from graphopt.runtime import open_session, open_with_census
from graphopt.testing import context, graph, named_target, random_feeds
from tests.quantized import ARM, CASES, X86, Case, pair, weights

if TYPE_CHECKING:
    from graphopt.passes.base import PassResult

TARGETS = (X86, ARM)

TRAINED = """m (float[N, 4, 8, 8] x) => (float[N, 64] y) <
  float s0 = {0.031}, uint8 z0 = {127}, float s1 = {0.017}, uint8 z1 = {0}, float s2 = {0.057},
  uint8 z2 = {121}, float[8] ws, int8[8] wz = {0, 0, 0, 0, 0, 0, 0, 0}, float[8] vs,
  float ls = {0.0042}, int8 lz = {0},
  float[8, 4, 3, 3] w, float[8] b, float[8, 8, 3, 3] v, float[8] c, float[64, 8] l, float[64] d > {
  xq = QuantizeLinear (x, s0, z0) xd = DequantizeLinear (xq, s0, z0)
  wq = QuantizeLinear <axis = 0> (w, ws, wz) wd = DequantizeLinear <axis = 0> (wq, ws, wz)
  [stem] a = Conv <pads = [1, 1, 1, 1]> (xd, wd, b)
  r = Relu (a)
  rq = QuantizeLinear (r, s1, z1) rd = DequantizeLinear (rq, s1, z1)
  vq = QuantizeLinear <axis = 0> (v, vs, wz) vd = DequantizeLinear <axis = 0> (vq, vs, wz)
  [body] e = Conv <pads = [1, 1, 1, 1]> (rd, vd, c)
  f = Add (e, rd)
  g = GlobalAveragePool (f)
  h = Flatten (g)
  hq = QuantizeLinear (h, s2, z2) hd = DequantizeLinear (hq, s2, z2)
  lq = QuantizeLinear (l, ls, lz) ld = DequantizeLinear (lq, ls, lz)
  lt = Transpose <perm = [1, 0]> (ld)
  m = MatMul (hd, lt)
  y = Add (m, d)
}"""
"""As a trainer exports it: Q and DQ of float weights, a residual Add without any, float biases."""


def trained() -> ir.Graph:
    random = np.random.default_rng(5)
    return graph(
        TRAINED,
        ws=random.uniform(0.002, 0.004, 8).astype(np.float32),
        vs=random.uniform(0.001, 0.003, 8).astype(np.float32),
        w=random.standard_normal((8, 4, 3, 3)) * 0.15,
        v=random.standard_normal((8, 8, 3, 3)) * 0.1,
        l=random.standard_normal((64, 8)) * 0.2,
    )


def completed(made: ir.Graph, target: str) -> tuple[ir.Graph, PassResult]:
    after = made.copy()
    asked = context(target=target, data=random_feeds(made, count=4), model=made)
    result = InsertQdq(placement="integer").run(after, asked)
    ir.verify(after)
    return after, result


@pytest.mark.parametrize("target", TARGETS)
def test_all_heavy_operators_become_integer(target: str) -> None:
    made = trained()
    _, before = open_with_census(made, named_target(target))
    assert not all(e.integer for e in before.heavy)
    after, result = completed(made, target)
    assert result.modified
    session, census = open_with_census(after, named_target(target))
    assert all(e.integer for e in census.heavy)
    assert len(census.heavy) == 3
    feeds = random_feeds(made, count=4)
    meant = open_session(made, optimize=False)
    found = snr_db([meant.run(f)[0] for f in feeds], [session.run(f)[0] for f in feeds])
    assert found > 25.0  # dB; the new Q behind body and Add are the whole difference


@pytest.mark.parametrize("target", TARGETS)
def test_the_parameters_are_the_users_own(target: str) -> None:
    made = trained()
    after, _ = completed(made, target)
    shift = 0 if target == X86 else -128
    scales = {
        n.inputs[0].name: (p.scale, p.zero)
        for n in after.nodes("QuantizeLinear")
        if n.inputs[0] is not None and (p := affine(n)) is not None
    }
    for name, scale, zero in (("x", 0.031, 127), ("r", 0.017, 0), ("h", 0.057, 121)):
        assert scales[name][0] == np.float32(scale)
        assert scales[name][1] == zero + shift
    for conv, weight, scale in (("stem", "w", "ws"), ("body", "v", "vs")):
        node = next(n for n in after.nodes("Conv") if n.name == conv)
        source = node.inputs[1].producer if node.inputs[1] is not None else None
        assert source is not None
        stored, found = stored_constant(source), affine(source)
        assert stored is not None
        assert found is not None
        np.testing.assert_array_equal(found.scale, made.value(scale).array())
        wanted = np.rint(made.value(weight).array() / found.scale.reshape(-1, 1, 1, 1))
        np.testing.assert_array_equal(stored.array(), np.clip(wanted, -128, 127))


@pytest.mark.parametrize("target", TARGETS)
def test_pairs_are_never_doubled(target: str) -> None:
    after, _ = completed(trained(), target)
    for node in after.nodes("QuantizeLinear"):
        source = node.inputs[0].producer if node.inputs[0] is not None else None
        assert source is None or source.op != "DequantizeLinear"
    for value in after.values():
        assert sum(n.op == "QuantizeLinear" for n in value.consumers) < 2


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_whole_stays_as_it_is(target: str) -> None:
    after, _ = completed(trained(), target)
    again, result = completed(after, target)
    assert not result.modified
    assert result.notes == ("the model is quantized already",)
    assert ir.structural_hash(again) == ir.structural_hash(after)


def test_what_was_left_in_float_stays_float() -> None:
    case = Case(
        "",
        CASES["excluded conv"].body.replace("y_q", "k_q").replace(" y =", " k =")
        + "dw = DequantizeLinear (w, ws, i) g = Conv (k, dw) y = Relu (g)",
    )
    made = case.graph()
    after, result = completed(made, X86)
    assert result.modified
    _, census = open_with_census(after, None)
    assert {e.node: e.integer for e in census.heavy}["kept"] is False


def test_parameters_behind_what_moves_data_serve_for_its_source() -> None:
    body = (
        pair("x", "a")
        + "dw = DequantizeLinear (w, ws, i) c = Conv (a, dw) "
        + "p = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> (c) "
        + pair("p", "k", "s2")
        + "dv = DequantizeLinear (w, ws, i) d = Conv (k, dv) "
        + pair("d", "y")
    )
    after, _ = completed(Case("", body).graph(), X86)
    quantize = next(n for n in after.nodes("QuantizeLinear") if n.inputs[0] is after.find("c"))
    found = affine(quantize)
    assert found is not None
    assert float(found.scale) == pytest.approx(0.1)
    _, census = open_with_census(after, None)
    assert all(e.integer for e in census.heavy)


@pytest.mark.parametrize("name", ["16 bits", "per-channel activation", "dynamic conv"])
def test_what_cannot_be_read_stays(name: str) -> None:
    made = CASES[name].graph()
    after, result = completed(made, X86)
    assert not result.modified
    assert ir.structural_hash(after) == ir.structural_hash(made)


def test_packed_weights_are_left_alone() -> None:
    made = graph(
        "m (float[2, 16] x) => (float[2, 16] y) <int4[16, 16] w, float[16] s> {"
        " d = DequantizeLinear <axis = 1> (w, s) y = MatMul (x, d) }",
        opset=21,
        w=weights(16, 16) // 16,
    )
    after, result = completed(made, X86)
    assert not result.modified
    assert ir.structural_hash(after) == ir.structural_hash(made)
