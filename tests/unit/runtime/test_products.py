"""Gemm and MatMul: which integer kernel executes them, and the traps on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS = ("x86-avx512-vnni", "arm64-dotprod")
OPSETS = (13, 17, 21)
MIN_SNR_DB = 28.0
"""8 bits through two layers leave about 38 dB."""

HEADS = {
    "matrix": "m (float[N,8] x) => (float[N,4] y)",
    "sequence": "m (float[B,T,8] x) => (float[B,T,4] y)",
    "fixed sequence": "m (float[2,3,8] x) => (float[2,3,4] y)",
}


def model(body: str, constants: str = "", head: str = "matrix") -> str:
    """Return a network of matrix products."""
    return f"{HEADS[head]} <float[8,8] w1, float[8] b1, float[8,4] w2{constants}> {{\n{body}\n}}"


GEMMS = {
    "with bias": ("a = Gemm(x, w1, b1)\n b = Relu(a)\n y = Gemm(b, w2, b2)", ", float[4] b2"),
    "without bias": ("a = Gemm(x, w1)\n b = Relu(a)\n y = Gemm(b, w2)", ""),
    "transB": (
        "a = Gemm<transB=1>(x, w1, b1)\n b = Relu(a)\n y = Gemm<transB=1>(b, w3, b2)",
        ", float[4,8] w3, float[4] b2",
    ),
    "bias of shape [1, N]": (
        "a = Gemm(x, w1, b3)\n b = Relu(a)\n y = Gemm(b, w2, b2)",
        ", float[1,8] b3, float[1,4] b2",
    ),
    "scalar bias": (
        "a = Gemm(x, w1, b3)\n b = Relu(a)\n y = Gemm(b, w2, b2)",
        ", float[1] b3, float b2={0.5}",
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", GEMMS)
def test_gemm_is_qgemm_and_the_last_one_returns_floats(
    quantize: Callable, name: str, opset: int, target: str
) -> None:
    found = quantize(model(*GEMMS[name]), target, opset)
    assert found.kernels == {"QGemm": 2, "QuantizeLinear": 1}
    assert found.snr_db > MIN_SNR_DB


REFUSED = {
    "alpha or beta": ("Gemm<beta=0.5>(x, w1, b1)", "", "alpha = beta = 1"),
    "transA": ("Gemm<transA=1>(t, w1, b1)", "", "cannot transpose"),
    "a bias per row": ("Gemm(x, w1, b3)", ", float[2,1] b3", "from row to row"),
    "a bias per element": ("Gemm(x, w1, b3)", ", float[2,8] b3", "from row to row"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_gemm_that_no_kernel_takes_stays_float_with_the_reason(
    quantize: Callable, name: str
) -> None:
    product, constants, reason = REFUSED[name]
    body = f"t = Transpose<perm=[1,0]>(x)\n [first] a = {product}\n b = Relu(a)\n y = Gemm(b, w2)"
    found = quantize(model(body, constants), TARGETS[0])
    assert found.executed == {"first": False, "y": True}
    assert reason in found.reasons["first"]
    assert found.snr_db > MIN_SNR_DB


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("last", ["Elu(b)", "Softmax(b)", "Gemm<beta=2.0>(b, w1)", "MatMul(b, w4)"])
@pytest.mark.parametrize("product", ["Gemm(x, w1, b1)", "MatMul(x, w1)"])
@pytest.mark.parametrize("activation", ["Relu(a)", "Clip(a, lo)", "Clip(a, low)"])
def test_an_activation_before_a_float_operator_does_not_undo_the_product(
    quantize: Callable, product: str, activation: str, last: str, target: str
) -> None:
    # The runtime looks for a Q behind the activation; without one it dequantizes the weights.
    body = f"[p] a = {product}\n b = {activation}\n [last] y = {last}"
    constants = ", float lo={0.0}, float low={-0.5}, float[8,8] w4"
    text = model(body, constants).replace("float[N,4] y", "float[N,8] y")
    found = quantize(text, target, exclude=("last",))
    assert found.executed["p"]
    assert found.kernels["DequantizeLinear"] <= 1
    assert found.snr_db > MIN_SNR_DB


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("head", ["sequence", "fixed sequence"])
@pytest.mark.parametrize("order", ["a, b1", "b1, a"])
def test_matmul_with_bias_is_integer_from_rank_3_on(
    quantize: Callable, order: str, head: str, opset: int, target: str
) -> None:
    body = f"""a = MatMul(x, w1)
      b = Add({order})
      c = Elu(b)
      d = MatMul(c, w2)
      y = Add(d, b2)"""
    found = quantize(model(body, ", float[4] b2", head), target, opset)
    assert found.kernels == {"MatMulIntegerToFloat": 2, "Add": 2, "Elu": 1, "QuantizeLinear": 2}
    assert found.snr_db > MIN_SNR_DB


def test_a_bias_that_two_products_share_is_lifted_for_both(quantize: Callable) -> None:
    body = """a = MatMul(x, w1)
      b = Add(a, b1)
      c = Elu(b)
      d = MatMul(c, w1)
      f = Add(d, b1)
      g = Elu(f)
      y = MatMul(g, w2)"""
    found = quantize(model(body, head="fixed sequence"), TARGETS[0])
    assert found.kernels["MatMulIntegerToFloat"] == 3
    assert found.graph.find("b1") is None


@pytest.mark.parametrize("bias", ["4", "1,4"])
def test_matmul_with_bias_of_rank_2_is_not_promised_where_it_would_be_a_float_gemm(
    quantize: Callable, bias: str
) -> None:
    body = """[first] a = MatMul(x, w1)
      b = Add(a, b1)
      c = Relu(b)
      [last] d = MatMul(c, w2)
      y = Add(d, b2)"""
    found = quantize(model(body, f", float[{bias}] b2"), TARGETS[0])
    assert found.promised == found.executed == {"first": False, "last": False}
    assert "becomes a Gemm" in found.reasons["last"]
    assert "DequantizeLinear" not in found.kernels


@pytest.mark.parametrize("target", TARGETS)
def test_matmul_of_rank_1_and_2_without_bias(quantize: Callable, target: str) -> None:
    body = "a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2)"
    expected = {"QLinearMatMul": 1, "MatMulIntegerToFloat": 1, "QuantizeLinear": 1}
    assert quantize(model(body), target).kernels == expected
    vector = model(body).replace("float[N,8]", "float[8]").replace("float[N,4]", "float[4]")
    assert quantize(vector, target).kernels == expected


@pytest.mark.parametrize("target", TARGETS)
def test_attention_keeps_products_of_two_activations_in_float(
    quantize: Callable, target: str
) -> None:
    body = """q = MatMul(x, w1)
      k0 = MatMul(x, w3)
      k = Add(k0, b1)
      v = MatMul(x, w4)
      t = Transpose<perm=[0,2,1]>(k)
      [scores] s = MatMul(q, t)
      p = Softmax(s)
      [mix] o = MatMul(p, v)
      y = MatMul(o, w2)"""
    found = quantize(model(body, ", float[8,8] w3, float[8,8] w4", "sequence"), target)
    assert found.kernels["MatMulIntegerToFloat"] == 4
    assert found.promised == found.executed
    assert found.reasons["scores"] == found.reasons["mix"] == "both operands are activations"
    assert "DequantizeLinear" not in found.kernels
    assert found.snr_db > MIN_SNR_DB


@pytest.mark.parametrize("target", TARGETS)
def test_a_residual_around_a_product_stays_integer(quantize: Callable, target: str) -> None:
    body = """a = Gemm(x, w1, b1)
      b = Relu(a)
      c = Gemm(b, w1, b1)
      d = Add(c, b)
      y = Gemm(d, w2)"""
    found = quantize(model(body), target)
    assert found.kernels == {"QGemm": 3, "QLinearAdd": 1, "QuantizeLinear": 1}


@pytest.mark.parametrize("target", TARGETS)
def test_heads_split_and_joined_move_as_integers(quantize: Callable, target: str) -> None:
    body = """a = MatMul(x, w1)
      b = Reshape(a, s4)
      c = Transpose<perm=[0,2,1,3]>(b)
      d = Transpose<perm=[0,2,1,3]>(c)
      f = Reshape(d, s3)
      y = MatMul(f, w2)"""
    shapes = ", int64[4] s4={0,0,2,4}, int64[3] s3={0,0,8}"
    found = quantize(model(body, shapes, "sequence"), target)
    assert found.kernels == {
        "QLinearMatMul": 1, "MatMulIntegerToFloat": 1, "Reshape": 2, "QuantizeLinear": 1
    }  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_a_classifier_s_tail_moves_integers_into_the_last_gemm(
    quantize: Callable, target: str
) -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4] y)
        <float[4,4,3,3] w1, float[4] b1, float[4,4] w2, float[4] b2> {
      a = Conv<pads=[1,1,1,1]>(x, w1, b1)
      b = Relu(a)
      c = GlobalAveragePool(b)
      d = Flatten(c)
      y = Gemm(d, w2, b2) }"""
    found = quantize(text, target)
    assert found.kernels == {
        "QLinearConv": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1,
        "QuantizeLinear": 1,
    }  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_matmul_is_not_promised_where_the_add_of_an_activation_makes_it_a_float_gemm(
    quantize: Callable, target: str
) -> None:
    body = """t = Elu(x)
      [first] a = MatMul(t, w1)
      u = Sin(x)
      b = Add(a, u)
      c = Elu(b)
      [last] y = MatMul(c, w2)"""
    text = model(body).replace("float[N,", "float[2,")
    found = quantize(text, target)
    assert found.promised == found.executed == {"first": False, "last": True}
