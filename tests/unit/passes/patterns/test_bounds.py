"""Bounds of masks: what is known of their elements, and of those of the first column."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt import ir
from graphopt.passes.patterns.bounds import LOWEST, BoundsOf
from graphopt.testing import graph, run

_INF = math.inf


def _value(line: str, constants: str = "") -> ir.Graph:
    made = graph(f"""m (float[2, 3] x, bool[2, 3] c, int64[2, 3] i) => (float[A, B] y)
      <float[2, 3] t = {{0, -inf, -5, 1, 2, 3}}, float zero = {{0.0}}, float two = {{2.0}},
       float low = {{-3.4028234663852886e38}}, float one = {{1.0}}{constants}> {{ {line} }}""")
    ir.infer_shapes(made)
    return made


def _bounds(line: str, constants: str = "") -> tuple[float, float, bool]:
    found = BoundsOf().all(_value(line, constants).outputs[0])
    return found.low, found.high, found.infinite


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("y = Identity (t)", (-_INF, 3, True)),
        ("y = Identity (x)", (-_INF, _INF, False)),
        ("y = Where (c, zero, low)", (LOWEST, 0, False)),
        ("f = Cast <to = 1> (c)\n n = Sub (one, f)\n y = Mul (n, low)", (LOWEST, 0, False)),
        ("f = Cast <to = 1> (i)\n y = Mul (f, two)", (-_INF, _INF, False)),
        ("m = Where (c, zero, low)\n n = Where (c, low, zero)\n y = Add (m, n)",
         (2 * LOWEST, 0, True)),
        ("m = Where (c, zero, low)\n y = Sub (m, one)", (LOWEST - 1, -1, False)),
        ("m = Where (c, zero, low)\n y = Max (m, one)", (1, 1, False)),
        ("m = Where (c, zero, low)\n y = Neg (m)", (0, -LOWEST, False)),
        ("n = Not (c)\n y = Where (n, two, one)", (1, 2, False)),
        ("m = Cast <to = 10> (t)\n y = Cast <to = 1> (m)", (-_INF, _INF, True)),
        ("y = Trilu <upper = 1> (t)", (-_INF, 3, True)),
    ],
)  # fmt: skip
def test_bounds_of_all_elements(line: str, wanted: tuple[float, float, bool]) -> None:
    assert _bounds(line) == wanted


@pytest.mark.parametrize(
    ("line", "constants", "wanted"),
    [
        ("y = Identity (t)", "", (0, 1)),
        ("y = Slice (t, nought, two1, last)",
         ", int64[1] nought = {0}, int64[1] two1 = {2}, int64[1] last = {1}", (0, 1)),
        ("y = Slice (t, start, end, last)",
         ", int64[1] start = {1}, int64[1] end = {3}, int64[1] last = {-1}", (-_INF, 3)),
        ("y = Transpose <perm = [1, 0]> (t)", "", (-_INF, 3)),
        ("y = Trilu <upper = 1> (t, up)", ", int64 up = {1}", (0, 0)),
        ("y = Concat <axis = 1> (t, x)", "", (0, 1)),
        ("y = Concat <axis = 0> (t, t)", "", (0, 1)),
        ("y = Add (t, two)", "", (2, 3)),
    ],
)  # fmt: skip
def test_bounds_of_the_first_column(line: str, constants: str, wanted: tuple[float, float]) -> None:
    found = BoundsOf().first_column(_value(line, constants).outputs[0])
    assert (found.low, found.high) == wanted


_STEPS = (
    "Add ({}, {})", "Sub ({}, {})", "Mul ({}, {})", "Max ({}, {})", "Min ({}, {})",
    "Where (c, {}, {})",
)  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(_STEPS), st.integers(0, 9), st.integers(0, 9)), max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_elements_lie_between_the_bounds(
    steps: list[tuple[str, int, int]], condition: list[bool]
) -> None:
    names, lines = ["k", "two", "one"], []
    for number, (step, first, second) in enumerate(steps):
        lines.append(f"v{number} = " + step.format(names[first % len(names)], names[second % 3]))
        names.append(f"v{number}")
    lines.append(f"y = Identity ({names[-1]})")
    model = graph(f"""m (bool[2, 3] c) => (float[2, 3] y)
      <float[2, 3] k = {{0.5, -7, -5, 1, 2, 3}}, float two = {{2.0}}, float one = {{-1.0}}>
      {{ {" ".join(lines)} }}""")
    output = model.outputs[0]
    (made,) = run(model, {"c": np.array(condition).reshape(2, 3)})
    made = np.broadcast_to(made, (2, 3))
    both = BoundsOf()
    every, first_column = both.all(output), both.first_column(output)
    assert not every.infinite
    assert every.low <= made.min()
    assert made.max() <= every.high
    assert first_column.low <= made[:, 0].min()
    assert made[:, 0].max() <= first_column.high
