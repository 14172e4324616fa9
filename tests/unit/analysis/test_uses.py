"""Readers, constants and what is computed at load."""

from __future__ import annotations

from graphopt.analysis import captured_values, folded_nodes, only_consumer, stored_bytes
from graphopt.ir import parse

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def test_operators_on_constants_are_folded_through_each_other():
    graph = parse(
        HEADER
        + """
    g (float[2] x) => (float[2] y) <float[2] w = {1., 2.}>
    {
      a = Sqrt(w)
      c = Constant<value_float = 2.0>()
      b = Mul(a, c)
      y = Add(x, b)
    }"""
    )
    assert sorted(node.op for node in folded_nodes(graph)) == ["Constant", "Mul", "Sqrt"]


def test_random_and_dequantized_values_are_not_folded():
    graph = parse(
        HEADER
        + """
    g (float[2] x) => (float[2] y, float[2] z) <int8[2] w = {1, 2}, float s = {1.}, int8 o = {0}>
    {
      r = RandomNormal<shape = [2]>()
      y = Add(x, r)
      z = DequantizeLinear(w, s, o)
    }"""
    )
    assert folded_nodes(graph) == frozenset()


def test_only_consumer():
    graph = parse(
        HEADER
        + """
    g (float[2] x) => (float[2] y, float[2] b)
    {
      a = Sqrt(x)
      b = Exp(a)
      c = Neg(b)
      d = Add(c, c)
      y = Abs(d)
    }"""
    )
    value = graph.value
    assert only_consumer(value("a")) is value("b").producer
    assert only_consumer(value("b")) is None  # also an output
    assert only_consumer(value("c")) is None  # read twice
    assert only_consumer(value("y")) is None


def test_stored_bytes_counts_subgraphs_and_constants_once():
    graph = parse(
        HEADER
        + """
    g (bool c, float[4] x) => (float[4] y) <float[4] w = {1., 2., 3., 4.}>
    {
      k = Constant<value = float[2] {1., 2.}>()
      y = If (c) <
        then_branch = t () => (float[4] a) <float[4] v = {1., 2., 3., 4.}> { a = Add(w, v) },
        else_branch = e () => (float[4] b) { b = Add(x, w) }
      >
    }"""
    )
    assert stored_bytes(graph) == 4 * (4 + 2 + 4)
    (branch,) = graph.nodes("If")
    assert {v.name for v in captured_values(branch)} == {"x", "w"}
