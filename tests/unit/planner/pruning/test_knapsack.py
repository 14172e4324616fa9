"""The allocation against brute force."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.planner.pruning.knapsack import Block, Option, allocate

GAIN = st.integers(0, 20).map(float)
LOSS = st.integers(0, 50).map(float)


@st.composite
def sites(draw: st.DrawFn, prefix: str = "s", depth: int = 1) -> Block:
    name = f"{prefix}{draw(st.integers(0, 10**6))}"
    count = draw(st.integers(0, 3))
    options = tuple(Option(name, str(i), draw(LOSS), draw(GAIN)) for i in range(count))
    inside: tuple[Block, ...] = ()
    if depth:
        inside = tuple(draw(sites(f"{name}.{i}.", 0)) for i in range(draw(st.integers(0, 2))))
    return Block(options, inside)


def choices(block: Block) -> list[tuple[Option, ...]]:
    """Every way to change a block."""
    inner = [sum(parts, ()) for parts in itertools.product(*map(choices, block.inside))]
    return [*inner, *((option,) for option in block.options)]


@settings(max_examples=60, deadline=None)
@given(st.lists(sites(), min_size=1, max_size=3), st.integers(1, 60))
def test_no_other_choice_loses_less(blocks: list[Block], wanted: int) -> None:
    totals = [
        (sum(o.loss for o in every), sum(o.gain for o in every))
        for every in (sum(parts, ()) for parts in itertools.product(*map(choices, blocks)))
    ]
    found = allocate(blocks, float(wanted))
    # Gains are rounded down by at most a 4000th of what is wanted, once per block.
    surely = [loss for loss, gain in totals if gain >= wanted * (1 + 4 / 4000)]
    assert found is not None or not surely
    if found is not None:
        loss = sum(o.loss for o in found)
        assert sum(o.gain for o in found) >= wanted
        assert loss >= min(one for one, gain in totals if gain >= wanted)
        assert loss <= min(surely, default=loss)


def test_a_block_changes_as_a_whole_or_inside() -> None:
    inner = Block((Option("width", "8", 1.0, 2.0),))
    block = Block((Option("branch", "drop", 5.0, 4.0),), (inner,))
    assert allocate([block], 2.0) == (Option("width", "8", 1.0, 2.0),)
    assert allocate([block], 4.0) == (Option("branch", "drop", 5.0, 4.0),)
    assert allocate([block], 5.0) is None


@pytest.mark.parametrize("wanted", [0.0, -1.0])
def test_nothing_wanted_is_nothing_done(wanted: float) -> None:
    assert allocate([Block((Option("a", "b", 1.0, 1.0),))], wanted) == ()
