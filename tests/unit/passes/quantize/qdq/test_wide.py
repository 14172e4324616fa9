"""16-bit activations: what is written, what is declined, and what is said to run in integer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.quantize.qdq.parameters import quantize_bias, weight_params
from graphopt.pipeline import snr_db
from graphopt.planner.plan import is_open
from graphopt.runtime import census
from graphopt.targets import QuantizationRules
from graphopt.targets.fusion import fusion_table
from graphopt.testing import context, graph, named_target, random_feeds, run
from graphopt.types import DType

Array = np.ndarray[Any, Any]

MODEL = """m (float[N, 4, 6, 6] x) => (float[N, 3] y)
  <float[8, 4, 3, 3] w0, float[8] b0, float[8, 8, 1, 1] w1, float[8, 3] m, float[3] c> {
  [stem] a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
  r = Relu (a)
  t = Tanh (r)
  [body] b = Conv (t, w1)
  h = HardSigmoid (b)
  q = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (h)
  p = GlobalAveragePool (q)
  f = Flatten (p)
  [head] y = Gemm (f, m, c) }"""
X86 = "x86-avx512-vnni"


def insert(model: ir.Graph, target: Any = None, **options: Any) -> tuple[Any, Any]:
    """Run the pass; return its result and the reasons that it gave."""
    asked = context(
        data=random_feeds(model, count=8), model=model, target=target or named_target(X86)
    )
    result = InsertQdq(**{"placement": "integer", **options}).run(model, asked)
    ir.verify(model)
    return result, asked.reasons


@pytest.mark.parametrize("kind", ["int16", "uint16"])
@pytest.mark.parametrize("opset", [12, 17, 21])
def test_activations_have_16_bits_and_weights_8(kind: str, opset: int) -> None:
    model = graph(MODEL, opset=opset)
    original, narrow = model.copy(), model.copy()
    result, reasons = insert(model, activations=kind)
    assert result.modified
    assert model.opset == 21
    ir.infer_shapes(model)
    read = [n.inputs[0] for n in model.nodes("DequantizeLinear")]
    stored = {value.dtype for value in read if value is not None}
    assert stored == {DType[kind.upper()], DType.INT8, DType.INT32}
    assert {n.op for n in model.nodes()} >= {"Tanh", "HardSigmoid", "Conv", "Gemm"}
    if opset >= 13:
        insert(narrow)
    feed = random_feeds(original, count=1, seed=5)[0]
    expected = run(original, feed)
    wide = snr_db(expected, run(model, feed))
    # Weights have 8 bits in both, so that what is gained is what activations lost.
    assert wide > 35
    if opset >= 13:
        assert wide > snr_db(expected, run(narrow, feed))
    assert "simulation: onnxruntime-cpu has no kernel" in reasons["stem"]
    assert result.metrics["integer"] == 0
    assert result.metrics["simulated"] == result.metrics["heavy"] == 3


@pytest.mark.parametrize("kind", ["int16", "uint16"])
def test_the_runtime_executes_none_of_it_in_integer_as_the_table_says(kind: str) -> None:
    """If a newer onnxruntime has kernels for 16 bits, the table has to say so."""
    model = graph(MODEL)
    insert(model, activations=kind)
    found = census(model, named_target(X86))
    assert not [o.node for o in found.heavy if o.integer]
    assert not any("QLinear" in kernel or "QGemm" in kernel for kernel in found.kernels)
    assert kind not in fusion_table("onnxruntime-cpu").activations


def test_a_target_with_16_bits_is_declined_where_no_kernel_takes_them() -> None:
    target = named_target(X86)
    rules = dataclasses.replace(target.quantization, activations="int16")
    model = graph(MODEL)
    result, reasons = insert(model, dataclasses.replace(target, quantization=rules))
    reason = "onnxruntime-cpu has no kernel that computes int16 activations in integer"
    assert not result.modified
    assert result.notes == (reason,)
    assert set(reasons.values()) == {reason}
    assert not model.nodes("QuantizeLinear")


def test_a_quantized_model_is_left_alone() -> None:
    model = graph(MODEL)
    insert(model)
    before = len(model.nodes())
    result, reasons = insert(model, activations="uint16")
    assert not result.modified
    assert result.notes == ("the model is quantized already",)
    assert reasons["head"] == "the model is quantized already"
    assert len(model.nodes()) == before


def test_the_planner_does_not_decide_what_was_asked_for_by_hand() -> None:
    assert is_open(InsertQdq())
    assert not is_open(InsertQdq(activations="int16"))


@pytest.mark.parametrize("high", [1e-6, 1.0, 1e6])
def test_biases_fit_into_32_bits_beside_16_bit_activations(high: float) -> None:
    """Products have 257 times finer steps, so that large biases would not fit."""
    rules = QuantizationRules(activations="uint16")
    weight = np.array([[[1e-3]], [[1.0]]], np.float32)
    bias = np.array([100.0, -1.0])
    step = high / 65535
    params = weight_params(weight, 0, rules, bias, step)
    scale = np.array(params.scale) * step
    stored = quantize_bias(bias, scale)
    assert np.abs(stored.astype(np.int64)).max() < 2**31 - 1
    assert stored * scale == pytest.approx(bias, abs=scale.max())
