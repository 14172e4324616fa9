"""Products that are scaled at run time: which kernel they get, and what it computes."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls, choose_kernel, gains
from graphopt.pipeline.verifier import snr_db
from graphopt.runtime import census, open_session
from graphopt.testing import context, graph, random_feeds

MIXED = """m (float[1, 300] x, float[N, 300] s) => (float[1, 256] y, float[N, 256] z)
    <float[300, 256] w, float[256, 300] t, float[256] b, float[256, 256] v> {
  [one] y = MatMul (x, w)
  [gemm] g = Gemm <transB = 1> (s, t, b)
  [bias] p = MatMul (g, v)
  z = Add (p, b) }"""


def quantized(mode: str, target: str = "x86-avx512-vnni") -> tuple[ir.Graph, ir.Graph]:
    model = graph(MIXED)
    after = model.copy()
    QuantizeMatmuls(mode).run(after, context(target=target))
    ir.verify(after)
    return model, after


@pytest.mark.parametrize("mode", ["by-rows", "dynamic", "weight-only"])
def test_the_result_is_within_the_noise_of_eight_bits(mode: str) -> None:
    before, after = quantized(mode)
    rng = np.random.default_rng(0)
    feed = {
        "x": rng.standard_normal((1, 300)).astype(np.float32),
        "s": rng.standard_normal((40, 300)).astype(np.float32),
    }
    wanted, found = open_session(before).run(feed), open_session(after).run(feed)
    assert snr_db(wanted, found) > 33.0  # two products in a row, activations of one range


def test_the_kernel_follows_the_number_of_rows() -> None:
    _, after = quantized("by-rows")
    assert {n.name: n.op for n in after.nodes()} == {
        "one": "MatMulNBits",
        "gemm": "DynamicQuantizeMatMul",
        "bias": "DynamicQuantizeMatMul",
    }
    assert after.opsets["com.microsoft"] == 1
    kernels = census(after).kernels
    assert kernels["com.microsoft.MatMulNBits"] == 1
    assert kernels["com.microsoft.DynamicQuantizeMatMul"] == 2


def test_the_constants_are_a_quarter_of_the_size() -> None:
    # Scales, and 300 rows in blocks of 128, take the rest.
    before, after = quantized("by-rows")
    assert ir.tensor_bytes(after) < 0.29 * ir.tensor_bytes(before)


@pytest.mark.parametrize(
    ("rows", "size", "kernel"),
    [
        (1, 64 * 64, "float"),
        (1, 512 * 512, "weight-only"),
        (2, 128 * 128, "float"),
        (2, 512 * 512, "dynamic"),
        (160, 64 * 64, "dynamic"),
        (16, 64 * 64, "float"),
        (None, 64 * 172, "dynamic"),
        (None, 16 * 16, "float"),
    ],
)
def test_choice(rows: int | None, size: int, kernel: str) -> None:
    assert choose_kernel(rows, size) == kernel


def test_an_excluded_product_stays_and_says_why() -> None:
    model, asked = graph(MIXED), context()
    QuantizeMatmuls("by-rows", exclude=("g*",)).run(model, asked)
    assert [n.name for n in model.nodes("Gemm")] == ["gemm"]
    assert asked.reasons == {"gemm": "excluded by the recipe"}


def test_products_of_activations_and_scaled_ones_stay() -> None:
    model = graph(
        """m (float[N, 64] a, float[64, 512] b) => (float[N, 512] y, float[N, 512] z)
        <float[64, 512] w> {
      [free] y = MatMul (a, b)
      [scaled] z = Gemm <alpha = 0.5> (a, w) }"""
    )
    asked = context()
    assert not any(gains(n) for n in model.nodes())
    assert not QuantizeMatmuls("by-rows").run(model, asked).modified
    assert asked.reasons["scaled"] == "alpha and beta are not 1"
    assert "run time" in asked.reasons["free"]


def test_another_runtime_has_no_such_operators() -> None:
    model = graph(MIXED)
    result = QuantizeMatmuls("by-rows").run(model, context(target="cortex-m7"))
    assert not result.modified


def test_a_weight_that_others_read_stays_in_the_file() -> None:
    model = graph(
        """m (float[N, 64] a) => (float[N, 512] y, float[64, 512] z) <float[64, 512] w> {
      y = MatMul (a, w)
      z = Neg (w) }"""
    )
    before = model.copy()
    QuantizeMatmuls("dynamic").run(model, context())
    ir.verify(model)
    feeds = random_feeds(before, count=1)
    assert open_session(model).run(feeds[0])[1] == pytest.approx(
        open_session(before).run(feeds[0])[1], abs=0
    )


def test_off_and_auto_change_nothing() -> None:
    for mode in ("off", "auto"):
        assert not QuantizeMatmuls(mode).run(graph(MIXED), context()).modified


def test_an_unknown_mode_is_the_recipes_fault() -> None:
    with pytest.raises(RecipeError, match="`fast` is not a mode"):
        QuantizeMatmuls("fast")


def test_without_dot_products_one_row_is_computed_in_integers_all_the_same() -> None:
    _, after = quantized("by-rows", target="arm64-neon")
    assert {n.op for n in after.nodes()} == {"DynamicQuantizeMatMul"}
