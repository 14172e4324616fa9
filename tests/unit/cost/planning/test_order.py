"""Orders against all topological orders of small graphs."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis import Step, buffers, peak
from graphopt.cost.planning import find_order
from graphopt.cost.planning.order import step_bound


@st.composite
def executions(draw, most: int = 6):
    """Return steps of a random graph in a valid order, sizes, inputs and outputs."""
    count = draw(st.integers(1, most))
    sizes = {"x": draw(st.integers(1, 9))}
    steps = []
    for i in range(count):
        known = list(sizes)
        reads = tuple(draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)))
        kind = draw(st.sampled_from(["plain", "plain", "view", "over"]))
        name = f"t{i}"
        sizes[name] = draw(st.integers(1, 9)) if kind == "plain" else sizes[reads[0]]
        pair = ((name, reads[0]),)
        steps.append(
            Step(
                name, reads, (name,), pair if kind == "view" else (), pair if kind == "over" else ()
            )
        )
    outputs = draw(st.lists(st.sampled_from([s.writes[0] for s in steps]), unique=True))
    return tuple(steps), sizes, ("x",), tuple(outputs)


def is_valid(steps, order) -> bool:
    made = {"x"}
    for i in order:
        if not set(steps[i].reads) <= made:
            return False
        made.update(steps[i].writes)
    return sorted(order) == list(range(len(steps)))


def alive(steps, sizes, inputs, outputs, order) -> int:
    chosen = [steps[i] for i in order]
    return peak(buffers(chosen, sizes, inputs, outputs), chosen)[0]


@settings(max_examples=250, deadline=None)
@given(executions())
def test_no_topological_order_is_better(execution):
    steps = execution[0]
    orders = [o for o in permutations(range(len(steps))) if is_valid(steps, o)]
    best = min(alive(*execution, order) for order in orders)
    found = find_order(*execution, below=1 << 30)
    assert found.exact
    assert found.order is not None
    assert is_valid(steps, found.order)
    assert found.peak == alive(*execution, found.order) == best
    assert step_bound(*execution) <= best
    assert find_order(*execution, below=best).order is None


@settings(max_examples=100, deadline=None)
@given(executions(most=14), st.integers(1, 3))
def test_a_narrow_search_still_keeps_dependencies(execution, width):
    found = find_order(*execution, below=1 << 30, width=width)
    assert found.order is not None
    assert is_valid(execution[0], found.order)
    assert found.peak == alive(*execution, found.order)


def test_a_branch_that_shrinks_goes_first():
    steps = (
        Step("wide", ("x",), ("a",)),
        Step("other", ("x",), ("b",)),
        Step("shrink", ("a",), ("c",)),
        Step("shrink too", ("b",), ("d",)),
        Step("join", ("c", "d"), ("y",)),
    )
    sizes = {"x": 10, "a": 50, "b": 50, "c": 1, "d": 1, "y": 1}
    given_peak = alive(steps, sizes, ("x",), ("y",), range(5))
    found = find_order(steps, sizes, ("x",), ("y",), below=given_peak)
    assert given_peak == 110
    assert found.peak == 61
    assert found.order in {(0, 2, 1, 3, 4), (1, 3, 0, 2, 4)}


def test_a_search_that_is_cut_off_says_so():
    steps = tuple(Step(f"s{i}", ("x",), (f"t{i}",)) for i in range(8))
    sizes = {"x": 5, **{f"t{i}": 3 for i in range(8)}}
    found = find_order(
        steps, sizes, ("x",), tuple(s.writes[0] for s in steps), below=1 << 30, expansions=3
    )
    assert (found.order, found.exact) == (None, False)


def test_steps_that_write_a_tensor_again_keep_their_place():
    # onnxruntime repeats a DequantizeLinear for each reader
    steps = (
        Step("dq", ("x",), ("f",)),
        Step("one", ("f",), ("a",)),
        Step("dq", ("x",), ("f",)),
        Step("two", ("f",), ("b",)),
        Step("join", ("a", "b"), ("y",)),
    )
    sizes = {"x": 1, "f": 4, "a": 2, "b": 2, "y": 1}
    found = find_order(steps, sizes, ("x",), ("y",), below=1 << 30)
    assert found.order is not None
    assert found.order.index(0) < found.order.index(1)
    assert found.order.index(2) < found.order.index(3)
