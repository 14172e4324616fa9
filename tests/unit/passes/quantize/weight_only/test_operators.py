"""What the runtime computes from stored codes is what the codes stand for."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.quantize.quantize_weights import QuantizeWeights
from graphopt.passes.quantize.weight_only.packing import unpack_bits
from graphopt.runtime import census
from graphopt.testing import context, graph, run

PRODUCT = "g (float[a, 72] x) => (float[a, 40] y) <float[72, 40] w>\n{ y = MatMul(x, w) }"
LOOK_UP = "g (int64[a, b] i) => (float[a, b, 72] y) <float[512, 72] w>\n{ y = Gather(w, i) }"


def by_hand(model: ir.Graph, features: int) -> np.ndarray:
    """The weights of a graph's only MatMulNBits or GatherBlockQuantized, from the specification."""
    node = model.nodes("MatMulNBits", "GatherBlockQuantized")[0]
    look_up = node.op == "GatherBlockQuantized"
    packed, scales = node.inputs[0 if look_up else 1], node.inputs[2]
    points = node.inputs[3] if len(node.inputs) > 3 else None
    assert packed is not None
    assert scales is not None
    bits, size = node.attribute("bits"), node.attribute("block_size")
    rows, count = scales.shape or ()
    width = features if look_up else count * size
    codes = unpack_bits(packed.array().reshape(rows, -1), bits, width)
    zero = np.full((rows, count), 2.0 ** (bits - 1))
    if points is not None and points.array().dtype == np.uint8:
        zero = unpack_bits(points.array(), bits, count)
    elif points is not None:
        zero = points.array()
    spread = np.repeat(np.arange(count), size)[:width]
    found = (codes - zero.astype(np.float64)[:, spread]) * scales.array()[:, spread]
    return np.asarray(found[:, :features])


CODES = [
    (bits, options)
    for bits in (2, 4, 8)
    for options in ({}, {"symmetric": True}, {"zero_points": "fractional"})
    if bits < 8 or "zero_points" not in options  # the runtime has no kernel, the pass refuses it
]


@pytest.mark.parametrize(("bits", "options"), CODES, ids=str)
@pytest.mark.parametrize("block_size", [16, 32, 64, 0])
def test_products(bits: int, block_size: int, options: dict[str, object]) -> None:
    model = graph(PRODUCT)
    step = QuantizeWeights(bits=bits, block_size=block_size, accuracy_level=0, **options)  # type: ignore[arg-type]
    assert step.run(model, context()).modified
    ir.verify(model)
    x = np.random.default_rng(0).standard_normal((5, 72)).astype(np.float32)
    expected = x @ by_hand(model, 72).T
    # 72 float32 products are summed in another order.
    np.testing.assert_allclose(run(model, {"x": x})[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_look_ups(bits: int, symmetric: bool) -> None:
    model = graph(LOOK_UP)
    step = QuantizeWeights(embedding_bits=bits, symmetric=symmetric, block_size=16)
    assert step.run(model, context()).modified
    ir.verify(model)
    ids = np.array([[0, 511, -1], [3, 3, 200]])
    expected = by_hand(model, 72)[ids]
    # One multiplication in float32.
    np.testing.assert_allclose(run(model, {"i": ids})[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("block_size", [16, 0])
def test_plain_onnx_stands_for_the_same_weights(
    bits: int, symmetric: bool, block_size: int
) -> None:
    x = np.random.default_rng(0).standard_normal((5, 72)).astype(np.float32)
    found = []
    for name in ("matmulnbits", "dq"):
        model = graph(PRODUCT)
        QuantizeWeights(
            bits=bits, symmetric=symmetric, block_size=block_size, format=name, accuracy_level=0
        ).run(model, context())
        ir.verify(model)
        found.append(run(model, {"x": x}, optimize=False)[0])
    # 72 float32 products are summed in another order.
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert census(model).kernels == {"com.microsoft.MatMulNBits": 1}


@pytest.mark.parametrize("symmetric", [False, True])
def test_plain_look_ups_dequantize_only_what_they_find(symmetric: bool) -> None:
    ids = np.array([[0, 511, -1], [3, 3, 200]])
    found = []
    for name in ("matmulnbits", "dq"):
        model = graph(LOOK_UP)
        QuantizeWeights(symmetric=symmetric, format=name, block_size=16).run(model, context())
        ir.verify(model)
        found.append(run(model, {"i": ids})[0])
    # One multiplication in float32.
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-7)
    node = model.nodes("DequantizeLinear")[0]
    assert [v.producer.op for v in node.inputs if v and v.producer] == ["Gather"] * len(node.inputs)


@pytest.mark.parametrize(
    "attributes",
    ["", "<transB=1>", "<beta=0.5>", "<transB=1, beta=2.0>"],
)
@pytest.mark.parametrize("shape", ["40", "1, 40", "1", "3, 40"])
@pytest.mark.parametrize("layout", ["matmulnbits", "dq"])
def test_gemm_keeps_its_bias(attributes: str, shape: str, layout: str) -> None:
    stored = "40, 72" if "transB" in attributes else "72, 40"
    text = (
        f"g (float[3, 72] x) => (float[3, 40] y) <float[{stored}] w, float[{shape}] c>\n"
        f"{{ y = Gemm {attributes} (x, w, c) }}"
    )
    model = graph(text)
    x = np.random.default_rng(0).standard_normal((3, 72)).astype(np.float32)
    expected = run(model, {"x": x})[0]
    step = QuantizeWeights(bits=8, block_size=16, accuracy_level=0, format=layout)
    step.run(model, context())
    ir.verify(model)
    assert [v.name for v in model.outputs] == ["y"]
    # 8-bit weights of up to 2, 72 of them.
    np.testing.assert_allclose(run(model, {"x": x})[0], expected, rtol=0, atol=0.25)


def test_half_precision() -> None:
    text = "g (float16[a, 64] x) => (float16[a, 40] y) <float16[64, 40] w>\n{ y = MatMul(x, w) }"
    model = graph(text)
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float16)
    expected = run(model, {"x": x})[0]
    QuantizeWeights(bits=8, accuracy_level=0).run(model, context())
    assert model.nodes()[0].op == "MatMulNBits"
    # 8-bit weights and float16 sums of 64 products.
    np.testing.assert_allclose(run(model, {"x": x})[0], expected, rtol=0, atol=0.2)
