"""Folding and rails: nothing is lost, nothing is drawn over anything else, and it stays short."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.page.drawing import drawing
from graphopt.page.folding import MOST, UNFOLDED, folded
from graphopt.report import KernelRecord, KernelsRecord
from tests.unit.page import records


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=400))
def test_every_kernel_is_in_one_row(signs: list[str]) -> None:
    rows = folded(signs)
    assert sorted(m for row in rows for m in row.members) == list(range(len(signs)))
    assert len(rows) <= max(MOST, UNFOLDED)
    for row in rows:
        if row.block is not None:
            assert {signs[m] for m in row.members} == {signs[row.members[0]]}
            assert len(row.members) == row.times


def test_few_kernels_are_shown_as_they_are() -> None:
    assert [row.members for row in folded("ab" * 30)] == [(i,) for i in range(60)]


def test_blocks_that_repeat_are_shown_once() -> None:
    rows = folded("x" + "abcd" * 24 + "yz")
    assert [row.times for row in rows] == [1, 24, 24, 24, 24, 1, 1]
    assert rows[1].members == tuple(range(1, 97, 4))


def test_without_repeats_neighbours_are_put_together() -> None:
    rows = folded([str(i) for i in range(1000)])
    assert len(rows) <= MOST
    assert rows[0].members == tuple(range(7))


def kernel(name: str, *reads: int) -> KernelRecord:
    return KernelRecord(name, "Conv", "QLinearConv", "int8", 10.0, 3, reads)


def test_what_is_read_later_runs_on_a_rail_of_its_own() -> None:
    graph = (kernel("a"), kernel("b", 0), kernel("c", 1), kernel("d", 0, 2), kernel("e", 1, 3))
    sketch, _ = drawing(KernelsRecord(graph, graph))
    straight = [rail for rail in sketch.rails if "Q" not in rail]
    bent = [rail for rail in sketch.rails if "Q" in rail]
    assert len(straight) == 4
    lanes = [re.search(r"Q(\d+) ", rail) for rail in bent]
    assert len({found[1] for found in lanes if found}) == 2


def test_bars_of_both_graphs_are_on_one_scale() -> None:
    slow, fast = kernel("a"), KernelRecord("a", "Conv", "QLinearConv", "int8", 5.0, 3)
    before, after = drawing(KernelsRecord((slow,), (fast,)))
    assert before.marks[0].bar == 2 * after.marks[0].bar
    assert before.title == "Before: 1 kernel, 10.0 µs"


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 300))
def test_any_graph_is_drawn_within_its_frame(count: int) -> None:
    for sketch in drawing(KernelsRecord(records.kernels(count), records.kernels(count + 1))):
        numbers = [int(n) for rail in sketch.rails for n in re.findall(r"\d+", rail)]
        assert all(0 <= n <= sketch.height for n in numbers)
        assert all(0 <= mark.y <= sketch.height and 0 <= mark.bar <= 44 for mark in sketch.marks)
