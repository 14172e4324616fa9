"""Corrected biases: the integer model gives the means of the float model."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.recover.correct_bias import CorrectBias, channel_means
from graphopt.testing import Recorder, context, graph

MODEL = """g (float[1, 4, 6, 6] x) => (float[1, 5] z)
<float[8, 4, 3, 3] w, float[8] b, float[8, 1, 3, 3] d, float[8] e, float[5, 8] v, float[5] c>
{
  a = Conv<pads=[1,1,1,1]>(x, w, b)
  r = Relu(a)
  t = Conv<pads=[1,1,1,1], group=8>(r, d, e)
  u = Relu(t)
  p = GlobalAveragePool(u)
  f = Flatten(p)
  z = Gemm<transB=1>(f, v, c)
}"""


def shifted(graph_: ir.Graph, amount: float) -> None:
    """Add ``amount`` steps to every integer bias: an error that rounding would not make."""
    for node in graph_.nodes("DequantizeLinear"):
        stored = node.inputs[0]
        if stored is not None and stored.is_constant and stored.array().dtype == np.int32:
            wrong = (stored.array() + amount / node.inputs[1].array()).astype(np.int32)
            node.set_input(0, graph_.add_constant("wrong", wrong))


def quantized(rounding: Literal["balanced", "learned"]) -> tuple[ir.Graph, ir.Graph, Recorder]:
    model = graph(MODEL)
    random = np.random.default_rng(0)
    data = {"x": np.abs(random.standard_normal((32, 4, 6, 6))).astype(np.float32)}
    ctx = context(data=data, model=model)
    before = model.copy()
    InsertQdq(placement="integer", rounding=rounding).run(model, ctx)
    model.sort()
    ir.verify(model)
    return before, model, ctx


def drift(before: ir.Graph, after: ir.Graph, ctx: Recorder, name: str, axis: int) -> Any:
    one, other = (channel_means(g, ctx, {name: axis}, 32)[name] for g in (before, after))
    return np.abs(one - other).max()


@pytest.mark.parametrize("name", ["a", "t"])
def test_means_agree_afterwards(name: str) -> None:
    before, model, ctx = quantized("balanced")
    shifted(model, 0.5)
    wrong = drift(before, model, ctx, name, 1)
    result = CorrectBias().run(model, ctx)
    model.sort()
    ir.verify(model)
    assert result.metrics["biases"] >= 2
    assert wrong > 0.3
    assert drift(before, model, ctx, name, 1) < 0.01


def test_analytic_correction_is_what_learned_rounding_includes() -> None:
    _, model, ctx = quantized("learned")
    unchanged = ir.structural_hash(model)
    CorrectBias(method="analytic").run(model, ctx)
    # Biases are stored as integers of a tiny step: at most the last one may differ.
    assert drift(*quantized("learned")[:2], ctx, "a", 1) < 0.05
    before, fixed, ctx = quantized("balanced")
    assert CorrectBias(method="analytic").run(fixed, ctx).modified
    assert unchanged != ir.structural_hash(fixed)
    assert drift(before, fixed, ctx, "a", 1) < 0.05


def test_analytic_correction_twice_is_once() -> None:
    _, model, ctx = quantized("balanced")
    CorrectBias(method="analytic").run(model, ctx)
    assert not CorrectBias(method="analytic").run(model, ctx).modified


def test_without_integers_or_data_nothing_happens() -> None:
    model = graph(MODEL)
    assert not CorrectBias().run(model, context()).modified
    data = {"x": np.ones((2, 4, 6, 6), dtype=np.float32)}
    assert not CorrectBias().run(model, context(data=data, model=model)).modified


def test_learned_rounding_is_nearer_on_the_data() -> None:
    errors = {}
    for rounding in ("balanced", "learned"):
        before, model, ctx = quantized(rounding)  # type: ignore[arg-type]
        pairs = zip(ctx.stream(before, ["a"]), ctx.stream(model, ["a"]), strict=True)
        errors[rounding] = sum(float(np.square(b[2] - a[2]).sum()) for a, b in pairs)
    assert errors["learned"] < errors["balanced"]
