"""Whatever shapes a model claims, coupling freezes and says why; it never fails."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.testing import graph
from tests.unit.analysis.coupling.pruning import RULES

TEXTS = (
    """
    g (float[1,3,4,4] x) => (float[1,2,9,9] y)
    <float[8,3,3,3] w1, float[8] b1, float[12,4,1,1] w2, float[24,1,3,3] w3, float[24,4,3,3] w4,
     float[8] b4, float[8,2,3,3] w5> {
      a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
      b = Conv<group = 2>(a, w2)
      c = Conv<group = 12, pads = [1, 1, 1, 1]>(b, w3)
      d = ConvTranspose<group = 2>(c, w4, b4)
      y = ConvTranspose<strides = [1, 1], pads = [1, 1, 1, 1], output_shape = [9, 9]>(d, w5)
    }""",
    """
    g (float[2,4,3] x) => (float[2,5] y)
    <float[3,8] w1, float[8,6] w2, float[6,7] w3, float[7] b3, float[7,5] w4> {
      a = MatMul(x, w1)
      b = Einsum<equation = "...i,ij->...j">(a, w2)
      c = Einsum<equation = "bti->bi">(b)
      d = Gemm(c, w3, b3)
      y = MatMul(d, w4)
    }""",
    """
    g (float[5,2,3] x) => (float[5,1,2,6] y)
    <float[1,24,3] w1, float[1,24,6] r1, float[1,48] b1, int32[2] lengths = {5, 3},
     float[1,2,6] h0, float[1,2,6] c0, float[1,18] p1, float[6,3] between,
     float[1,18,3] w2, float[1,18,6] r2> {
      a, h, c = LSTM<hidden_size = 6>(x, w1, r1, b1, lengths, h0, c0, p1)
      b = MatMul(h, between)
      y = GRU<hidden_size = 6>(x, w2, r2, "", "", h)
    }""",
)

SIZES = st.sampled_from([None, "n", 0, 1, 2, 3, 5, 6, 8, 24])
SHAPES = st.none() | st.lists(SIZES, max_size=5).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shapes_that_are_wrong_freeze(data: Any) -> None:
    model = graph(data.draw(st.sampled_from(TEXTS)))
    ir.infer_shapes(model)
    values = sorted(model.values(), key=lambda value: value.name)
    computed = [value for value in values if not value.is_constant]
    for value in data.draw(st.lists(st.sampled_from(computed), max_size=2, unique=True)):
        value.shape = data.draw(SHAPES | _near(value.shape or ()))
    found = couple(model, RULES)
    for group in found.groups:
        assert all(axis.size is not None for axis in group.axes)


def _near(shape: tuple[Any, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return shapes that differ from one in a single size."""
    places = st.integers(0, max(0, len(shape) - 1))
    return st.builds(lambda i, size: (*shape[:i], size, *shape[i + 1 :]), places, SIZES)
