"""Random problems of precision, and their optimum by enumeration."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from graphopt.planner.assignment.problem import ProblemDraft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from graphopt.planner.assignment.problem import Labels, Problem

LABELS = ("fp32", "int8", "int8-dynamic", "w4")


def random_problem(seed: int, vertices: int, labels: int) -> Problem:
    """Return a chain with some further borders, two shared conversions, and missing labels."""
    source = random.Random(seed)
    used = LABELS[:labels]
    draft = ProblemDraft(used)
    names = [f"k{i}" for i in range(vertices)]
    for name in names:
        draft.times[name] = {"fp32": source.uniform(1, 30)}
        draft.noises[name] = {"fp32": 0.0}
        for label in used[1:]:
            if source.random() < 0.85:
                draft.times[name][label] = source.uniform(1, 30)
                draft.noises[name][label] = 10 ** source.uniform(-5, -2)
    for one, other in itertools.combinations(range(vertices), 2):
        if source.random() < (0.9 if other == one + 1 else 0.15):
            for pair in itertools.permutations(used, 2):
                draft.charge(names[one], names[other], pair, source.uniform(0, 12))
    for _ in range(2):
        writer = source.choice(names)
        readers = tuple(source.sample([n for n in names if n != writer], 2))
        draft.shared.append((writer, readers, "int8", dict.fromkeys(used, 8.0)))
    return draft.problem()


def every(problem: Problem) -> Iterator[Labels]:
    """Yield every labelling."""
    yield from itertools.product(*(problem.allowed(v) for v in range(len(problem.names))))


def least(problem: Problem, cost: Callable[[Labels], float]) -> float:
    """Return the least cost of any labelling."""
    return min(cost(chosen) for chosen in every(problem))
