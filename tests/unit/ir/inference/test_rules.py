"""Shapes by our own rules: symbols through arithmetic, onnxruntime's operators, inner graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.analysis.symbols import Symbols
from graphopt.testing import graph
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph


def _inferred(text: str, opset: int = 20) -> Graph:
    made = graph(text, opset=opset)
    assert ir.infer_shapes(made) == ()
    return made


@pytest.mark.parametrize(
    ("nodes", "constants", "shape"),
    [
        ("y = Concat <axis = 1> (x, p)", "", ("n", "past+t", 8)),
        ("y = Concat <axis = 1> (x, x, x)", "", ("n", "3*t", 8)),
        ("y = Tile (x, k)", "int64[3] k = {1, 2, 3}", ("n", "2*t", 24)),
        ("y = Pad (x, k)", "int64[6] k = {0, 1, 0, 0, 2, 0}", ("n", "t+3", 8)),
        ("y = Slice (x, a, e, k)", "int64[1] a = {0}, int64[1] e = {-1}, int64[1] k = {1}",
         ("n", "max(t-1,0)", 8)),
        ("y = Slice (x, a, e, k)", "int64[1] a = {-4}, int64[1] e = {9999999999}, int64[1] k = {1}",
         ("n", "min(t,4)", 8)),
        ("y = Slice (x, a, e, k, s)", "int64[1] a = {0}, int64[1] e = {9999999999},"
         " int64[1] k = {1}, int64[1] s = {2}", ("n", "(t+1)//2", 8)),
        ("y = Slice (x, a, e, k, s)", "int64[1] a = {-1}, int64[1] e = {-9999999999},"
         " int64[1] k = {1}, int64[1] s = {-1}", ("n", "t", 8)),
        ("y = Flatten <axis = 2> (x)", "", ("n*t", 8)),
        ("y = Reshape (x, k)", "int64[2] k = {-1, 4}", ("2*n*t", 4)),
        ("y = Reshape (x, k)", "int64[4] k = {0, 0, 2, -1}", ("n", "t", 2, 4)),
        ("y = Resize <mode = \"nearest\"> (x, , s)", "float[3] s = {1.0, 2.0, 0.5}",
         ("n", "2*t", 4)),
        ("s = Shape (x)  y = ConstantOfShape (s)", "", ("n", "t", 8)),
        ("s = Size (p)  z = Range (zero, s, one)  y = Cast <to = 1> (z)",
         "int64 zero = {0}, int64 one = {1}", ("8*n*past",)),
        ("y = Einsum <equation = \"abc,adc->abd\"> (x, p)", "", ("n", "t", "past")),
        ("y = NonZero (x)", "", (3, None)),
        ("y, w = TopK <axis = 2> (x, k)", "int64[1] k = {3}", ("n", "t", 3)),
        ("y = Transpose <perm = [2, 0, 1]> (x)", "", (8, "n", "t")),
        ("y = ReduceSum <keepdims = 0> (x, k)", "int64[1] k = {-2}", ("n", 8)),
        ("y = Add (x, p)", "", ("n", "broadcast(past,t)", 8)),
    ],
)  # fmt: skip
def test_symbols_go_through_arithmetic(
    nodes: str, constants: str, shape: tuple[int | str | None, ...]
) -> None:
    stored = f"<{constants}>" if constants else ""
    made = _inferred(f"g (float[n, t, 8] x, float[n, past, 8] p) => (y) {stored} {{ {nodes} }}")
    assert made.value("y").shape == shape


@pytest.mark.parametrize(
    ("nodes", "constants", "dtype", "shape"),
    [
        ("y = com.microsoft.MatMulNBits <K = 8, N = 24, bits = 4, block_size = 16> (x, b, s)",
         "uint8[24, 1, 8] b, float[24] s", DType.FLOAT, ("n", "t", 24)),
        ("y = com.microsoft.SkipLayerNormalization (x, x, w)", "float[8] w", DType.FLOAT,
         ("n", "t", 8)),
        ("y = com.microsoft.BiasGelu (x, w)", "float[8] w", DType.FLOAT, ("n", "t", 8)),
        ("y = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, v)", "float[1, 5, 12] v",
         DType.FLOAT, ("n", "t", 12)),
        ("y, k, v = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 1>"
         " (x, , , , , a, a)", "int32[1] a", DType.FLOAT, ("n", "t", 4)),
        ("y = com.microsoft.Attention <num_heads = 2> (x, w)", "float[8, 24] w", DType.FLOAT,
         ("n", "t", 8)),
        ("q, z, u = DynamicQuantizeLinear (x)"
         "  y = com.microsoft.QLinearAdd (q, z, u, q, z, u, z, u)", "", DType.UINT8,
         ("n", "t", 8)),
        ("y = com.microsoft.FusedMatMul <transB = 1> (x, w)", "float[24, 8] w", DType.FLOAT,
         ("n", "t", 24)),
        ("i = Cast <to = 7> (x)"
         "  y = com.microsoft.GatherBlockQuantized <block_size = 16> (b, i, s)",
         "uint8[30, 16] b, float[30, 2] s", DType.FLOAT, ("n", "t", 8, 32)),
        ("y = com.microsoft.FusedConv <activation = \"Relu\", kernel_shape = [3]> (x, w)",
         "float[5, 4, 3] w", DType.FLOAT, ("n", 5, 6)),
        ("y = com.microsoft.DynamicQuantizeMatMul (x, b, s)", "uint8[8, 6] b, float[6] s",
         DType.FLOAT, ("n", "t", 6)),
    ],
)  # fmt: skip
def test_operators_of_onnxruntime(
    nodes: str, constants: str, dtype: DType, shape: tuple[int | str, ...]
) -> None:
    given = f", {constants}" if constants else ""
    text = f"g (float[n, t, 8] x{given}) => (y) {{ {nodes} }}"
    made = ir.parse(f'<ir_version: 8, opset_import: ["" : 20, "com.microsoft" : 1]> {text}')
    assert ir.infer_shapes(made) == ()
    assert (made.value("y").dtype, made.value("y").shape) == (dtype, shape)


def test_a_graph_that_did_not_change_is_not_inferred_again() -> None:
    made = _inferred("g (float[n, 4] x) => (y) { a = Relu (x)  b = Neg (a)  y = Abs (b) }")
    first = {n: made.inference.records[n] for n in made.nodes()}  # type: ignore[attr-defined]
    ir.infer_shapes(made)
    made.nodes("Neg")[0].set_input(0, made.value("x"))
    made.nodes("Neg")[0].op = "Shape"
    ir.infer_shapes(made)
    again = made.inference.records  # type: ignore[attr-defined]
    assert again[made.nodes("Relu")[0]] is first[made.nodes("Relu")[0]]
    assert made.value("y").shape == (2,)


def test_what_a_pass_wrote_is_corrected() -> None:
    made = _inferred("g (float[n, 4] x) => (y) { a = Relu (x)  y = Abs (a) }")
    made.value("a").shape = None
    ir.infer_shapes(made)
    assert made.value("a").shape == ("n", 4)
    ir.infer_shapes(made, {"n": 3})
    assert made.value("a").shape == (3, 4)


def test_branches_that_agree_and_conditions_that_are_known() -> None:
    made = _inferred("""g (float[n, 4] x, bool c) => (y, z) <int64[1] four = {4}> {
      s = Shape <start = 1> (x)  k = Equal (s, four)  t = Squeeze (k)
      y = If (t) <then_branch = a () => (p) { p = Relu (x) },
                  else_branch = b () => (q) { q = Concat <axis = 0> (x, x) }>
      z = If (c) <then_branch = d () => (u) { u = Relu (x) },
                  else_branch = e () => (v) { v = Concat <axis = 0> (x, x) }> }""")
    assert made.value("y").shape == ("n", 4)
    assert Symbols(made).shape(made.value("z")) == ("?z.0", 4)
    assert made.nodes("If")[0].attribute("else_branch").value("q").shape == ("2*n", 4)


def test_a_loop_that_grows_its_state_does_not_keep_its_length() -> None:
    made = _inferred("""g (float[n, 4] x, int64 m) => (y, z, u) <bool yes = {1}> {
      y, z, u = Loop (m, yes, x, x) <body = e (int64 i, bool g, float[A, B] s, float[C, D] k)
          => (bool h, float[E, F] t, float[G, H] l, float[I, J] w) {
            h = Identity (g)  t = Concat <axis = 0> (s, x)  l = Relu (k)  w = Neg (s) }> }""")
    shapes = Symbols(made)
    assert shapes.shape(made.value("y")) == ("?y.0", 4)
    assert shapes.shape(made.value("z")) == ("n", 4)
    assert shapes.shape(made.value("u")) == ("?u.0", "?u.1", 4)


def test_numbers_that_do_not_fit_are_not_known() -> None:
    made = _inferred("""g (float[2] x) => (y) <int32[1] big = {2147483647}> {
      s = Shape (x)  c = Cast <to = 6> (s)  y = Add (c, big) }""")
    assert Symbols(made).vector(made.value("y")) == ("~y.0",)


def test_names_that_look_like_arithmetic_are_names() -> None:
    made = graph("g (float[n, m] x) => (y) { y = Concat <axis = 0> (x, x) }")
    made.value("x").shape = ("n", "2*n")
    ir.infer_shapes(made)
    assert made.value("y").shape == ("(2*n)", "2*n")
