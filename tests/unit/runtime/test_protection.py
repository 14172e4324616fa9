"""What must stay float between integers is not quantized by the runtime when it loads the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt.runtime import census
from graphopt.testing import named_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph

TARGETS = ("x86-avx512-vnni", "arm64-dotprod")
PAD = "pads=[1,1,1,1]"
MIN_SNR_DB = 28.0

AFTER = ", float[4] v={1,1,1,1}, float[1,4,1,1] k, int64[1] s={0}, int64[1] e={4}, int64[1] ax={2}"
PADS = ", int64[8] pd={0,0,1,1,0,0,1,1}"

FLOAT_CONV = {
    "alone": "[kept] c = Conv<{pad}>(a, w1, b1)",
    "without bias": "[kept] c = Conv<{pad}>(a, w1)",
    "depthwise": "[kept] c = Conv<{pad},group=4>(a, w4, b1)",
    "with Relu": "[kept] d = Conv<{pad}>(a, w1, b1)\n c = Relu(d)",
    "with Clip": "[kept] d = Conv<{pad}>(a, w1, b1)\n c = Clip(d, lo, hi)",
    # The runtime moves the Q back over these …
    "then MaxPool": "[kept] d = Conv<{pad}>(a, w1, b1)\n c = MaxPool<kernel_shape=[2,2]>(d)",
    "then Transpose": "[kept] d = Conv<{pad}>(a, w1, b1)\n c = Transpose<perm=[0,1,3,2]>(d)",
    "then Slice": "[kept] d = Conv<{pad}>(a, w1, b1)\n c = Slice(d, s, e, ax)",
    # … or merges these …
    "then BatchNormalization": (
        "[kept] d = Conv<{pad}>(a, w1, b1)\n c = BatchNormalization(d, b1, b1, b1, v)"
    ),
    "then Mul": "[kept] d = Conv<{pad}>(a, w1, b1)\n c = Mul(d, k)",
    # … and moves the DQ forward over these, or drops them.
    "behind Transpose": "d = Transpose<perm=[0,1,3,2]>(a)\n [kept] c = Conv<{pad}>(d, w1, b1)",
    "behind Slice": "d = Slice(a, s, e, ax)\n [kept] c = Conv<{pad}>(d, w1, b1)",
    "behind Identity": "d = Identity(a)\n [kept] c = Conv<{pad}>(d, w1, b1)",
    "behind Pad": "d = Pad(a, pd)\n [kept] c = Conv(d, w1, b1)",
    "behind MaxPool": "d = MaxPool<kernel_shape=[2,2]>(a)\n [kept] c = Conv<{pad}>(d, w1, b1)",
    "in a residual": "[kept] d = Conv<{pad}>(a, w1, b1)\n c = Add(d, a)",
}


def between(body: str) -> str:
    """Return ``body`` between two convolutions; it reads ``a`` and returns ``c``."""
    return f"""m (float[1,4,8,8] x) => (float[M,4,H,W] y)
        <float[4,4,3,3] w1, float[4] b1, float[4,4,1,1] w2, float[4,1,3,3] w4,
         float[4,4,2,2] wt, float lo={{0.0}}, float hi={{6.0}}{AFTER}{PADS}> {{
      first = Conv<{PAD}>(x, w1, b1)
      a = Relu(first)
      {body.format(pad=PAD)}
      [last] y = Conv(c, w2) }}"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("name", FLOAT_CONV)
def test_an_excluded_conv_between_integers_stays_float(
    quantize: Callable, name: str, opset: int, target: str
) -> None:
    found = quantize(between(FLOAT_CONV[name]), target, opset, exclude=("kept",))
    assert found.executed == {"first": True, "kept": False, "last": True}
    assert found.reasons["kept"] == "float between integers; protected from quantization at load"
    assert found.snr_db > MIN_SNR_DB


@pytest.mark.parametrize("name", ["alone", "then MaxPool", "behind Transpose"])
def test_without_the_protection_the_runtime_quantizes_it(quantize: Callable, name: str) -> None:
    found = quantize(between(FLOAT_CONV[name]), TARGETS[0], exclude=("kept",))
    graph = found.graph.copy()
    assert _make_per_tensor(graph) == 1
    executed = {e.node: e.integer for e in census(graph, named_target(TARGETS[0])).heavy}
    assert executed["kept"]


def _make_per_tensor(graph: Graph) -> int:
    """Undo the protection: one scale instead of equal ones per channel."""
    undone = 0
    for node in graph.nodes("DequantizeLinear"):
        stored, scale, zero = node.inputs
        if stored is None or stored.is_constant or node.attribute("axis") is None:
            continue
        assert scale is not None
        assert zero is not None
        assert len(set(scale.array().tolist())) == len(set(zero.array().tolist())) == 1
        node.set_input(1, graph.add_constant("one_scale", scale.array()[0]))
        node.set_input(2, graph.add_constant("one_zero", zero.array()[0]))
        node.set_attribute("axis", None)
        undone += 1
    return undone


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bias", ["", ", b1"])
def test_conv_transpose_between_integers_stays_float(
    quantize: Callable, bias: str, target: str
) -> None:
    found = quantize(between(f"[kept] c = ConvTranspose<strides=[2,2]>(a, wt{bias})"), target)
    assert found.kernels["ConvTranspose"] == 1
    assert found.reasons["kept"] == "float between integers; protected from quantization at load"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("after", ["c = Identity(d)", "c = Relu(d)", "c = Add(d, b)"])
def test_an_excluded_gemm_between_integers_stays_float(
    quantize: Callable, after: str, target: str
) -> None:
    text = f"""m (float[N,8] x) => (float[N,4] y) <float[8,8] w1, float[8] b1, float[8,4] w2> {{
      [first] a = Gemm(x, w1, b1)
      b = Relu(a)
      [kept] d = Gemm(b, w1, b1)
      {after}
      [last] y = Gemm(c, w2) }}"""
    found = quantize(text, target, exclude=("kept",))
    assert found.executed == {"first": True, "kept": False, "last": True}
    assert found.snr_db > MIN_SNR_DB


HELD = {
    "Add": "b = Conv<{pad}>(a, w1, b1)\n [kept] c = Add(b, a)",
    "Mul": "[kept] c = Mul(a, k)",
    "Sigmoid": "[kept] c = Sigmoid(a)",
    "GlobalAveragePool": "[kept] c = GlobalAveragePool(a)",
    "Concat": "[kept] c = Concat<axis=2>(a, a)",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", HELD)
def test_an_excluded_elementwise_operator_stays_float(
    quantize: Callable, op: str, target: str
) -> None:
    found = quantize(between(HELD[op]), target, exclude=("kept",))
    assert found.kernels[op] == 1
    assert f"QLinear{op}" not in found.kernels
    assert found.promised == found.executed
    assert found.snr_db > MIN_SNR_DB


def test_two_excluded_convolutions_in_a_row_need_no_protection(quantize: Callable) -> None:
    body = "[kept1] b = Conv<{pad}>(a, w1, b1)\n [kept2] c = Conv<{pad}>(b, w1, b1)"
    found = quantize(between(body), TARGETS[0], exclude=("kept*",))
    assert found.executed == {"first": True, "kept1": False, "kept2": False, "last": True}
    assert found.reasons["kept1"] == "excluded by the recipe"
