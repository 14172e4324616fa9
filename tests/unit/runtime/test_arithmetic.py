"""What heavy operators compute in is what onnxruntime is seen to do."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.errors import ModelError
from graphopt.runtime import arithmetic, census, open_session
from graphopt.runtime.arithmetic import why_weight_only
from graphopt.testing import graph, named_target, random_feeds

if TYPE_CHECKING:
    from graphopt import ir

X86, ARM, OLD_ARM = "x86-avx512-vnni", "arm64-dotprod", "arm64-neon"
ROUNDED = 1e-4
"""Relative difference above which activations were rounded; float sums differ by 1e-6."""


def packed(bits: int, block: int, zeros: str, level: int) -> ir.Graph:
    """Return a model with a MatMulNBits ``y``, and the same at level 0, which is float."""
    blocks = 256 // block
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.integers(0, 256, (16, blocks, block * bits // 8), dtype=np.uint8),
        "s": rng.uniform(0.5, 1.5, 16 * blocks).astype(np.float32),
    }
    held = f"uint8[16, {blocks}, {block * bits // 8}] w, float[{16 * blocks}] s"
    if zeros:
        count = 16 * (-(-blocks * bits // 8) if zeros == "uint8" else blocks)
        constants["z"] = rng.integers(0, 1 << bits, count).astype(
            np.uint8 if zeros == "uint8" else np.float32
        )
        held += f", {zeros}[{count}] z"
    shared = f"K=256, N=16, bits={bits}, block_size={block}"
    given = "x, w, s, z" if zeros else "x, w, s"
    return graph(
        f"m (float[3, 256] x) => (float[3, 16] y, float[3, 16] plain) <{held}> {{"
        f" y = com.microsoft.MatMulNBits<{shared}, accuracy_level={level}>({given})"
        f" plain = com.microsoft.MatMulNBits<{shared}, accuracy_level=0>({given}) }}",
        **constants,
    )


@pytest.mark.parametrize(
    ("bits", "block", "zeros", "level"),
    [*product((2, 4, 8), (16, 32, 128), ("", "uint8", "float"), (4,)), *product(
        (2, 4, 8), (32,), ("",), (0, 1)
    )],
)  # fmt: skip
def test_packed_weights_are_multiplied_as_is_said(
    bits: int, block: int, zeros: str, level: int
) -> None:
    model = packed(bits, block, zeros, level)
    found, plain = census(model).heavy
    assert found.kernel == plain.kernel == "MatMulNBits"
    assert (plain.arithmetic, plain.why is None) == ("weight-only", False)
    try:
        result, reference = open_session(model).run(random_feeds(model)[0])
    except ModelError:
        assert (bits, zeros) == (8, "float")
        return
    rounded = np.abs(result - reference).max() / np.abs(reference).max() > ROUNDED
    assert found.integer == rounded
    assert (found.why is None) == rounded


def test_level_one_and_machines_without_dot_products_compute_in_float() -> None:
    node = packed(4, 32, "", 4).nodes("MatMulNBits")[0]
    assert [arithmetic(node, named_target(t)) for t in (X86, ARM, OLD_ARM)] == [
        "integer", "integer", "weight-only",
    ]  # fmt: skip
    assert "no dot products" in str(why_weight_only(node, named_target(OLD_ARM)))
    other = packed(4, 32, "", 1).nodes("MatMulNBits")[0]
    assert "accuracy_level is 1" in str(why_weight_only(other))


W8 = np.arange(64 * 64, dtype=np.int64).reshape(64, 64)
UNSIGNED, SIGNED = (W8 % 255).astype(np.uint8), (W8 % 255 - 127).astype(np.int8)
Q = "<uint8[64, 64] w, float s = {0.1}, uint8 z = {128}>"
CASES = {
    "dynamic": (
        "(float[2, 64] x) => (float[2, 64] y) <int8[64, 64] w, float[64] s> {"
        " y = com.microsoft.DynamicQuantizeMatMul (x, w, s) }",
        {"w": SIGNED, "s": np.ones(64, np.float32)},
        ("DynamicQuantizeMatMul", "integer"),
    ),
    "dynamic of standard operators": (
        f"(float[2, 64] x) => (float[2, 64] y) {Q} {{"
        " q, a, b = DynamicQuantizeLinear (x) i = MatMulInteger (q, w, b, z)"
        " f = Cast<to=1> (i) t = Mul (a, s) y = Mul (f, t) }",
        {"w": UNSIGNED},
        ("DynamicQuantizeMatMul", "integer"),
    ),
    "MatMulInteger": (
        f"(uint8[2, 64] x) => (int32[2, 64] y) {Q} {{ y = MatMulInteger (x, w) }}",
        {"w": UNSIGNED},
        ("MatMulInteger", "integer"),
    ),
    "QLinearMatMul": (
        f"(uint8[2, 64] x) => (uint8[2, 64] y) {Q} {{ y = QLinearMatMul (x,s,z,w,s,z,s,z) }}",
        {"w": UNSIGNED},
        ("QLinearMatMul", "integer"),
    ),
    "ConvInteger": (
        "(uint8[1, 4, 8, 8] x) => (int32[1, 4, 8, 8] y) <uint8[4, 4, 1, 1] w> {"
        " y = ConvInteger (x, w) }",
        {"w": UNSIGNED.reshape(-1)[:16].reshape(4, 4, 1, 1)},
        ("ConvInteger", "integer"),
    ),
    "QLinearConv": (
        "(uint8[1, 4, 8, 8] x) => (uint8[1, 4, 8, 8] y)"
        " <uint8[4, 4, 1, 1] w, float s = {0.1}, uint8 z = {128}> {"
        " y = QLinearConv (x, s, z, w, s, z, s, z) }",
        {"w": UNSIGNED.reshape(-1)[:16].reshape(4, 4, 1, 1)},
        ("QLinearConv", "integer"),
    ),
    "weights of a float product behind a DQ": (
        "(float[2, 64] x) => (float[2, 64] y) <int8[64, 64] w, float[2, 64] s> {"
        " d = DequantizeLinear<axis=0, block_size=32> (w, s) y = MatMul (x, d) }",
        {"w": SIGNED, "s": np.ones((2, 64), np.float32)},
        ("MatMulNBits", "integer"),
    ),
    "attention": (
        "(float[1, 2, 4, 8] q, float[1, 2, 4, 8] k) => (float[1, 2, 4, 8] y) {"
        " y = Attention (q, k, k) }",
        {},
        ("Attention", "float"),
    ),
    "LSTM": (
        "(float[3, 1, 4] x) => (float[3, 1, 1, 4] y) <float[1, 16, 4] w> {"
        " y = LSTM<hidden_size=4> (x, w, w) }",
        {"w": np.ones((1, 16, 4), np.float32)},
        ("LSTM", "float"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_heavy_operator_is_counted_as_it_is_executed(name: str) -> None:
    text, constants, expected = CASES[name]
    model = graph(f"m {text}", opset=23, **constants)
    found = census(model)
    assert [(e.kernel, e.arithmetic) for e in found.heavy] == [expected]
    assert any(expected[0] == k.rpartition(".")[2] for k in found.kernels)


def test_integer_operators_that_are_not_executed_are_not_counted() -> None:
    model = graph(
        f"m (uint8[2, 64] x) => (int32[2, 64] y) {Q} {{"
        " a = MatMulInteger (x, w) b = MatMulInteger (x, w) y = Add (a, b) }",
        w=UNSIGNED,
    )
    found = census(model)
    assert found.kernels["MatMulInteger"] == 1
    assert len(found.heavy) == 1
