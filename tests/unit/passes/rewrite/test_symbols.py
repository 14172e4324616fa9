"""Symbolic shapes agree with those of the tensors that onnxruntime computes."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.passes.rewrite.symbols import Symbols
from graphopt.runtime import open_session
from graphopt.testing import graph, random_feeds

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
