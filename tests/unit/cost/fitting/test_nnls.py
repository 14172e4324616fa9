"""Nonnegative least squares against all subsets of columns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.cost.fitting import nnls, robust_nnls


def best_of_all_subsets(matrix, goal):
    """Return the least residual of the nonnegative solutions on each subset of columns."""
    best = float(goal @ goal)
    for size in range(1, matrix.shape[1] + 1):
        for chosen in itertools.combinations(range(matrix.shape[1]), size):
            part = matrix[:, chosen]
            found = np.linalg.lstsq(part, goal, rcond=None)[0]
            if (found >= 0).all():
                best = min(best, float(((part @ found - goal) ** 2).sum()))
    return best


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_no_subset_of_columns_does_better(seed, columns):
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((12, columns)) * 10.0 ** random.integers(-4, 5, columns)
    goal = random.standard_normal(12)
    found = nnls(matrix, goal)
    assert (found >= 0).all()
    residual = float(((matrix @ found - goal) ** 2).sum())
    assert residual <= best_of_all_subsets(matrix, goal) * (1 + 1e-6) + 1e-9


def test_columns_that_are_nearly_equal():
    random = np.random.default_rng(0)
    one = random.random(50)
    matrix = np.stack([one, one * (1 + 1e-9), random.random(50), np.zeros(50)], axis=1)
    goal = matrix @ np.array([1.0, 0.0, 2.0, 0.0])
    assert np.abs(matrix @ nnls(matrix, goal) - goal).max() < 1e-5


def test_ridge_holds_what_the_data_do_not_tell():
    matrix = np.array([[1.0, 0.0], [2.0, 0.0]])
    found = nnls(matrix, np.array([3.0, 6.0]), np.array([0.0, 1.0]), np.array([0.0, 7.0]))
    assert found == pytest.approx([3.0, 7.0], rel=1e-6)


def test_outliers_hardly_count():
    random = np.random.default_rng(1)
    matrix = random.random((200, 2)) + 0.1
    goal = matrix @ np.array([2.0, 3.0]) * (1 + 0.01 * random.standard_normal(200))
    goal[:10] *= 5
    assert robust_nnls(matrix, goal) == pytest.approx([2.0, 3.0], rel=0.1)
