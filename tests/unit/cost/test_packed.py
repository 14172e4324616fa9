"""Products that are quantized already, and DQ that several operators read, are priced as run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.cost import Roofline, group_kernels
from graphopt.cost.shapes import sized
from graphopt.cost.work import macs_of
from graphopt.runtime import census
from graphopt.testing import graph, named_target

if TYPE_CHECKING:
    from graphopt import ir

X86, ARM, OLD_ARM = (named_target(t) for t in ("x86-avx512-vnni", "arm64-dotprod", "arm64-neon"))
INNER, COLUMNS, BLOCK = 256, 64, 32


def packed(rows: int, bits: int = 4, level: int = 4) -> ir.Graph:
    """Return a product of packed weights and what reads it; its shape is not declared."""
    blocks, width = INNER // BLOCK, BLOCK * bits // 8
    common = f"K={INNER}, N={COLUMNS}, bits={bits}, block_size={BLOCK}, accuracy_level={level}"
    return graph(
        f"m (float[{rows}, {INNER}] x) => (float[{rows}, {COLUMNS}] y)"
        f" <uint8[{COLUMNS}, {blocks}, {width}] w, float[{COLUMNS * blocks}] s> {{"
        f" a = com.microsoft.MatMulNBits<{common}>(x, w, s) y = Erf(a) }}",
        w=np.zeros((COLUMNS, blocks, width), np.uint8),
        s=np.ones(COLUMNS * blocks, np.float32),
    )


def dynamic(rows: int) -> ir.Graph:
    """Return a product that is scaled at run time; its shape is not declared."""
    return graph(
        f"m (float[{rows}, {INNER}] x) => (float[{rows}, {COLUMNS}] y)"
        f" <int8[{INNER}, {COLUMNS}] w, float[{COLUMNS}] s> {{"
        " a = com.microsoft.DynamicQuantizeMatMul(x, w, s) y = Erf(a) }",
        w=np.zeros((INNER, COLUMNS), np.int8),
        s=np.ones(COLUMNS, np.float32),
    )


@pytest.mark.parametrize(("rows", "kind"), [(1, "gemv"), (64, "gemm")])
@pytest.mark.parametrize("make", [packed, dynamic])
def test_products_without_declared_shapes_are_priced(make, rows, kind):
    product, erf = Roofline().estimate(make(rows), X86).kernels
    assert (product.kind, product.dtype) == (kind, "int8")
    assert product.macs == rows * INNER * COLUMNS
    assert erf.latency_us > 0


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_weights_count_as_many_bytes_as_they_have(bits):
    weights = INNER * COLUMNS * bits // 8
    scales = INNER // BLOCK * COLUMNS * 4
    product = Roofline().estimate(packed(1, bits), X86).kernels[0]
    assert product.bytes_moved == weights + scales + 4 * (INNER + COLUMNS)


@pytest.mark.parametrize(
    ("level", "target", "dtype"),
    [(4, X86, "int8"), (0, X86, "float32"), (4, ARM, "int8"), (4, OLD_ARM, "float32")],
)
def test_arithmetic_depends_on_level_and_target(level, target, dtype):
    assert Roofline().estimate(packed(1, 4, level), target).kernels[0].dtype == dtype


def test_weights_of_8_bits_are_unpacked_every_time_for_float_arithmetic():
    """256 x 256, Zen 4: 86 us at level 0, 6 to 9 us at level 4, 10 us with 4 bits at level 0."""
    times = {
        key: Roofline().estimate(packed(1, *key), X86).kernels[0].latency_us
        for key in ((8, 0), (8, 4), (4, 0))
    }
    assert times[8, 0] > 5 * times[8, 4]
    assert times[8, 0] > 5 * times[4, 0]


SHARED = {
    "two readers": "y = Erf(d) z = Sin(d)",
    "one reader twice": "y = Mul(d, d) z = Sin(x)",
    "a reader and an output": "y = Erf(d) z = Identity(d)",
    "an integer reader": "e = DequantizeLinear(w, s, none) c = Conv(d, e)"
    " r = QuantizeLinear(c, s, zero) y = DequantizeLinear(r, s, zero) z = Erf(d)",
}


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_dequantize_runs_once_per_reader_as_in_onnxruntime(name):
    model = graph(
        "m (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y, float[1, 4, 4, 4] z)"
        " <float s = {0.1}, uint8 zero = {128}, int8 none = {0}, int8[4, 4, 1, 1] w> {"
        " q = QuantizeLinear(x, s, zero) d = DequantizeLinear(q, s, zero)"
        f" {SHARED[name]} }}",
        w=np.ones((4, 4, 1, 1), np.int8),
    )
    known, _ = sized(model, {})
    priced = Counter(k.name for k in group_kernels(known, X86))
    executed = census(model, X86).kernels
    assert priced["DequantizeLinear"] == executed["DequantizeLinear"]


def test_shared_weights_are_not_packed_at_load():
    model = graph(
        "m (float[3, 64] x) => (float[3, 64] y) <int8[64, 64] w, float s = {0.1}, int8 z = {0}> {"
        " d = DequantizeLinear(w, s, z) c = MatMul(x, d) t = Erf(c) y = MatMul(t, d) }",
        w=np.ones((64, 64), np.int8),
    )
    known, _ = sized(model, {})
    names = Counter(k.name for k in group_kernels(known, X86))
    assert names == {"DequantizeLinear": 2, "MatMul": 2, "Erf": 1}
    assert census(model, X86).kernels == names


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        ("(float[1, 4, 6, 16] q, float[1, 2, 10, 16] k, float[1, 2, 10, 8] v) "
         "=> (float[1, 4, 6, 8] y) { y = Attention(q, k, v) }", 4 * 6 * 10 * (16 + 8)),
        ("(float[1, 6, 64] q, float[1, 10, 32] k, float[1, 10, 32] v) => (float[1, 6, 64] y) {"
         " y = Attention<q_num_heads=4, kv_num_heads=2>(q, k, v) }", 6 * 10 * (64 + 64)),
    ],
)  # fmt: skip
def test_attention_of_opset_23_counts_both_products(text, macs):
    model = graph(f"m {text}", opset=23)
    assert macs_of(model.nodes("Attention")[0]) == macs
