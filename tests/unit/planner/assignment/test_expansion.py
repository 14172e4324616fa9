"""Minimum cuts and alpha-expansion against enumeration."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.planner.assignment.binary import BinaryEnergy
from graphopt.planner.assignment.expansion import between, cheapest
from graphopt.planner.assignment.moves import mixed
from tests.unit.planner.assignment.random_problems import every, least, random_problem

WEIGHTS = (0.0, 1e3, 1e5)
small = st.integers(0, 20).map(float)


@given(
    st.lists(st.tuples(small, small), min_size=4, max_size=4),
    st.lists(st.tuples(small, small, small, small), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_a_binary_energy_is_minimised_exactly_where_its_terms_allow_it(
    unary: list[tuple[float, float]], pairs: list[tuple[float, float, float, float]]
) -> None:
    energy = BinaryEnergy()
    for vertex, (zero, one) in enumerate(unary):
        energy.add(vertex, zero, one)
    terms = []
    for vertex, (a, b, c, d) in enumerate(pairs):
        term = (a, max(b, a + d - c), c, d)
        terms.append(term)
        energy.add_pair(vertex, vertex + 1, term)
    assert not energy.truncated

    def cost(x: tuple[int, ...]) -> float:
        total = sum(unary[v][x[v]] for v in range(4))
        return total + sum(t[2 * x[i] + x[i + 1]] for i, t in enumerate(terms))

    ones = energy.minimum()
    found = cost(tuple(int(v in ones) for v in range(4)))
    assert found == pytest.approx(min(map(cost, itertools.product((0, 1), repeat=4))), abs=1e-6)


def test_terms_that_no_cut_expresses_are_counted() -> None:
    energy = BinaryEnergy()
    energy.add_pair("a", "b", (5.0, 0.0, 0.0, 5.0))
    assert energy.truncated == 1


@pytest.mark.parametrize("seed", range(25))
def test_two_labels_are_always_exact(seed: int) -> None:
    problem = random_problem(seed, 9, 2)
    for weight in WEIGHTS:
        best = least(problem, lambda c, w=weight: problem.energy(c, w))  # type: ignore[misc]
        found = cheapest(problem, weight)
        assert problem.energy(found, weight) == pytest.approx(best, rel=1e-9)


def test_more_labels_are_nearly_always_exact_and_never_far_off() -> None:
    hits, worst, count = 0, 1.0, 0
    for seed, labels in itertools.product(range(20), (3, 4)):
        problem = random_problem(seed, 5, labels)
        for weight in WEIGHTS:
            best = least(problem, lambda c, w=weight, p=problem: p.energy(c, w))  # type: ignore[misc]
            found = problem.energy(cheapest(problem, weight), weight)
            assert found >= best - 1e-9
            count += 1
            hits += found <= best * (1 + 1e-9)
            worst = max(worst, found / best)
    print(f"{hits} of {count} exact, the worst {worst:.3f} times the optimum")
    assert hits >= 0.95 * count
    assert worst < 1.15


@pytest.mark.parametrize("seed", range(10))
def test_what_lies_between_two_solutions_is_found_from_them(seed: int) -> None:
    problem = random_problem(seed, 8, 2)
    low, high = cheapest(problem, 1e2), cheapest(problem, 1e5)
    found = between(problem, 1e4, low, high)
    best = least(problem, lambda c: problem.energy(c, 1e4))
    assert problem.energy(found, 1e4) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_a_mixture_is_the_best_of_all_mixtures(seed: int) -> None:
    problem = random_problem(seed, 7, 3)
    current = tuple(problem.allowed(v)[0] for v in range(7))
    proposed = tuple(problem.allowed(v)[-1] for v in range(7))
    found = mixed(problem, 1e3, current, proposed)
    mixtures = (
        c
        for c in every(problem)
        if all(n in (a, b) for n, a, b in zip(c, current, proposed, strict=True))
    )
    best = min(problem.energy(c, 1e3) for c in mixtures)
    assert best - 1e-9 <= problem.energy(found, 1e3) <= problem.energy(current, 1e3) + 1e-9
    assert problem.energy(found, 1e3) <= best * 1.1
