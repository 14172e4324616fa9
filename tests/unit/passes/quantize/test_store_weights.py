"""Weights are stored in fewer bits, and the model runs as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import graphopt
from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.quantize.store_weights import StoreWeights
from graphopt.pipeline.verifier import snr_db
from graphopt.runtime import census, open_session
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """m (float[N, 32, 6, 6] x) => (float[N, 48, 6, 6] y, float[N, 48] z)
    <float[48, 32, 3, 3] w, float[48] b, float[48, 48] m> {
  [conv] a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  y = Relu (a)
  p = GlobalAveragePool (y)
  f = Flatten (p)
  z = MatMul (f, m) }"""


@pytest.mark.parametrize(
    ("name", "bits", "least_db"),
    [
        # values_of are multiples of 1/64, so that 16-bit floats hold them exactly
        ("float16", 16, 100.0),
        ("bfloat16", 16, 45.0),
        ("int8", 8, 38.0),
        ("float8e4m3", 8, 28.0),
        ("float8e5m2", 8, 22.0),
        ("int4", 4, 14.0),
    ],
)
def test_size_and_noise_follow_from_the_bits(name: str, bits: int, least_db: float) -> None:
    model = graph(MODEL)
    after = model.copy()
    result = StoreWeights(name).run(after, context())
    ir.verify(after)
    assert result.metrics["weights"] == 2
    # Scales, the bias and everything small take the rest.
    assert ir.tensor_bytes(after) < ir.tensor_bytes(model) * (bits / 32 + 0.03)
    feed = {"x": np.random.default_rng(0).standard_normal((2, 32, 6, 6)).astype(np.float32)}
    assert snr_db(open_session(model).run(feed), open_session(after).run(feed)) > least_db


def test_the_runtime_executes_the_same_kernels() -> None:
    model = graph(MODEL, opset=21)
    after = model.copy()
    StoreWeights("int8").run(after, context())
    assert census(after).kernels == census(model).kernels


def test_what_does_not_fit_into_sixteen_bits_stays() -> None:
    model = graph(MODEL, m=np.full((48, 48), 1e6, np.float32))
    assert StoreWeights("float16").run(model, context()).metrics["weights"] == 1
    assert model.find("m") is not None


def test_small_and_other_constants_stay() -> None:
    text = """m (int64[N] i, float[N, 8] x) => (float[N, 8] y, float[N, 8] z)
        <float[8, 8] w, double[64, 64] d> {
      y = MatMul (x, w)
      z = Neg (x) }"""
    assert not StoreWeights().run(graph(text), context()).modified


def test_an_unknown_format_is_the_recipes_fault() -> None:
    with pytest.raises(RecipeError, match="`fp7` is not a format"):
        StoreWeights("fp7")


def test_the_preset_halves_a_model_without_data(models: Path) -> None:
    path = models / "digits_resnet.onnx"
    compiled = graphopt.compile(path, recipe="compact", measure=False)
    assert compiled.report.result.size_bytes < 0.55 * path.stat().st_size
