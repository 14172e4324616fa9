"""The Pareto front, against its definition, and what each rule picks from it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graphopt.planner.joint.candidates import Candidate, Made
from graphopt.planner.joint.front import (
    BALANCED,
    FASTEST,
    MOST_ACCURATE,
    SMALLEST,
    Point,
    front_of,
    pick,
)


def point(label: str, *costs: float) -> Point:
    return Point(Made(Candidate(label), label), costs)


costs = st.tuples(*[st.integers(0, 4).map(float)] * 5)


@given(st.lists(costs, max_size=12))
def test_the_front_is_what_nothing_dominates(found: list[tuple[float, ...]]) -> None:
    points = [point(str(i), *each) for i, each in enumerate(found)]
    front = front_of(points)
    kept = {p.costs for p in front}
    expected = {
        mine
        for mine in found
        if not any(
            all(o <= m for o, m in zip(other, mine, strict=True)) and other != mine
            for other in found
        )
    }
    assert kept == expected
    assert len(front) == len(kept)


def test_each_rule_takes_its_own() -> None:
    fast = point("fast", 2.0, 1.0, 50.0, 0.0, 0.0)
    small = point("small", 1.5, 3.0, 10.0, 0.0, 0.0)
    exact = point("exact", 0.0, 9.0, 90.0, 0.0, 0.0)
    middle = point("middle", 0.7, 2.5, 25.0, 0.0, 0.0)
    points = [fast, small, exact, middle]
    assert pick(points, FASTEST) is fast
    assert pick(points, SMALLEST) is small
    assert pick(points, MOST_ACCURATE) is exact
    assert pick(points, BALANCED) is middle
