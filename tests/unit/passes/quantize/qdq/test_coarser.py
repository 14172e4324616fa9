"""On x86 without VNNI: which operators get coarser steps, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.saturation import pairs_exceed, reduction_rows
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls
from graphopt.testing import context, graph, named_target, random_feeds

MODEL = """m (float[N, 16, 6, 6] x) => (float[N, 4] y)
  <float[16, 16, 3, 3] w0, float[16, 1, 3, 3] w1, float[16, 4] m> {
  [plain] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  r = Relu (a)
  [depthwise] b = Conv <pads = [1, 1, 1, 1], group = 16> (r, w1)
  p = GlobalAveragePool (b)
  f = Flatten (p)
  [head] y = MatMul (f, m) }"""


@pytest.mark.parametrize("rounding", ["balanced", "learned"])
@pytest.mark.parametrize("scales", ["max", "mse"])
def test_no_stored_pair_exceeds_and_only_what_adds_pairs_is_touched(
    rounding: str, scales: str
) -> None:
    model = graph(MODEL)
    asked = context(data=random_feeds(model, count=3), model=model, target=named_target("x86-avx2"))
    step = InsertQdq(placement="integer", rounding=rounding, scales=scales)  # type: ignore[arg-type]
    result = step.run(model, asked)
    ir.verify(model)
    stored = {}
    for node in model.nodes("Conv", "MatMul"):
        dequantize = node.inputs[1]
        assert dequantize is not None
        assert dequantize.producer is not None
        integers = dequantize.producer.inputs[0]
        assert integers is not None
        stored[node.name] = integers.array()
    assert not pairs_exceed(reduction_rows(stored["plain"], 0)).any()
    assert not pairs_exceed(reduction_rows(stored["head"], 1)).any()
    if scales == "max":
        full = np.abs(stored["depthwise"].astype(int)).reshape(16, -1).max(axis=1)
        assert full.tolist() == [127] * 16
    assert "of 16 outputs have steps up to" in asked.reasons["plain"]
    assert "depthwise" not in asked.reasons
    assert result.metrics["outputs"] == 16 + 4
    assert 16 <= result.metrics["coarser_outputs"] <= 20
    assert 1.0 < result.metrics["coarsest"] <= 127 / 64


def test_other_targets_are_not_touched() -> None:
    model = graph(MODEL)
    asked = context(
        data=random_feeds(model, count=3), model=model, target=named_target("x86-avx512-vnni")
    )
    result = InsertQdq(placement="integer").run(model, asked)
    assert result.modified
    assert "coarser_outputs" not in result.metrics
    assert not asked.reasons


def test_dynamic_products_have_no_pair_that_exceeds() -> None:
    model = graph(
        "m (float[32, 64] x) => (float[32, 96] y) <float[64, 96] m> { y = MatMul (x, m) }"
    )
    asked = context(model=model, target=named_target("x86-avx2"))
    result = QuantizeMatmuls(mode="dynamic").run(model, asked)
    assert result.modified
    stored = [v.array() for v in model.initializers if v.array().dtype == np.int8]
    assert [a.shape for a in stored if a.ndim == 2] == [(64, 96)]
    assert not pairs_exceed(reduction_rows(next(a for a in stored if a.ndim == 2), 1)).any()
