"""Slices that are moved about: joined, parted, repeated, padded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.analysis.coupling.rules.padding import _origins
from graphopt.analysis.coupling.rules.slicing import _Window
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.testing import graph, random_feeds, run
from tests.unit.analysis.coupling.pruning import RULES, assert_oracle, coupled

if TYPE_CHECKING:
    from graphopt.analysis.coupling import Coupling


def units(found: Coupling, group: str, label: str) -> list[int]:
    """Return the unit of each index of an axis."""
    (one,) = [g for g in found.groups if g.name == group]
    return next(u for axis, u in one.units.items() if axis.label == label).tolist()


def kept(text: str | ir.Graph, group: str, keep: list[int]) -> ir.Graph:
    """Return a graph of which only some units of a group are left."""
    made, found = coupled(text)
    size = next(g.size for g in found.groups if g.name == group)
    cut = found.cut({group: np.isin(np.arange(size), keep)})
    remove_units(made, cut, RULES)
    ir.verify(made)
    return made


# -- Concat --------------------------------------------------------------------------------


def test_a_dense_block_loses_channels_at_every_reader() -> None:
    found = assert_oracle("""
    g (float[1,3,4,4] x) => (float[1,2,4,4] y)
    <float[6,3,1,1] one, float[4,6,1,1] two, float[5,10,1,1] three, float[2,15,1,1] last> {
      a = Conv(x, one)
      b = Conv(a, two)
      ab = Concat<axis = 1>(a, b)
      c = Conv(ab, three)
      abc = Concat<axis = -3>(ab, c)
      y = Conv(abc, last)
    }
    """)
    assert {group.name: group.size for group in found.groups} == {"one": 6, "two": 4, "three": 5}
    assert units(found, "three", "`last` axis 1") == [-1] * 10 + [0, 1, 2, 3, 4]


def test_a_tensor_that_is_joined_with_itself() -> None:
    found = assert_oracle("""
    g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[6,3,1,1] one, float[2,12,1,1] last> {
      a = Conv(x, one)
      b = Concat<axis = 1>(a, a)
      y = Conv(b, last)
    }
    """)
    assert units(found, "one", "`last` axis 1") == [0, 1, 2, 3, 4, 5] * 2


def test_what_is_joined_along_another_axis_goes_together() -> None:
    found = assert_oracle("""
    g (float[1,3,4] x) => (float[1,5,2] y)
    <float[3,6,1] one, float[6,3,1] first, float[1,6,1] token, float[2,6] last> {
      a = Conv(x, first)
      b = Concat<axis = 2>(token, a)
      c = Transpose<perm = [0, 2, 1]>(b)
      d = Transpose(last)
      y = MatMul(c, d)
    }
    """)
    (group,) = found.groups
    assert group.size == 6
    assert "`token` axis 1" in {axis.label for axis in group.axes}


# -- Split ---------------------------------------------------------------------------------

HALVES = """
g (float[1,3,4,4] x) => (float[1,2,4,4] y)
<float[8,3,1,1] one, float[4,4,1,1] two, float[2,8,1,1] last> {
  a = Conv(x, one)
  b, c = Split<axis = 1ATTRIBUTE>(aINPUT)
  d = Conv(c, two)
  e = Concat<axis = 1>(b, d)
  y = Conv(e, last)
}
"""


@pytest.mark.parametrize(
    ("attribute", "given_sizes", "opset"),
    [("", "", 17), (", num_outputs = 2", "", 18), (", split = [4, 4]", "", 11), ("", "", 11),
     ("", ", sizes", 13)],
)  # fmt: skip
def test_parts_of_a_split_lose_what_they_lose(attribute: str, given_sizes: str, opset: int) -> None:
    text = HALVES.replace("ATTRIBUTE", attribute).replace("INPUT", given_sizes)
    if given_sizes:
        text = text.replace("<float[8", "<int64[2] sizes = {4, 4}, float[8", 1)
    found = assert_oracle(graph(text, opset=opset))
    assert {group.name: group.size for group in found.groups} == {"one": 4, "one#2": 4, "two": 4}
    assert_oracle(graph(text, opset=opset), 0.3, seed=3)
    pruned = kept(graph(text, opset=opset), "one", [1])
    (node,) = pruned.nodes("Split")
    sizes = node.attribute("split") if opset < 13 else node.inputs[1].array().tolist()
    assert sorted(sizes) == [1, 4]


def test_parts_that_are_multiplied_go_together() -> None:
    found = assert_oracle("""
    g (float[b,6] x) => (float[b,3] y) <float[6,16] w, float[16] bias, float[8,3] out> {
      a = MatMul(x, w)
      b = Add(a, bias)
      left, right = Split<axis = -1>(b)
      gate = Sigmoid(right)
      c = Mul(left, gate)
      y = MatMul(c, out)
    }
    """)
    assert units(found, "w", "`bias` axis 0") == [*range(8), *range(8)]


# -- Slice ---------------------------------------------------------------------------------

SLICED = """
g (float[1,6] x) => (float[1,3] y, float[1,2] z)
<float[6,8] w, float[WIDTH,3] out, float[8,2] other, int64[1] starts = {START},
 int64[1] ends = {END}, int64[1] axes = {-1}, int64[1] steps = {STEP}> {
  a = MatMul(x, w)
  b = Slice(a, starts, ends, axes, steps)
  y = MatMul(b, out)
  z = MatMul(a, other)
}
"""


def sliced(start: int, end: int, step: int) -> str:
    width = len(np.arange(8)[start : end if end >= -8 else None : step])
    values = {"WIDTH": width, "START": start, "END": end, "STEP": step}
    text = SLICED
    for name, value in values.items():
        text = text.replace(name, str(value))
    return text


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(2, 6, 1), (-6, -1, 1), (0, 8, 2), (6, 1, -1), (-1, -9, -1), (7, -100, -2)],
)
def test_a_window_is_found_again(start: int, end: int, step: int) -> None:
    text = sliced(start, end, step)
    found = assert_oracle(text)
    assert sum(group.size for group in found.groups) == 8
    for seed in range(3):
        assert_oracle(text, fraction=0.4, seed=seed)


def test_what_is_left_of_a_window_with_gaps_is_gathered() -> None:
    text = """
    g (float[1,6] x) => (float[1,3] y)
    <float[6,8] w, float[4,3] out, int64[1] starts = {0}, int64[1] ends = {8}, int64[1] axes = {1},
     int64[1] steps = {2}, float[4,3] odd, int64[1] one = {1}> {
      a = MatMul(x, w)
      b = Slice(a, starts, ends, axes, steps)
      c = Slice(a, one, ends, axes, steps)
      d = MatMul(b, out)
      e = MatMul(c, odd)
      y = Add(d, e)
    }
    """
    made, found = coupled(text)
    assert len(found.groups) == 2
    cut = found.cut(
        {g.name: np.array([True, True, i == 0, True]) for i, g in enumerate(found.groups)}
    )
    remove_units(made, cut, RULES)
    ir.verify(made)
    assert len(made.nodes("Gather")) == 2
    assert run(made, random_feeds(made)[0])[0].shape == (1, 3)
    for seed in range(5):
        assert_oracle(text, seed=seed)


def test_windows_that_are_attributes() -> None:
    text = """
    g (float[1,6] x) => (float[1,3] y) <float[6,8] w, float[5,3] out, float[3,3] rest> {
      a = MatMul(x, w)
      b = Slice<starts = [0], ends = [5], axes = [1]>(a)
      c = Slice<starts = [5], ends = [100], axes = [1]>(a)
      d = MatMul(b, out)
      e = MatMul(c, rest)
      y = Add(d, e)
    }
    """
    found = assert_oracle(graph(text, opset=9))
    assert sorted(group.size for group in found.groups) == [3, 5]


def test_decomposed_rotation_goes_in_pairs() -> None:
    found = assert_oracle("""
    g (float[1,5,6] x) => (float[1,5,5] y)
    <float[6,8] wq, float[6,8] wk, float[5,8] cos, float[5,8] sin, int64[1] zero = {0},
     int64[1] half = {4}, int64[1] end = {9223372036854775807}, int64[1] last = {-1}> {
      q = MatMul(x, wq)
      k = MatMul(x, wk)
      a = Slice(q, zero, half, last)
      b = Slice(q, half, end, last)
      c = Neg(b)
      d = Concat<axis = -1>(c, a)
      e = Mul(q, cos)
      f = Mul(d, sin)
      r = Add(e, f)
      a1 = Slice(k, zero, half, last)
      b1 = Slice(k, half, end, last)
      c1 = Neg(b1)
      d1 = Concat<axis = -1>(c1, a1)
      e1 = Mul(k, cos)
      f1 = Mul(d1, sin)
      r1 = Add(e1, f1)
      t = Transpose<perm = [0, 2, 1]>(r1)
      y = MatMul(r, t)
    }
    """)
    assert units(found, "wk", "`cos` axis 1") == [0, 1, 2, 3] * 2


# -- Pad -----------------------------------------------------------------------------------

PADDED = """
g (float[1,3,4,4] x) => (float[1,2,2,2] y)
<float[4,3,1,1] one, float[8,4,3,3] two, float[2,8,1,1] last, int64[8] pads = {0,2,0,0,0,2,0,0},
 float value = {0.5}> {
  a = Conv(x, one)
  b = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a, two)
  c = MaxPool<kernel_shape = [1, 1], strides = [2, 2]>(a)
  d = PAD
  e = Add(b, d)
  y = Conv(e, last)
}
"""


@pytest.mark.parametrize(
    ("pad", "opset"),
    [("Pad(c, pads)", 17), ("Pad(c, pads, value)", 18), ("Pad<pads = [0,2,0,0,0,2,0,0]>(c)", 9)],
)
def test_channels_that_are_padded_can_go(pad: str, opset: int) -> None:
    """The shortcut of a residual network without weights of its own."""
    text = PADDED.replace("PAD", pad)
    for seed in range(3):
        found = assert_oracle(graph(text, opset=opset), seed=seed)
    assert sum(group.size for group in found.groups) == 8
    inner = next(g for g in found.groups if any(a.label == "`one` axis 0" for a in g.axes))
    assert inner.size == 4


def test_a_mirrored_axis_stays_and_the_others_go() -> None:
    text = """
    g (float[1,3,4,4] x) => (float[1,2,6,6] y)
    <float[4,3,1,1] one, float[2,4,1,1] last, int64[4] pads = {1,1,1,1}, int64[2] axes = {2, -1}> {
      a = Conv(x, one)
      b = Pad<mode = "reflect">(a, pads, , axes)
      y = Conv(b, last)
    }
    """
    (group,) = assert_oracle(graph(text, opset=18)).groups
    assert group.size == 4
    channels = text.replace("pads = {1,1,1,1}", "pads = {1,0,1,0}").replace("{2, -1}", "{1, 2}")
    channels = channels.replace("[2,4,1,1]", "[2,6,1,1]").replace("1,2,6,6", "1,2,4,4")
    made, found = coupled(graph(channels, opset=18))
    assert not found.groups
    assert [why for _, why in found.why(made.value("one"), 0)] == ["Pad `b` pads it with itself"]


@given(st.integers(1, 6), st.integers(-2, 3), st.integers(-2, 3))
def test_origins_are_those_of_numpy(size: int, front: int, behind: int) -> None:
    if size + min(front, 0) + min(behind, 0) < 0:
        return
    labels = np.pad(np.arange(size), (max(front, 0), max(behind, 0)), constant_values=-1)
    cropped = labels[max(0, -front) : len(labels) - max(0, -behind)]
    assert _origins(size, front, behind).tolist() == cropped.tolist()


@given(st.integers(1, 6), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-2, -1, 1, 2]))
def test_windows_are_those_of_onnxruntime(size: int, start: int, end: int, step: int) -> None:
    """Bounds are clamped as the operator's text says: to [0, size], or [-1, size - 1] downwards."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first = min(max(start + size if start < 0 else start, 0), high)
    stop = min(max(end + size if end < 0 else end, low), high)
    expected = list(range(first, stop, step))
    picks = _Window(start, end, step).picks(size)
    assert picks is not None
    assert picks.tolist() == expected


# -- Expand and Tile -----------------------------------------------------------------------


def test_what_is_repeated_goes_with_its_copies() -> None:
    found = assert_oracle("""
    g (float[2,6] x) => (float[2,3] y)
    <float[6,4] w, float[12,3] out, int64[2] times = {1, 3}> {
      a = MatMul(x, w)
      b = Tile(a, times)
      y = MatMul(b, out)
    }
    """)
    assert units(found, "w", "`out` axis 0") == [0, 1, 2, 3] * 3


@pytest.mark.parametrize("step", ["Expand(a, shape)", "Tile(a, times)"])
def test_fewer_copies_of_a_single_index_are_made(step: str) -> None:
    text = f"""
    g (float[2,6] x) => (float[2,3] y)
    <float[6,1] w, float[6,4] v, float[4,3] out, int64[2] shape = {{1, 4}},
     int64[2] times = {{1, 4}}> {{
      a = MatMul(x, w)
      b = {step}
      c = MatMul(x, v)
      d = Add(b, c)
      y = MatMul(d, out)
    }}
    """
    (group,) = assert_oracle(text).groups
    assert group.size == 4


def test_an_expanded_axis_follows_its_channels() -> None:
    (group,) = assert_oracle("""
    g (float[b,6] x) => (float[b,3,3] y)
    <float[6,4] w, float[4,3] out, int64[1] at = {1}, int64[1] i0 = {0}, int64[1] three = {3},
     int64[1] four = {4}> {
      a = MatMul(x, w)
      b = Unsqueeze(a, at)
      s = Shape(a)
      n = Gather<axis = 0>(s, i0)
      t = Concat<axis = 0>(n, three, four)
      c = Expand(b, t)
      y = MatMul(c, out)
    }
    """).groups
    assert group.size == 4


def test_a_tensor_of_a_shape_shrinks_with_what_it_is_added_to() -> None:
    (group,) = assert_oracle("""
    g (float[b,6] x) => (float[b,3] y) <float[6,4] w, float[4,3] out, float[1] half = {0.5}> {
      a = MatMul(x, w)
      s = Shape(a)
      c = ConstantOfShape(s)
      d = Add(a, c)
      e = Constant<value = float[4] {1.0, 2.0, 3.0, 4.0}>()
      f = Mul(d, e)
      y = MatMul(f, out)
    }
    """).groups
    assert group.size == 4


# -- the rest ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", ["Trilu(a)", "ReverseSequence<batch_axis = 1, time_axis = 0>(a, lengths)"]
)
def test_axes_that_an_operator_leaves_alone(step: str) -> None:
    (group,) = assert_oracle(f"""
    g (float[5,3,2,6] x) => (float[5,7,2,3] y)
    <float[6,4] w, float[4,3] out, float[3,8] more, float[8,7] less,
     int64[8] lengths = {{1, 2, 3, 4, 5, 5, 5, 5}}> {{
      t = Transpose<perm = [0, 2, 3, 1]>(x)
      m = MatMul(t, more)
      a = Transpose<perm = [0, 3, 1, 2]>(m)
      b = {step}
      c = Transpose<perm = [0, 2, 3, 1]>(b)
      d = MatMul(c, less)
      y = Transpose<perm = [0, 3, 1, 2]>(d)
    }}
    """).groups
    assert group.size == 8


def test_nothing_is_said_twice_for_an_operator() -> None:
    names = [rule.name for rule in BUILTIN_RULES]
    assert len(names) == len(set(names))
