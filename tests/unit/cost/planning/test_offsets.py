"""Placements against brute force: nothing overlaps, and small cases are optimal."""

from __future__ import annotations

import csv
from itertools import combinations, permutations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.cost.planning import Interval, lower_bound, place
from graphopt.cost.planning.greedy import by_size, height, place_in_order
from graphopt.cost.planning.intervals import parts

LIFE = st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(0, 40))
INTERVALS = st.lists(LIFE, max_size=24).map(
    lambda found: [Interval(low, low + length, size) for low, length, size in found]
)
FEW = st.lists(LIFE, max_size=6).map(
    lambda found: [Interval(low, low + length, size) for low, length, size in found]
)


def overlaps(intervals, offsets) -> list[tuple[int, int]]:
    """Return the pairs that are alive together and share an address, byte by byte."""
    found = []
    for i, j in combinations(range(len(intervals)), 2):
        a, b = intervals[i], intervals[j]
        together = range(max(a.lower, b.lower), min(a.upper, b.upper))
        shared = set(range(offsets[i], offsets[i] + a.size)) & set(
            range(offsets[j], offsets[j] + b.size)
        )
        if together and shared:
            found.append((i, j))
    return found


def optimum(intervals) -> int:
    """Return the lowest height: first fit in the order of offsets reproduces any best placement."""
    count = len(intervals)
    return min(
        (
            height(intervals, place_in_order(intervals, order))
            for order in permutations(range(count))
        ),
        default=0,
    )


@settings(max_examples=150, deadline=None)
@given(INTERVALS)
def test_nothing_overlaps_and_the_bounds_hold(intervals):
    found = place(intervals, seconds=60)
    assert overlaps(intervals, found.offsets) == []
    assert min(found.offsets, default=0) >= 0
    real = [i for i, one in enumerate(intervals) if one.upper > one.lower and one.size]
    ends = [found.offsets[i] + intervals[i].size for i in real]
    assert found.height == max(ends, default=0)
    assert found.bound == lower_bound(intervals) <= found.height


@settings(max_examples=60, deadline=None)
@given(FEW)
def test_few_intervals_are_placed_as_low_as_possible(intervals):
    alive = [one for one in intervals if one.size and one.upper > one.lower]
    assert place(alive, seconds=60).height == optimum(alive)


@settings(max_examples=60, deadline=None)
@given(INTERVALS)
def test_bound_is_what_is_alive_at_the_worst_moment(intervals):
    alive = [
        sum(one.size for one in intervals if one.lower <= moment < one.upper)
        for moment in range(21)
    ]
    assert lower_bound(intervals) == max(alive)
    assert max((p.bound * p.unit for p in parts(intervals)), default=0) == max(alive)


@settings(max_examples=40, deadline=None)
@given(INTERVALS)
def test_parts_lose_nothing(intervals):
    places = sorted(i for part in parts(intervals) for i in part.places)
    assert places == [i for i, one in enumerate(intervals) if one.size and one.upper > one.lower]
    for part in parts(intervals):
        chosen = [intervals[i] for i in part.places]
        for i, j in combinations(range(len(chosen)), 2):
            together = chosen[i].lower < chosen[j].upper and chosen[j].lower < chosen[i].upper
            assert bool(part.overlap[i, j]) is together


def test_same_intervals_give_the_same_offsets():
    intervals = [Interval(i % 7, i % 7 + 1 + i % 5, 3 + 7 * i % 11) for i in range(60)]
    assert place(intervals, seconds=60) == place(intervals, seconds=60)


def test_greedy_alone_is_what_no_effort_gives():
    intervals = [Interval(0, 2, 4), Interval(1, 3, 3), Interval(2, 4, 5)]
    greedy = height(intervals, place_in_order(intervals, by_size(intervals)))
    assert place(intervals, effort=0).height <= greedy


def test_best_fit_takes_the_smallest_gap():
    # free at [0, 2): 0 to 4 and 6 to 8; two units go into the second gap
    intervals = [Interval(0, 9, 4), Interval(0, 2, 2), Interval(0, 9, 2), Interval(2, 9, 2)]
    first = [Interval(0, 1, 4), *intervals]
    offsets = place_in_order(first[1:], [0, 1, 2, 3], "best")
    assert offsets == [0, 4, 6, 4]


def test_the_clock_is_only_a_guard():
    intervals = [Interval(i % 7, i % 7 + 1 + i % 5, 3 + 7 * i % 11) for i in range(60)]
    found = place(intervals, seconds=0)
    assert overlaps(intervals, found.offsets) == []
    assert found.in_time == (found.height == found.bound)


@pytest.mark.parametrize("empty", [[], [Interval(3, 3, 9)], [Interval(0, 4, 0)]])
def test_nothing_to_place_takes_nothing(empty):
    found = place(empty)
    assert (found.height, found.bound, found.gap) == (0, 0, 0)


def test_hard_instances_are_within_five_percent(shared):
    heights = []
    for path in sorted((shared / "memory").glob("*.csv"))[:5]:
        with path.open(encoding="utf-8") as file:
            rows = [
                Interval(int(r["lower"]), int(r["upper"]), int(r["size"]))
                for r in csv.DictReader(file)
            ]
        heights.append(place(rows, seconds=60).height / (1 << 20))
    assert len(heights) == 5
    assert fmean(heights) < 1.03  # greedy by size: 1.34 over all of them
