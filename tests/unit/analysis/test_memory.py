"""Buffers and their peak on small hand-made executions."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from graphopt.analysis import Buffer, Step, buffers, peak


def test_a_chain_holds_two_neighbours():
    steps = [Step("a", ("x",), ("y",)), Step("b", ("y",), ("z",)), Step("c", ("z",), ("out",))]
    alive = buffers(steps, {"x": 1, "y": 10, "z": 5, "out": 2}, ["x"], ["out"])
    assert alive == (
        Buffer(("x",), 1, 0, 0),
        Buffer(("y",), 10, 0, 1),
        Buffer(("z",), 5, 1, 2),
        Buffer(("out",), 2, 2, 2),
    )
    assert peak(alive, steps) == (15, 1)


def test_in_place_joins_when_nobody_needs_the_read_one_later():
    first = Step("a", ("x",), ("y",))
    last = Step("c", ("y", "z"), ("out",))
    step = Step("b", ("y",), ("z",), in_place=(("z", "y"),))
    sizes = {"x": 4, "y": 8, "z": 8, "out": 8}
    joined = buffers([first, step], sizes, ["x"], ["z"])
    assert Buffer(("y", "z"), 8, 0, 1) in joined
    kept = buffers([first, step, last], sizes, ["x"], ["out"])
    assert Buffer(("y",), 8, 0, 2) in kept


def test_in_place_needs_room():
    steps = [Step("a", ("x",), ("y",)), Step("b", ("y",), ("z",), in_place=(("z", "y"),))]
    assert len(buffers(steps, {"x": 1, "y": 4, "z": 8}, ["x"], ["z"])) == 3


def test_a_view_lives_as_long_as_its_last_reader():
    steps = [
        Step("a", ("x",), ("y",)),
        Step("view", ("y",), ("v",), views=(("v", "y"),)),
        Step("b", ("y",), ("z",)),
        Step("c", ("v", "z"), ("out",)),
    ]
    alive = buffers(steps, {"x": 1, "y": 8, "v": 8, "z": 2, "out": 1}, ["x"], ["out"])
    assert Buffer(("y", "v"), 8, 0, 3) in alive
    assert peak(alive, steps) == (11, 3)


def test_a_view_keeps_its_source_from_being_overwritten():
    steps = [
        Step("a", ("x",), ("y",)),
        Step("view", ("y",), ("v",), views=(("v", "y"),)),
        Step("b", ("y",), ("z",), in_place=(("z", "y"),)),
        Step("c", ("v", "z"), ("out",)),
    ]
    alive = buffers(steps, dict.fromkeys("xyvz", 8) | {"out": 1}, ["x"], ["out"])
    assert Buffer(("z",), 8, 2, 3) in alive


def test_inputs_are_the_callers_and_outputs_stay():
    steps = [
        Step("a", ("x",), ("y",), in_place=(("y", "x"),)),
        Step("b", ("y",), ("z",), in_place=(("z", "y"),)),
    ]
    alive = buffers(steps, dict.fromkeys("xyz", 8), ["x"], ["y", "z"])
    assert len(alive) == 3
    assert peak(alive, steps) == (16, 0)


def test_nothing_has_no_peak():
    assert peak((), []) == (0, 0)
    assert buffers([], {}, [], []) == ()


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30))
def test_peak_lies_between_the_largest_pair_and_the_sum(sizes):
    names = [f"t{i}" for i in range(len(sizes))]
    steps = [Step(f"s{i}", (a,), (b,)) for i, (a, b) in enumerate(itertools.pairwise(names))]
    alive = buffers(steps, dict(zip(names, sizes, strict=True)), names[:1], names[-1:])
    most, where = peak(alive, steps)
    pairs = [a + b for a, b in itertools.pairwise(sizes)]
    assert most == max(pairs)
    assert 0 <= where < len(steps)
    assert most <= sum(sizes)
