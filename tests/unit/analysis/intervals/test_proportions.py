"""Intervals of shares: against published examples, by their definition, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis.intervals import Z, paired_interval, share_interval, student

counts = st.integers(1, 3000).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n)).flatmap(
        lambda t: st.tuples(st.just(t[0]), st.just(t[1]), st.integers(0, t[0] - t[1]))
    )
)


def test_students_quantiles_are_those_of_the_tables() -> None:
    # Abramowitz and Stegun, table 26.10, 0.975.
    table = {1: 12.706, 2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042, 120: 1.980}
    for freedom, wanted in table.items():
        assert student(freedom) == pytest.approx(wanted, abs=5e-4)
    assert student(10**6) == pytest.approx(Z, abs=1e-5)


@pytest.mark.parametrize(("lost", "won", "count"), [(1, 0, 44), (12, 5, 200), (30, 28, 1000)])
def test_the_ends_are_where_the_score_test_begins_to_reject(
    lost: int, won: int, count: int
) -> None:
    for end, wanted in zip(paired_interval(lost, won, count), (Z, -Z), strict=True):
        # The most likely share of "won" where the difference is ``end``, by brute force.
        shares = np.linspace(max(0.0, -end), (1 - end) / 2, 200_001)[1:-1]
        same = 1 - 2 * shares - end
        likely = lost * np.log(shares + end, where=shares + end > 0, out=np.full(len(shares), -9e9))
        likely = likely + won * np.log(shares) + (count - lost - won) * np.log(same)
        best = shares[likely.argmax()]
        deviation = (lost - won - count * end) / math.sqrt(count * (2 * best + end - end**2))
        # The grid has steps of 5e-6.
        assert deviation == pytest.approx(wanted, rel=2e-3)


@settings(max_examples=100, deadline=None)
@given(counts)
def test_the_paired_interval_holds_the_estimate_and_mirrors(given: tuple[int, int, int]) -> None:
    count, lost, won = given
    low, high = paired_interval(lost, won, count)
    estimate = (lost - won) / count
    assert -1 <= low <= estimate <= high <= 1
    assert low < high
    other = paired_interval(won, lost, count)
    # Bisection leaves 2^-60; the roots lose digits near the ends.
    assert other == (pytest.approx(-high, abs=1e-6), pytest.approx(-low, abs=1e-6))


@settings(max_examples=100, deadline=None)
@given(counts)
def test_with_nothing_won_the_upper_end_is_that_of_one_share(given: tuple[int, int, int]) -> None:
    count, lost, _ = given
    wanted = share_interval(lost, count)
    found = paired_interval(lost, 0, count)
    assert found[1] == pytest.approx(wanted[1], abs=1e-6)


@pytest.mark.parametrize("count", [50, 500, 5000])
def test_no_difference_is_not_certainty(count: int) -> None:
    low, high = paired_interval(0, 0, count)
    assert -low == pytest.approx(high)
    # The score bound z^2 / (n + z^2), a little above the rule of three's 3 / n.
    assert high == pytest.approx(Z**2 / (count + Z**2), rel=1e-6)


@pytest.mark.parametrize("count", [100, 1000])
@pytest.mark.parametrize(("lost_share", "won_share"), [(0.02, 0.01), (0.05, 0.05), (0.1, 0.03)])
def test_paired_intervals_cover(count: int, lost_share: float, won_share: float) -> None:
    random = np.random.default_rng(7)
    pairs = random.multinomial(count, [lost_share, won_share, 1 - lost_share - won_share], 2000)
    seen: dict[tuple[int, int], tuple[float, float]] = {}
    hits = 0
    for lost, won, _ in pairs.tolist():
        ends = seen.setdefault((lost, won), paired_interval(lost, won, count))
        hits += ends[0] <= lost_share - won_share <= ends[1]
    # 95 % nominal; a discrete distribution may be 2 points off, and 2,000 draws 1 point.
    assert 0.925 <= hits / 2000 <= 0.99


@pytest.mark.parametrize("share", [0.0, 0.005, 0.5, 0.9])
def test_share_intervals_cover(share: float) -> None:
    random = np.random.default_rng(3)
    found = [share_interval(k, 400) for k in random.binomial(400, share, 1000).tolist()]
    hits = np.mean([low <= share <= high for low, high in found])
    assert hits >= 0.92
    assert all(0 <= low < high <= 1 for low, high in found)
    assert not math.isnan(float(hits))
