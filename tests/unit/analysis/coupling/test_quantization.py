"""Quantized graphs: scales go with their indices, integer products read like float ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.testing import graph
from graphopt.types import DType
from tests.unit.analysis.coupling.pruning import assert_oracle, coupled, prune_at_random

if TYPE_CHECKING:
    from graphopt.ir import Graph


def integers(*shape: int, kind: str = "int8", seed: int = 0) -> Any:
    low, high = (-100, 100) if kind == "int8" else (0, 200)
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


QDQ = """
g (float[2,3,4,4] x) => (float[2,2,4,4] y)
<int8[8,3,1,1] first, float[8] first_scale, int8[8] first_zero, float act = {0.05},
 uint8 zero = {128}, int8[2,8,1,1] second, float second_scale = {0.01}, int32[8] shift,
 float[8] shift_scale, int8 none = {0}> {
  w = DequantizeLinear<axis = 0>(first, first_scale, first_zero)
  s = DequantizeLinear<axis = 0>(shift, shift_scale)
  a = Conv(x, w, s)
  q = QuantizeLinear(a, act, zero)
  b = DequantizeLinear(q, act, zero)
  v = DequantizeLinear(second, second_scale, none)
  y = Conv(b, v)
}
"""


def test_a_convolution_between_quantizers_loses_channels_and_their_scales() -> None:
    made = graph(
        QDQ,
        first=integers(8, 3, 1, 1),
        first_scale=np.linspace(0.01, 0.02, 8, dtype=np.float32),
        first_zero=np.zeros(8, np.int8),
        second=integers(2, 8, 1, 1),
        shift=integers(8).astype(np.int32),
        shift_scale=np.full(8, 0.01, np.float32),
    )
    (group,) = assert_oracle(made).groups
    assert (group.size, group.is_exact) == (8, True)
    pruned, *_ = prune_at_random(made)
    shapes = [pruned.value(n).shape for n in ("first_scale", "first_zero", "shift", "shift_scale")]
    assert shapes == [(4,)] * 4
    assert pruned.value("second").shape == (2, 4, 1, 1)


def test_blocks_of_an_axis_stay_and_other_axes_do_not() -> None:
    made = graph(
        """
        <ir_version: 10, opset_import: ["": 21]>
        g (float[2,8] x) => (float[2,3] y)
        <int8[8,6] first, float[2,6] scale, float[6,3] last> {
          w = DequantizeLinear<axis = 0, block_size = 4>(first, scale)
          a = MatMul(x, w)
          y = MatMul(a, last)
        }
        """,
        first=integers(8, 6),
    )
    (group,) = assert_oracle(made).groups
    assert group.size == 6
    assert "a scale for each block" in str(coupled(made)[1].why(made.value("first"), 0))


def test_small_integers_are_cut_as_they_are_stored() -> None:
    made = graph("""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[2,3] x, int4[3,6] first, int4[6] zero) => (float[2,3] y)
        <float[6] scale, float[6,3] last> {
          w = DequantizeLinear<axis = 1>(first, scale, zero)
          a = MatMul(x, w)
          y = MatMul(a, last)
        }
    """)
    for name, shape in (("first", (3, 6)), ("zero", (6,))):
        value = made.value(name)
        made.set_tensor(value, ir.Tensor.from_array(np.full(shape, -3), DType.INT4))
        made.remove_input(value)
    (group,) = assert_oracle(made).groups
    assert group.size == 6


def test_a_scale_that_the_data_sets_is_not_exact() -> None:
    made = graph(
        """
        g (float[2,3] x) => (int32[2,2] y) <float[3,8] first, int8[8,2] last> {
          a = MatMul(x, first)
          q, s, z = DynamicQuantizeLinear(a)
          y = MatMulInteger(q, last, z)
        }
        """,
        last=integers(8, 2),
    )
    _, found = coupled(made)
    (group,) = found.groups
    assert group.inexact == ("the scale of DynamicQuantizeLinear `q` follows the largest element",)


INTEGER_PRODUCTS = {
    "MatMulInteger": """
    g (float[2,3] x) => (float[2,2] y)
    <float[3,8] first, float act = {0.02}, uint8 zero = {100}, int8[8,2] held> {
      a = MatMul(x, first)
      q = QuantizeLinear(a, act, zero)
      i = MatMulInteger(q, held, zero)
      y = Cast<to = 1>(i)
    }""",
    "QLinearMatMul": """
    g (float[2,3] x) => (float[2,2] y)
    <float[3,8] first, float act = {0.02}, uint8 zero = {100}, int8[8,2] held, float ws = {0.01},
     int8 wz = {0}, float ys = {1}> {
      a = MatMul(x, first)
      q = QuantizeLinear(a, act, zero)
      i = QLinearMatMul(q, act, zero, held, ws, wz, ys, zero)
      y = DequantizeLinear(i, ys, zero)
    }""",
    "QGemm": """
    g (float[2,3] x) => (float[2,2] y)
    <float[3,8] first, float act = {0.02}, uint8 zero = {100}, int8[2,8] held,
     float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}, float ys = {1}, int32[2] bias = {5, 6}> {
      a = MatMul(x, first)
      q = QuantizeLinear(a, act, zero)
      i = com.microsoft.QGemm<transB = 1>(q, act, zero, held, ws, wz, bias, ys, zero)
      y = DequantizeLinear(i, ys, zero)
    }""",
    "MatMulIntegerToFloat": """
    g (float[2,3] x) => (float[2,2] y)
    <float[3,8] first, float act = {0.02}, uint8 zero = {100}, int8[8,2] held, float ws = {0.01},
     int8 wz = {0}> {
      a = MatMul(x, first)
      q = QuantizeLinear(a, act, zero)
      y = com.microsoft.MatMulIntegerToFloat(q, held, act, ws, zero, wz)
    }""",
    "QLinearConv": """
    g (float[1,3,4,4] x) => (float[1,2,4,4] y)
    <float[8,3,1,1] first, float act = {0.05}, uint8 zero = {100}, int8[2,8,1,1] held,
     float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}, float ys = {1}, int32[2] bias = {5, 6}> {
      a = Conv(x, first)
      q = QuantizeLinear(a, act, zero)
      i = QLinearConv(q, act, zero, held, ws, wz, ys, zero, bias)
      y = DequantizeLinear(i, ys, zero)
    }""",
    "ConvInteger": """
    g (float[1,3,4,4] x) => (float[1,2,3,3] y)
    <float[8,3,1,1] first, float act = {0.05}, uint8 zero = {100}, uint8[2,8,2,2] held> {
      a = Conv(x, first)
      q = QuantizeLinear(a, act, zero)
      i = ConvInteger(q, held, zero)
      y = Cast<to = 1>(i)
    }""",
}


@pytest.mark.parametrize("op", sorted(INTEGER_PRODUCTS))
def test_an_integer_product_reads_its_operand(op: str) -> None:
    text = INTEGER_PRODUCTS[op]
    shape = (2, 8) if op == "QGemm" else (2, 8, 1, 1) if op == "QLinearConv" else (8, 2)
    held = integers(2, 8, 2, 2, kind="uint8") if op == "ConvInteger" else integers(*shape)
    made = graph(text, held=held)
    for name, dtype in (("i", DType.UINT8), ("a", DType.FLOAT)):
        value = made.find(name)
        if value is not None and op == "QGemm":
            value.dtype, value.shape = dtype, (2, 2) if name == "i" else (2, 8)
    (group,) = assert_oracle(made).groups
    assert (group.name, group.size, group.is_exact) == ("first", 8, True)
    assert [c.node.op for c in group.consumers] == [op]


def test_a_weight_with_a_zero_point_stays() -> None:
    text = INTEGER_PRODUCTS["QLinearMatMul"].replace("int8 wz = {0}", "int8 wz = {3}")
    made, found = coupled(graph(text, held=integers(8, 2)))
    assert not found.groups
    assert "has a zero point" in str(found.why(made.value("first"), 1))


MIDDLE = """
g (float[2,3,4,4] x) => (float[2,2,N,M] y)
<float[8,3,1,1] first, float s = {{0.05}}, uint8 z = {{128}},
 float[2,{width},1,1] last, {constants}> {{
  a = Conv(x, first)
  q = QuantizeLinear(a, s, z)
  {line}
  b = DequantizeLinear(r, s, z)
  y = Conv(b, last)
}}
"""


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("r = QLinearConv<group = 8>(q, s, z, filters, fs, fz, s, z, fb)", (2, 8, 2, 2)),
        ("r = com.microsoft.QLinearAdd(q, s, z, c, s, z, s, z)", (2, 8, 4, 4)),
        ("r = com.microsoft.QLinearMul(q, s, z, q, s, z, s, z)", (2, 8, 4, 4)),
        ("r = com.microsoft.QLinearLeakyRelu(q, s, z, s, z)", (2, 8, 4, 4)),
        ("r = com.microsoft.QLinearSigmoid(q, s, z, s, z)", (2, 8, 4, 4)),
        ("r = com.microsoft.QLinearGlobalAveragePool(q, s, z, s, z)", (2, 8, 1, 1)),
        (
            "r = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2]>(q, s, z, s, z)",
            (2, 8, 3, 3),
        ),
        ("r = com.microsoft.QLinearConcat<axis = 1>(s, z, q, s, z, q, s, z)", (2, 16, 4, 4)),
        ("r = MaxPool<kernel_shape = [2, 2]>(q)", (2, 8, 3, 3)),
    ],
)
def test_integer_operators_let_channels_through(line: str, shape: tuple[int, ...]) -> None:
    constants = "int8[8,1,3,3] filters, float[8] fs, int8[8] fz, int32[8] fb, uint8[8,1,1] c"
    made = graph(
        MIDDLE.format(line=line, constants=constants, width=shape[1]),
        filters=integers(8, 1, 3, 3),
        fs=np.linspace(0.01, 0.02, 8, dtype=np.float32),
        fz=np.zeros(8, np.int8),
        fb=np.arange(8, dtype=np.int32),
        c=integers(8, 1, 1, kind="uint8"),
    )
    made.value("r").dtype, made.value("r").shape = DType.UINT8, shape
    made.value("b").dtype, made.value("b").shape = DType.FLOAT, shape
    (group,) = assert_oracle(made).groups
    assert (group.size, group.is_exact) == (8, True)


def packed(columns: int, inner: int, block: int = 16) -> dict[str, Any]:
    random = np.random.default_rng(0)
    blocks = -(-inner // block)
    return {
        "held": random.integers(0, 256, (columns, blocks, block // 2)).astype(np.uint8),
        "scales": random.uniform(0.01, 0.02, columns * blocks).astype(np.float32),
        "zeros": random.integers(0, 256, columns * ((blocks + 1) // 2)).astype(np.uint8),
    }


def packed_graph() -> Graph:
    made = graph(
        """
        g (float[2,32] x) => (float[2,3] y)
        <uint8[6,2,8] held, float[12] scales, uint8[6] zeros, float[6,3] last> {
          a = com.microsoft.MatMulNBits<K = 32, N = 6, bits = 4, block_size = 16>
              (x, held, scales, zeros)
          y = MatMul(a, last)
        }
        """,
        **packed(6, 32),
    )
    made.value("a").dtype, made.value("a").shape = DType.FLOAT, (2, 6)
    return made


def test_packed_rows_go_and_blocks_stay() -> None:
    made = packed_graph()
    (group,) = assert_oracle(made).groups
    assert group.size == 6
    pruned, *_ = prune_at_random(made)
    node = pruned.nodes("MatMulNBits")[0]
    assert (node.attribute("N"), node.attribute("K")) == (3, 32)
    assert pruned.value("scales").shape == (6,)
    assert "packs it in blocks" in str(coupled(made)[1].why(made.value("held"), 2))


def test_what_is_sealed_says_so() -> None:
    made = packed_graph()
    node = made.nodes("MatMulNBits")[0]
    node.op = "MatMulBnb4"
    _, found = coupled(made)
    assert not found.groups
    assert "are packed" in str(found.why(made.value("a"), 1))
