"""Which nodes become one kernel, and which disappear."""

from __future__ import annotations

import pytest

from graphopt.cost import group_kernels
from graphopt.cost.layout import assign_layouts
from graphopt.ir import infer_shapes, parse
from graphopt.types import DType

HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'


def names(text: str, target) -> list[str]:
    graph = parse(HEADER + text)
    infer_shapes(graph)
    return [kernel.name for kernel in group_kernels(graph, target)]


@pytest.fixture
def x86(targets):
    return targets["x86-avx512-vnni"]


@pytest.fixture
def arm(targets):
    return targets["arm64-dotprod"]


def test_conv_takes_batchnorm_residual_and_relu(x86):
    text = """
    g (float[1,8,4,4] x) => (float[1,8,4,4] y)
      <float[8,8,1,1] w, float[8] s, float[8] b, float[8] m, float[8] v>
    {
      c = Conv(x, w)
      n = BatchNormalization(c, s, b, m, v)
      r = Conv(x, w)
      a = Add(n, r)
      y = Relu(a)
    }"""
    assert names(_filled(text), x86) == ["Conv", "FusedConv"]
    plain = text.replace("Add(n, r)", "Add(n, x)")
    assert names(_filled(plain), x86) == ["Conv", "Conv", "Add", "Relu"]


def test_conv_whose_result_has_two_readers_is_not_fused(x86):
    text = """
    g (float[1,8,4,4] x) => (float[1,8,4,4] y, float[1,8,4,4] z) <float[8,8,1,1] w>
    {
      c = Conv(x, w)
      y = Relu(c)
      z = Tanh(c)
    }"""
    assert names(_filled(text), x86) == ["Conv", "Relu", "Tanh"]


def test_broadcast_add_is_not_a_residual(x86):
    text = """
    g (float[1,8,4,4] x, float[1,8,1,1] r) => (float[1,8,4,4] y) <float[8,8,1,1] w>
    {
      c = Conv(x, w)
      y = Add(c, r)
    }"""
    assert names(_filled(text), x86) == ["Conv", "Add"]


def test_matmul_and_bias_become_gemm(x86):
    text = """
    g (float[4,8] x) => (float[4,8] y) <float[8,8] w, float[8] b>
    {
      m = MatMul(x, w)
      a = Add(m, b)
      y = Relu(a)
    }"""
    assert names(_filled(text), x86) == ["FusedGemm"]


def test_operators_on_constants_and_identities_are_free(x86):
    text = """
    g (float[4] x) => (float[4] y) <float[4] w = {1., 2., 3., 4.}>
    {
      s = Sqrt(w)
      i = Identity(x)
      y = Mul(i, s)
    }"""
    graph = parse(HEADER + text)
    infer_shapes(graph)
    (kernel,) = group_kernels(graph, x86)
    assert kernel.name == "Mul"
    assert [v.name for v in kernel.reads] == ["x"]
    assert [v.name for v in kernel.constants] == ["s"]


def test_initializer_that_may_be_overridden_is_a_weight_but_not_folded(x86):
    text = """
    g (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1., 2., 3., 4.}>
    {
      s = Sqrt(w)
      y = Mul(x, s)
    }"""
    assert names(text, x86) == ["Sqrt", "Mul"]


def test_quantized_chain_is_one_kernel_per_operator(net, targets):
    for target, dtype in (("x86-avx2", DType.UINT8), ("arm64-neon", DType.INT8)):
        graph = net((1, 16, 8, 8), dtype).conv(16).conv(16, 1).done()
        infer_shapes(graph)
        kernels = group_kernels(graph, targets[target])
        assert [k.name for k in kernels] == [
            "QuantizeLinear", "QLinearConv", "QLinearConv", "DequantizeLinear",
        ]  # fmt: skip
        covered = [n.op for n in kernels[1].nodes]
        assert covered == [
            "DequantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Relu",
            "QuantizeLinear",
        ]  # fmt: skip
        assert {k.dtype for k in kernels[1:3]} == {"int8"}
        assert all(v.dtype is dtype for v in kernels[1].reads)


def test_residual_of_integers_is_shared_by_two_kernels(net, x86):
    built = net((1, 16, 8, 8), DType.UINT8).conv(16)
    skip = built.end
    graph = built.conv(16, relu=False).add(skip).done()
    infer_shapes(graph)
    assert [k.name for k in group_kernels(graph, x86)] == [
        "QuantizeLinear", "QLinearConv", "QLinearConv", "QLinearAdd", "DequantizeLinear",
    ]  # fmt: skip


QDQ = """
    g (float[1,4,4,4] x) => (float[1,4,4,4] y)
      <float s = {0.1}, TYPE z = {ZERO}, int8[4,4,1,1] w, float[4] ws, int8[4] wz>
    {
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      dw = DequantizeLinear<axis = 0>(w, ws, wz)
      c = Conv(d, dw)
      MIDDLE
      r = QuantizeLinear(e, s, z)
      y = DequantizeLinear(r, s, z)
    }"""


def _qdq(middle: str, kind: str = "uint8", zero: str = "0") -> str:
    return _filled(QDQ.replace("MIDDLE", middle).replace("TYPE", kind).replace("ZERO", zero))


def test_relu_is_absorbed_only_when_the_range_implies_it(x86):
    integer = ["QuantizeLinear", "QLinearConv", "DequantizeLinear"]
    assert names(_qdq("e = Relu(c)"), x86) == integer
    floats = names(_qdq("e = Relu(c)", zero="7"), x86)
    assert "QLinearConv" not in floats
    assert floats.count("DequantizeLinear") == 3  # activation, weights, result


def test_clip_is_absorbed_when_it_covers_the_range(x86):
    covers = "low = Constant<value_float = 0.0>() high = Constant<value_float = 25.5>()"
    cuts = covers.replace("25.5", "6.0")
    clip = " e = Clip(c, low, high)"
    assert "QLinearConv" in names(_qdq(covers + clip), x86)
    assert "QLinearConv" not in names(_qdq(cuts + clip), x86)


def test_tanh_stays_float_and_its_borders_cost(x86):
    kernels = names(
        _qdq("n = QuantizeLinear(c, s, z) m = DequantizeLinear(n, s, z) e = Tanh(m)"), x86
    )
    assert kernels == [
        "QuantizeLinear", "QLinearConv", "DequantizeLinear", "Tanh", "QuantizeLinear",
        "DequantizeLinear",
    ]  # fmt: skip


def test_conv_whose_output_is_also_read_as_float_is_not_integer(x86):
    assert "QLinearConv" not in names(_qdq("t = Sigmoid(c) e = Add(c, t)"), x86)


def test_per_axis_activation_keeps_the_operator_float(x86):
    text = _qdq("e = Relu(c)").replace(
        "float s = {0.1}", "float s = {0.1}, float[4] p, uint8[4] pz"
    )
    text = text.replace("d = DequantizeLinear(q, s, z)", "d = DequantizeLinear<axis = 1>(q, p, pz)")
    assert "QLinearConv" not in names(_filled(text), x86)


def test_signed_activation_with_two_readers_stays_float_on_x86(x86, arm):
    text = _qdq("e = Add(c, d)", "int8", "-128").replace("MIDDLE", "")
    wide = text.replace(
        "e = Add(c, d)", "u = QuantizeLinear(c, s, z) v = DequantizeLinear(u, s, z) e = Add(v, d)"
    )
    assert "QLinearConv" in names(wide, arm)
    assert "QLinearConv" not in names(wide, x86)  # one DQ, but each reader gets its own
    narrow = wide.replace("e = Add(v, d)", "e = Relu(v)")
    assert "QLinearConv" in names(narrow, x86)  # one reader: it is converted
    fan_out = wide.replace("e = Add(v, d)", "d2 = DequantizeLinear(q, s, z) e = Add(v, d2)")
    assert "QLinearConv" in names(fan_out, arm)
    assert "QLinearConv" not in names(fan_out, x86)


def test_pass_through_needs_equal_parameters(x86):
    text = """
    g (float[1,4,4,4] x) => (float[1,4,16] y)
      <float s = {0.1}, float t = {OTHER}, uint8 z = {0}, int64[3] shape = {1, 4, 16}>
    {
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      r = Reshape(d, shape)
      p = QuantizeLinear(r, t, z)
      y = DequantizeLinear(p, t, z)
    }"""
    same, other = text.replace("OTHER", "0.1"), text.replace("OTHER", "0.2")
    assert names(same, x86) == ["QuantizeLinear", "Reshape", "DequantizeLinear"]
    assert len(names(other, x86)) == 5


def test_matmul_without_q_gives_floats_unless_a_bias_makes_it_gemm(x86):
    text = """
    g (float[4,8] x) => (float[4,8] y)
      <float s = {0.1}, uint8 z = {0}, int8[8,8] w, int8 wz = {0}, SHAPE b>
    {
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      dw = DequantizeLinear(w, s, wz)
      m = MatMul(d, dw)
      y = Add(m, b)
    }"""
    trap = names(_filled(text.replace("SHAPE", "float[8]")), x86)
    cured = names(_filled(text.replace("SHAPE", "float[1,8]")), x86)
    assert cured == ["QuantizeLinear", "MatMulIntegerToFloat", "Add"]
    assert "MatMulIntegerToFloat" not in trap


def test_constant_dequantized_for_a_float_matmul_is_read_packed(x86):
    text = """
    g (float[4,8] x) => (float[4,8] y) <float s = {0.1}, int8[8,8] w, int8 wz = {0}>
    {
      dw = DequantizeLinear(w, s, wz)
      y = MatMul(x, dw)
    }"""
    assert names(_filled(text), x86) == ["MatMulNBits"]


def test_constant_dequantized_for_a_float_conv_costs_every_run(x86):
    text = """
    g (float[1,4,4,4] x) => (float[1,4,4,4] y) <float s = {0.1}, int8[4,4,1,1] w, int8 wz = {0}>
    {
      dw = DequantizeLinear(w, s, wz)
      y = Conv(x, dw)
    }"""
    assert names(_filled(text), x86) == ["DequantizeLinear", "Conv"]


def test_integer_island_has_one_transpose_at_each_end(net, x86):
    graph = net((1, 16, 8, 8), DType.UINT8).conv(16).operator("MaxPool", **POOL).conv(16).done()
    infer_shapes(graph)
    placed, copies = assign_layouts(group_kernels(graph, x86), x86)
    assert [copy.name for copy in copies] == ["Transpose", "Transpose"]
    assert "NhwcMaxPool" in [kernel.name for kernel in placed]


def test_float_chain_is_reordered_at_its_ends_on_x86_and_nowhere_on_arm(net, x86, arm):
    graph = net((1, 16, 8, 8)).conv(16).operator("MaxPool", **POOL).conv(16).done()
    infer_shapes(graph)
    _, copies = assign_layouts(group_kernels(graph, x86), x86)
    assert [copy.name for copy in copies] == ["ReorderInput", "ReorderOutput"]
    _, copies = assign_layouts(group_kernels(graph, arm), arm)
    assert copies == ()


def test_changing_precision_in_the_middle_costs_reorder_and_transpose(net, x86):
    built = net((1, 16, 8, 8)).conv(16)
    built.dtype = DType.UINT8
    built.end = built._quantize(built.end)
    graph = built.conv(16).done()
    infer_shapes(graph)
    _, copies = assign_layouts(group_kernels(graph, x86), x86)
    names = [copy.name for copy in copies]
    assert names == ["ReorderInput", "ReorderOutput", "Transpose", "Transpose"]


def test_three_channels_enter_a_blocked_convolution_as_they_are(net, x86):
    graph = net((1, 3, 8, 8)).conv(16).done()
    infer_shapes(graph)
    _, copies = assign_layouts(group_kernels(graph, x86), x86)
    assert [copy.value.name for copy in copies] == [graph.outputs[0].name]


def test_float_weights_between_dq_and_q_are_quantized_at_load(x86):
    text = QDQ.replace("MIDDLE", "e = Relu(c)").replace("TYPE", "uint8").replace("ZERO", "0")
    text = text.replace("int8[4,4,1,1] w, float[4] ws, int8[4] wz", "float[4,4,1,1] dw")
    text = text.replace("dw = DequantizeLinear<axis = 0>(w, ws, wz)", "")
    assert names(_filled(text), x86) == ["QuantizeLinear", "QLinearConv", "DequantizeLinear"]
    guard = text.replace("float s = {0.1}", "float s = {0.1}, float[4] p, uint8[4] pz")
    guard = guard.replace(
        "d = DequantizeLinear(q, s, z)", "d = DequantizeLinear<axis = 1>(q, p, pz)"
    )
    assert "QLinearConv" not in names(_filled(guard), x86)


@pytest.mark.parametrize(
    ("bias", "integer"),
    [("", True), (", b", False), (", db", True), (", dc", False)],
    ids=["no bias", "float bias", "integer bias", "integer bias of another scale"],
)
def test_gemm_with_float_output_needs_an_integer_bias(x86, bias, integer):
    text = f"""
    g (float[4,8] x) => (float[4,8] y)
      <float s = {{0.1}}, uint8 z = {{0}}, int8[8,8] w, int8 wz = {{0}}, float[8] b,
       int32[1] bq = {{3}}, float bs = {{0.01}}, float cs = {{0.0106}}, int32 bz = {{0}}>
    {{
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      dw = DequantizeLinear(w, s, wz)
      db = DequantizeLinear(bq, bs, bz)
      dc = DequantizeLinear(bq, cs, bz)
      y = Gemm(d, dw{bias})
    }}"""
    assert ("QGemm" in names(_filled(text), x86)) is integer


def test_computed_bias_keeps_the_operator_float(x86):
    text = _qdq("e = Relu(c)").replace("Conv(d, dw)", "Conv(d, dw, k)")
    text = text.replace("d = Deq", "k = ReduceMean<axes = [0, 2, 3], keepdims = 0>(x) d = Deq")
    assert "QLinearConv" not in names(text, x86)


def test_old_pools_stay_float(x86):
    text = """
    g (float[1,4,4,4] x) => (float[1,4,4,4] y) <float s = {0.1}, uint8 z = {0}>
    {
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      p = MaxPool<kernel_shape = [1, 1]>(d)
      r = QuantizeLinear(p, s, z)
      y = DequantizeLinear(r, s, z)
    }"""
    assert names(text, x86) == ["QuantizeLinear", "MaxPool", "DequantizeLinear"]
    old = parse(HEADER.replace('"" : 17', '"" : 11') + text)
    infer_shapes(old)
    assert len(group_kernels(old, x86)) == 5


def test_sixteen_bits_stay_float(x86):
    text = _qdq("e = Relu(c)").replace("uint8 z", "uint16 z").replace('"" : 17', '"" : 21')
    graph = parse(HEADER.replace('"" : 17', '"" : 21') + text)
    infer_shapes(graph)
    assert "QLinearConv" not in [kernel.name for kernel in group_kernels(graph, x86)]


def test_operators_that_are_integer_already_are_priced_so(x86):
    text = """
    g (uint8[4,8] x, uint8[8,8] w) => (int32[4,8] y) { y = MatMulInteger(x, w) }"""
    graph = parse(HEADER + text)
    infer_shapes(graph)
    (kernel,) = group_kernels(graph, x86)
    assert (kernel.dtype, kernel.kind) == ("int8", "gemv")


def test_quantizing_what_nobody_reads_is_removed(x86):
    text = """
    g (float[4] x) => (float[4] y) <float s = {0.1}, uint8 z = {0}, uint8[4] w>
    {
      d = DequantizeLinear(w, s, z)
      y = Relu(x)
    }"""
    assert names(_filled(text), x86) == ["Relu"]


POOL = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}


def _filled(text: str) -> str:
    """Give every initializer that has no values zeros, so that the parser takes it."""
    import math
    import re

    head, body = text.split("{\n", 1) if "{\n" in text else (text, "")

    def fill(match: re.Match[str]) -> str:
        kind, sizes, name = match.groups()
        count = math.prod(int(s) for s in sizes.split(","))
        zero = "0.5" if kind == "float" else "0"
        return f"{kind}[{sizes}] {name} = {{{', '.join([zero] * count)}}}"

    start = head.index("<") if "<" in head else len(head)
    given = re.sub(r"(float|int8|uint8)\[([\d,]+)\] (\w+)(?! =)(?=[,>])", fill, head[start:])
    return head[:start] + given + "{\n" + body
