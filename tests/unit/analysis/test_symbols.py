"""Symbolic shapes agree with those of the tensors that onnxruntime computes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.symbols import Symbols
from graphopt.runtime import open_session
from graphopt.testing import graph, random_feeds, run

_TEXT = """m (float[N, T, 6] x) => (float[A, B, C, D] y, float[E, F, G, H] z, int64[I] length)
<float[9, 6] table, int64 first = {0}, int64 second = {1}, int64[1] zero = {0}, int64[1] one = {1},
 int64[1] two = {2}, int64[1] three = {3}, int64[1] minus = {-1}, int64[4] ones = {1, 1, 1, 1},
 int64[4] guard = {-1, -1, -1, -1}, int64[1] step = {1}> {
  shape = Shape (x)
  n = Gather (shape, first)
  t = Gather (shape, second)
  n1 = Unsqueeze (n, zero)
  t1 = Unsqueeze (t, zero)
  target = Concat <axis = 0> (n1, t1, two, three)
  parted = Reshape (x, target)
  y = Transpose <perm = [0, 2, 1, 3]> (parted)
  same = Equal (target, guard)
  wide = Where (same, ones, target)
  rows = Slice (table, zero, t1, zero, step)
  sum = Add (x, rows)
  flat = Reshape (sum, target)
  z = Expand (flat, wide)
  length = Slice (target, zero, two, zero)
}"""


@pytest.mark.parametrize("size", [1, 2, 5])
def test_shapes_are_those_of_the_run(size: int) -> None:
    model = graph(_TEXT)
    ir.infer_shapes(model)
    symbols = Symbols(model)
    feed = random_feeds(model, size=size)[0]
    for name, found in zip(("y", "z", "length"), open_session(model).run(feed), strict=True):
        known = symbols.shape(model.value(name))
        assert known is not None
        assert tuple(size if d in {"N", "T"} else d for d in known) == found.shape


def test_equal_lengths_keep_one_symbol() -> None:
    model = graph(_TEXT)
    ir.infer_shapes(model)
    symbols = Symbols(model)
    assert symbols.shape(model.value("y")) == ("N", 2, "T", 3)
    assert symbols.shape(model.value("sum")) == ("N", "T", 6)
    assert symbols.shape(model.value("rows")) == ("min(T,9)", 6)
    assert symbols.vector(model.value("wide")) == ("N", "T", 2, 3)
    assert symbols.vector(model.value("length")) == ("N", "T")


@given(dims=st.lists(st.integers(1, 9), min_size=4, max_size=4), index=st.integers(-4, 3),
       number=st.integers(-5, 5).filter(bool),
       op=st.sampled_from(["Add", "Sub", "Mul", "Div"]))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_arithmetic_on_sizes_is_that_of_the_runtime(
    dims: list[int], index: int, number: int, op: str
) -> None:
    text = f"""m (float[{",".join(map(str, dims))}] x) => (int64[1] y)
        <int64[1] i={{{index}}}, int64[1] k={{{number}}}> {{
      s = Shape(x)
      d = Gather(s, i)
      y = {op}(d, k) }}"""
    model = graph(text)
    ir.infer_shapes(model)
    found = Symbols(model).vector(model.value("y"))
    assert list(found or ()) == run(model, random_feeds(model)[0], optimize=False)[0].tolist()


def test_what_is_computed_from_a_length_is_a_length_of_its_own() -> None:
    model = graph(
        """m (float[N, 6] x) => (int64[2] less, int64[2] guarded)
        <int64[2] two = {2, 2}, int64[2] minus = {-1, -1}, int64[2] ones = {1, 1}> {
          shape = Shape (x)
          less = Sub (shape, two)
          same = Equal (less, minus)
          guarded = Where (same, ones, less) }"""
    )
    ir.infer_shapes(model)
    symbols = Symbols(model)
    found = symbols.vector(model.value("less"))
    assert found is not None
    assert found[1] == 4
    assert found[0] not in {"N", 4}
    # N - 2 may be -1, so nobody knows what the guard returns.
    assert symbols.vector(model.value("guarded")) == ("~guarded.0", 4)


@pytest.mark.parametrize(
    "operators",
    [
        "a = Squeeze (x)  y = Reshape (a, minus)",
        "s = Shape (x)  t = Slice (s, zero, zero, zero, zero)  y = Reshape (x, t)",
        "y = Slice (x, zero, minus, zero, zero)",
        "s = Shape (x)  f = Cast <to = 1> (s)  h = Sqrt (f)  g = Cast <to = 7> (h)"
        "  y = Reshape (x, g)",
        "s = Shape (x)  p = Reshape (s, square)  y = Reshape (x, minus)",
    ],
)
def test_what_is_not_understood_is_no_shape(operators: str) -> None:
    model = graph(
        f"""m (float[N, 6] x) => (y)
        <int64[1] zero = {{0}}, int64[1] minus = {{-1}}, int64[2] square = {{1, 2}}> {{
          {operators} }}"""
    )
    symbols = Symbols(model)
    for name in ("g", "p", "t"):
        value = model.find(name)
        found = None if value is None else symbols.vector(value)
        assert found is None or all(str(d).startswith("~") for d in found)
