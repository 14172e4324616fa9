"""Every rule of the fusion table: between integers, the operator is executed in integer.

Each operator stands between two integer convolutions; nothing but the Q of the input and the DQ
of the output may be left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from graphopt.runtime import census
from graphopt.targets.fusion import fusion_table
from graphopt.testing import graph

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS = ("x86-avx512-vnni", "arm64-dotprod")
"""u8 activations with s8 weights; s8 with s8, through ``session.qdqisint8allowed``."""

MIN_SNR_DB = 27.0
"""8 bits through three layers leave about 35 dB; a wrong parameter leaves less than 20."""


class Case(NamedTuple):
    """One operator between two convolutions: reads ``a`` and returns ``c``, both integer."""

    body: str
    kernels: dict[str, int]
    constants: str = ""
    channels: int = 4
    opsets: tuple[int, ...] = (13, 17, 21)


def _conv(attributes: str, weight: str, bias: str = ", b3") -> Case:
    constants = f", float[{weight}] w3, float[4] b3" if bias else f", float[{weight}] w3"
    return Case(f"c = Conv<{attributes}>(a, w3{bias})", {"QLinearConv": 3}, constants)


def _unary(op: str, kernel: str, **given: object) -> Case:
    return Case(f"c = {op}", {"QLinearConv": 2, kernel: 1}, **given)  # type: ignore[arg-type]


PAD = "pads=[1,1,1,1]"
SLICE = ", int64[1] s={1}, int64[1] e={5}, int64[1] ax={2}"
SCALES = ", float[4] sc={1.0,1.0,2.0,2.0}"
FOUR = ", float[4,4,3,3] w3, float[4] b3"

CASES: dict[str, Case] = {
    "Conv": _conv(PAD, "4,4,3,3"),
    "Conv without bias": _conv(PAD, "4,4,3,3", ""),
    "Conv depthwise": _conv(f"group=4,{PAD}", "4,1,3,3"),
    "Conv depthwise without bias": _conv(f"group=4,{PAD}", "4,1,3,3", ""),
    "Conv grouped": _conv(f"group=2,{PAD}", "4,2,3,3"),
    "Conv strided, padded by the operator": _conv('auto_pad="SAME_UPPER",strides=[2,2]', "4,4,3,3"),
    "Conv dilated": _conv("dilations=[2,2]", "4,4,3,3"),
    "Conv with shared weights": Case(
        f"b = Conv<{PAD}>(a, w1, b1)\n  c = Conv<{PAD}>(b, w1, b1)", {"QLinearConv": 4}
    ),
    "Relu": Case(f"d = Conv<{PAD}>(a, w3, b3)\n  c = Relu(d)", {"QLinearConv": 3}, FOUR),
    "Clip": Case(
        f"d = Conv<{PAD}>(a, w3, b3)\n  c = Clip(d, lo, hi)",
        {"QLinearConv": 3},
        FOUR + ", float lo={0.0}, float hi={6.0}",
    ),
    "Clip without maximum": Case(
        f"d = Conv<{PAD}>(a, w3, b3)\n  c = Clip(d, lo)",
        {"QLinearConv": 3},
        FOUR + ", float lo={0.0}",
    ),
    "Add": Case(
        f"d = Conv<{PAD}>(a, w3, b3)\n  c = Add(d, a)", {"QLinearConv": 3, "QLinearAdd": 1}, FOUR
    ),
    "Add and Relu": Case(
        f"d = Conv<{PAD}>(a, w3, b3)\n  f = Add(d, a)\n  c = Relu(f)",
        {"QLinearConv": 3, "QLinearAdd": 1},
        FOUR,
    ),
    "Add of itself": _unary("Add(a, a)", "QLinearAdd"),
    "Add of a constant": _unary("Add(a, k)", "QLinearAdd", constants=", float[1,4,1,1] k"),
    "Add of a negative number": _unary("Add(a, k)", "QLinearAdd", constants=", float k={-3.0}"),
    "Mul of a constant": _unary("Mul(a, k)", "QLinearMul", constants=", float[1,4,1,1] k"),
    "Mul: SiLU": Case(
        "d = Sigmoid(a)\n  c = Mul(a, d)",
        {"QLinearConv": 2, "QLinearSigmoid": 1, "QLinearMul": 1},
    ),
    "Mul: squeeze and excitation": Case(
        "d = GlobalAveragePool(a)\n  f = Conv(d, w3)\n  g = Sigmoid(f)\n  c = Mul(a, g)",
        {"QLinearConv": 3, "QLinearSigmoid": 1, "QLinearMul": 1, "QLinearGlobalAveragePool": 1},
        ", float[4,4,1,1] w3",
    ),
    "Sigmoid": _unary("Sigmoid(a)", "QLinearSigmoid"),
    "LeakyRelu": _unary("LeakyRelu<alpha=0.1>(a)", "QLinearLeakyRelu"),
    "AveragePool": _unary("AveragePool<kernel_shape=[2,2]>(a)", "QLinearAveragePool"),
    "AveragePool counting the padding": _unary(
        f"AveragePool<kernel_shape=[3,3],count_include_pad=1,{PAD}>(a)", "QLinearAveragePool"
    ),
    "AveragePool not counting the padding": _unary(
        f"AveragePool<kernel_shape=[3,3],count_include_pad=0,{PAD}>(a)", "QLinearAveragePool"
    ),
    "AveragePool rounding up": _unary(
        "AveragePool<kernel_shape=[3,3],strides=[2,2],ceil_mode=1>(a)", "QLinearAveragePool"
    ),
    "AveragePool padded by the operator": _unary(
        'AveragePool<kernel_shape=[3,3],strides=[2,2],auto_pad="SAME_UPPER">(a)',
        "QLinearAveragePool",
    ),
    "GlobalAveragePool": _unary("GlobalAveragePool(a)", "QLinearGlobalAveragePool"),
    "Concat": Case(
        f"d = Conv<{PAD}>(x, w3)\n  c = Concat<axis=1>(a, d)",
        {"QLinearConv": 3, "QLinearConcat": 1},
        ", float[4,4,3,3] w3",
        8,
    ),
    "Concat with a constant": _unary(
        "Concat<axis=1>(a, k)", "QLinearConcat", constants=", float[1,4,8,8] k", channels=8
    ),
    "MaxPool": _unary("MaxPool<kernel_shape=[2,2],strides=[2,2]>(a)", "NhwcMaxPool"),
    "MaxPool rounding up": _unary(
        "MaxPool<kernel_shape=[3,3],strides=[2,2],ceil_mode=1>(a)", "NhwcMaxPool"
    ),
    "MaxPool dilated": _unary("MaxPool<kernel_shape=[3,3],dilations=[2,2]>(a)", "NhwcMaxPool"),
    "Slice": _unary("Slice(a, s, e, ax)", "Slice", constants=SLICE),
    "Slice in steps": _unary(
        "Slice(a, s, e, ax, st)", "Slice", constants=SLICE + ", int64[1] st={2}"
    ),
    "Resize by scales": _unary('Resize<mode="nearest">(a, , sc)', "Resize", constants=SCALES),
    "Resize to sizes": _unary(
        'Resize<mode="nearest">(a, , , sz)', "Resize", constants=", int64[4] sz={1,4,16,16}"
    ),
    "Resize asymmetric": _unary(
        'Resize<mode="nearest",coordinate_transformation_mode="asymmetric",nearest_mode="floor">'
        "(a, , sc)",
        "Resize",
        constants=SCALES,
    ),
    "Transpose": Case("c = Transpose<perm=[0,1,3,2]>(a)", {"QLinearConv": 2}),
    "Reshape": _unary("Reshape(a, sh)", "Reshape", constants=", int64[4] sh={1,4,16,4}"),
    "Reshape: channel shuffle": Case(
        "d = Reshape(a, s5)\n  f = Transpose<perm=[0,2,1,3,4]>(d)\n  c = Reshape(f, s4)",
        {"QLinearConv": 2, "Reshape": 2},
        ", int64[5] s5={0,2,2,8,8}, int64[4] s4={0,4,8,8}",
    ),
    "Reshape to the shape of another": Case(
        "sh = Shape(a)\n  d = Flatten(a)\n  c = Reshape(d, sh)",
        {"QLinearConv": 2, "Flatten": 1, "Reshape": 1},
    ),
    "Squeeze and Unsqueeze": Case(
        "d = Squeeze(a, ax)\n  c = Unsqueeze(d, ax)",
        {"QLinearConv": 2, "Squeeze": 1, "Unsqueeze": 1},
        ", int64[1] ax={0}",
    ),
    "Softmax": _unary("Softmax<axis=1>(a)", "QLinearSoftmax"),
    "Softmax over the last axis": _unary("Softmax(a)", "QLinearSoftmax"),
    "Where": Case(
        f"d = Conv<{PAD}>(a, w3, b3)\n  c = Where(m, a, d)",
        {"QLinearConv": 3, "QLinearWhere": 1},
        FOUR + ", bool[8] m={1,0,0,1,1,0,1,0}",
    ),
    "Where: one of the two is constant": _unary(
        "Where(m, a, k)",
        "QLinearWhere",
        constants=", bool[8] m={1,0,0,1,1,0,1,0}, float k={-1.0}",
    ),
    "ReduceMax": Case(
        "c = ReduceMax(a, ax)",
        {"QLinearConv": 2, "ReduceMax": 1},
        ", int64[1] ax={2}",
        opsets=(18, 21),
    ),
    "ReduceMin": Case(
        "c = ReduceMin(a, ax)",
        {"QLinearConv": 2, "ReduceMin": 1},
        ", int64[1] ax={2}",
        opsets=(18, 21),
    ),
    "ReduceMax, old": Case(
        "c = ReduceMax<axes=[2]>(a)", {"QLinearConv": 2, "ReduceMax": 1}, opsets=(13, 17)
    ),
    "Split": Case(
        f"d, e = Split<axis=1>(a, sp)\n  f = Conv<{PAD}>(e, w3)\n  c = Concat<axis=1>(d, f)",
        {"QLinearConv": 3, "Split": 1, "QLinearConcat": 1},
        ", float[2,2,3,3] w3, int64[2] sp={2,2}",
    ),
    "Gather": _unary("Gather<axis=1>(a, i)", "Gather", constants=", int64[4] i={3,1,2,0}"),
    "GatherElements": _unary(
        "GatherElements<axis=3>(a, i)",
        "GatherElements",
        constants=", int64[1,4,2,2] i={3,1,2,0,3,1,2,0,3,1,2,0,3,1,2,0}",
    ),
    "Expand": Case(
        "d = GlobalAveragePool(a)\n  c = Expand(d, sh)",
        {"QLinearConv": 2, "QLinearGlobalAveragePool": 1, "Expand": 1},
        ", int64[4] sh={1,4,8,8}",
    ),
    "Tile": _unary("Tile(a, r)", "Tile", constants=", int64[4] r={1,1,2,1}"),
    "HardSigmoid": _unary("HardSigmoid<alpha=0.16666667,beta=0.5>(a)", "QLinearAdd"),
    "HardSigmoid, default": _unary("HardSigmoid(a)", "QLinearAdd"),
    "HardSigmoid: HardSwish": Case(
        "d = HardSigmoid<alpha=0.16666667,beta=0.5>(a)\n  c = Mul(a, d)",
        {"QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 1},
    ),
    "Tanh": _unary("Tanh(a)", "QLinearSigmoid"),
    "Mul by a number": Case("c = Mul(a, k)", {"QLinearConv": 2}, ", float k={1.7}"),
    "DepthToSpace": _unary("DepthToSpace<blocksize=2>(a)", "DepthToSpace", channels=1),
    "DepthToSpace, columns first": _unary(
        'DepthToSpace<blocksize=2,mode="CRD">(a)', "DepthToSpace", channels=1
    ),
}

OTHER_RANKS = {
    "1-D": """m (float[N,4,16] x) => (float[N,4,W] y)
        <float[4,4,3] w1, float[4] b1, float[4,4,3] w2> {
      a = Conv<pads=[1,1]>(x, w1, b1)
      b = Relu(a)
      c = MaxPool<kernel_shape=[2],strides=[2]>(b)
      d = AveragePool<kernel_shape=[2],strides=[2]>(c)
      e = GlobalAveragePool(d)
      y = Conv<pads=[1,1]>(e, w2) }""",
    "3-D": """m (float[N,4,8,8,8] x) => (float[N,4,1,1,1] y)
        <float[4,4,3,3,3] w1, float[4] b1, float[4,4,1,1,1] w2> {
      a = Conv<pads=[1,1,1,1,1,1]>(x, w1, b1)
      b = Relu(a)
      c = MaxPool<kernel_shape=[2,2,2],strides=[2,2,2]>(b)
      d = AveragePool<kernel_shape=[2,2,2],strides=[2,2,2]>(c)
      e = GlobalAveragePool(d)
      y = Conv(e, w2) }""",
}


def island(case: Case) -> str:
    """Return the operator between two convolutions."""
    return f"""m (float[1,4,8,8] x) => (float[M,8,H,W] y)
        <float[4,4,3,3] w1, float[4] b1, float[8,{case.channels},1,1] w2{case.constants}> {{
      first = Conv<{PAD}>(x, w1, b1)
      a = Relu(first)
      {case.body}
      y = Conv(c, w2) }}"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_between_integers_it_is_executed_in_integer(
    quantize: Callable, name: str, target: str
) -> None:
    case = CASES[name]
    for opset in case.opsets:
        found = quantize(island(case), target, opset)
        expected = case.kernels | {"QuantizeLinear": 1, "DequantizeLinear": 1}
        assert found.kernels == expected, f"opset {opset}"
        assert found.promised == found.executed
        assert found.snr_db > MIN_SNR_DB, f"opset {opset}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rank", OTHER_RANKS)
def test_other_numbers_of_dimensions_are_integer_too(
    quantize: Callable, rank: str, target: str
) -> None:
    for opset in (13, 17, 21):
        found = quantize(OTHER_RANKS[rank], target, opset)
        assert found.kernels == {
            "QLinearConv": 2,
            "NhwcMaxPool": 1,
            "QLinearAveragePool": 1,
            "QLinearGlobalAveragePool": 1,
            "QuantizeLinear": 1,
            "DequantizeLinear": 1,
        }
        assert found.snr_db > MIN_SNR_DB


def test_every_rule_of_the_table_is_checked_here() -> None:
    checked = {name.split()[0].rstrip(":,") for name in CASES} | {"Gemm", "MatMul", "Flatten"}
    checked |= {"Squeeze", "Unsqueeze", "ArgMax"}
    lowered = {"HardSigmoid", "Tanh"}
    assert checked - lowered == set(fusion_table("onnxruntime-cpu").rules)


@pytest.mark.parametrize("target", TARGETS)
def test_products_of_two_activations_are_integer_on_demand(quantize: Callable, target: str) -> None:
    body = "t = Transpose<perm=[0,1,3,2]>(a)\n  c = MatMul(a, t)"
    for opset in (13, 17, 21):
        found = quantize(island(Case(body, {})), target, opset, attention="integer")
        assert found.kernels["QLinearMatMul"] == 1
        assert found.promised == found.executed
        assert found.snr_db > MIN_SNR_DB


@pytest.mark.parametrize("target", TARGETS)
def test_arg_max_reads_integers(quantize: Callable, target: str) -> None:
    text = f"""m (float[1,4,8,8] x) => (int64[1,1,8,8] y)
        <float[4,4,3,3] w1, float[4] b1, float[4,4,1,1] w2> {{
      a = Conv<{PAD}>(x, w1, b1)
      b = Conv(a, w2)
      y = ArgMax<axis=1>(b) }}"""
    for opset in (13, 17, 21):
        found = quantize(text, target, opset)
        assert found.kernels == {"QuantizeLinear": 1, "QLinearConv": 2, "ArgMax": 1}


FLOAT_BETWEEN = {
    "a lower bound above or below zero": (
        f"d = Conv<{PAD}>(a, w3, b3)\n  c = Clip(d, lo, hi)",
        FOUR + ", float lo={-1.0}, float hi={6.0}",
        "Clip",
    ),
    "linear Resize": ('c = Resize<mode="linear">(a, , sc)', SCALES, "Resize"),
    "MaxPool with indices": ("c, i = MaxPool<kernel_shape=[2,2]>(a)", "", "MaxPool"),
    "AveragePool rounding up and counting the padding": (
        "c = AveragePool<kernel_shape=[3,3],strides=[2,2],ceil_mode=1,count_include_pad=1,"
        f"{PAD}>(a)",
        "",
        "AveragePool",
    ),
    "Elu": ("c = Elu(a)", "", "Elu"),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FLOAT_BETWEEN)
def test_what_has_no_integer_kernel_stays_float_and_right(
    quantize: Callable, name: str, target: str
) -> None:
    body, constants, kernel = FLOAT_BETWEEN[name]
    found = quantize(island(Case(body, {}, constants)), target)
    assert found.kernels[kernel] == 1
    assert not any("QLinear" in k and k != "QLinearConv" for k in found.kernels)
    assert found.promised == found.executed
    assert found.snr_db > MIN_SNR_DB


@pytest.mark.parametrize("target", TARGETS)
def test_dilated_average_pool_does_not_stop_the_model_from_loading(
    quantize: Callable, target: str
) -> None:
    body = "c = AveragePool<kernel_shape=[3,3],dilations=[2,2]>(a)"
    found = quantize(island(Case(body, {})), target, 21)
    assert found.kernels["AveragePool"] == 1
    assert found.snr_db > MIN_SNR_DB


def test_losing_fused_operators_is_noticed_and_removing_kernels_is_no_loss() -> None:
    text = """m (float[2,4] x) => (float[2,4] y) <float[4,4] w> {{
      a = Gemm(x, w)
      b = {op}(a)
      y = {last}(b) }}"""
    fused = census(graph(text.format(op="Relu", last="Neg")))
    broken = census(graph(text.format(op="Abs", last="Relu")))
    shorter = census(graph(text.format(op="Identity", last="Identity")))
    assert fused.fused == {"FusedGemm": 1}
    assert fused.lost(broken) == {"FusedGemm": 1}
    assert fused.lost(shorter) == {}
    assert fused.lost(fused) == {}
