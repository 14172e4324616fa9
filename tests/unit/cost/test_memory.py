"""Peak activation memory against sums made by hand."""

from __future__ import annotations

from graphopt.cost import group_kernels
from graphopt.cost.memory import peak_memory
from graphopt.ir import infer_shapes, parse
from graphopt.types import DType

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def peak(text: str, target) -> tuple[int, str]:
    graph = parse(HEADER + text)
    infer_shapes(graph)
    found = peak_memory(graph, group_kernels(graph, target))
    return found.nbytes, found.at


def test_chain_holds_input_and_output_of_the_widest_kernel(net, targets):
    graph = net((1, 3, 8, 8)).conv(16).conv(4).done()
    infer_shapes(graph)
    found = peak_memory(graph, group_kernels(graph, targets["cortex-m4"]))
    # conv 2: 16 x 64 floats in, 4 x 64 out; its Relu is fused; the graph's input is gone
    assert found.nbytes == (16 + 4) * 64 * 4
    assert found.at.startswith("FusedConv")


def test_integers_take_a_quarter(net, targets):
    graph = net((1, 4, 8, 8), DType.INT8).conv(16).conv(16).done()
    infer_shapes(graph)
    found = peak_memory(graph, group_kernels(graph, targets["cortex-m4"]))
    # the last DQ: 16 x 64 bytes in, 16 x 64 floats out; before it, 2 x 16 x 64 bytes
    assert found.nbytes == 16 * 64 * (1 + 4)
    assert found.at.startswith("DequantizeLinear")


def test_elementwise_reuses_its_input(targets):
    text = """
    g (float[1,100] x) => (float[1,100] y)
    {
      a = MatMul(x, w)
      b = Sigmoid(a)
      c = Tanh(b)
      y = Exp(c)
    }""".replace("g (float[1,100] x)", "g (float[1,100] x, float[100,100] w)")
    nbytes, at = peak(text, targets["cortex-m4"])
    assert nbytes == 4 * (100 + 100 * 100 + 100)
    assert at.startswith("MatMul")


def test_the_callers_input_is_never_overwritten(targets):
    text = "g (float[100] x) => (float[100] y) { y = Sigmoid(x) }"
    assert peak(text, targets["cortex-m4"])[0] == 4 * 200


def test_reshape_costs_nothing(targets):
    text = """
    g (float[100] x) => (float[10,10] y) <int64[2] s = {10, 10}>
    {
      a = Sigmoid(x)
      b = Reshape(a, s)
      y = Transpose(b)
    }"""
    assert peak(text, targets["cortex-m4"])[0] == 4 * 200


def test_residual_keeps_its_source_alive(targets):
    text = """
    g (float[1,8,8] x) => (float[1,8,8] y)
    {
      a = Sigmoid(x)
      b = Transpose<perm = [0, 2, 1]>(a)
      c = Transpose<perm = [0, 2, 1]>(b)
      y = Add(a, c)
    }"""
    nbytes, at = peak(text, targets["cortex-m4"])
    assert nbytes == 3 * 64 * 4  # a, b and c
    assert at == "Transpose c"


def test_graph_without_nodes_holds_its_input(targets):
    assert peak("g (float[4] x) => (float[4] x) {}", targets["cortex-m4"]) == (0, "")
