"""Fits to what a Relu or Clip leaves, and ridges chosen on samples left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.prune.reconstruct.cross_validation import best_ridge, joined, missed
from graphopt.passes.prune.reconstruct.layers import Rows, layer_of
from graphopt.passes.prune.reconstruct.least_squares import made_up, solve_moments
from graphopt.passes.prune.reconstruct.moments import Moments, MomentSums
from graphopt.passes.prune.reconstruct.rectified import fit_rectified
from graphopt.passes.prune.reconstruct.rows import product_of
from graphopt.testing import graph

Array = np.ndarray[Any, Any]


def moments(inputs: Array, outputs: Array) -> Moments:
    """Return the moments of rows [groups, rows, ...]."""
    sums = MomentSums(inputs.shape[0], inputs.shape[2], outputs.shape[2])
    sums.update(inputs, outputs, inputs.shape[1])
    found = sums.result()
    assert found is not None
    return found


def drawn(seed: int, rows: int = 600, *, skip: bool = False, groups: int = 1) -> Rows:
    """Return rows whose totals a Relu hides much of: what is lost is only seen below zero."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((groups, rows, 5))
    hidden = np.abs(random.standard_normal((groups, rows, 1)))
    total = x @ random.standard_normal((groups, 5, 3)) - 1.0
    skips = random.standard_normal(total.shape).astype(np.float32) if skip else None
    total = total if skips is None else total + skips
    total = np.where(total < 0, total - hidden, total)
    return Rows(x.astype(np.float32), total.astype(np.float32), skips, np.arange(rows) % 4 == 3)


def aims(rows: Rows) -> Array:
    return rows.totals if rows.skips is None else rows.totals - rows.skips


def missed_behind(rows: Rows, limits: tuple[float, float], weight: Array, bias: Array) -> float:
    found = rows.inputs @ weight + bias[:, None]
    found = found if rows.skips is None else found + rows.skips
    return float(np.square(np.clip(found, *limits) - np.clip(rows.totals, *limits)).mean())


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("limits", [(0.0, np.inf), (0.0, 1.0)])
def test_less_is_missed_behind_the_limits(
    skip: bool, groups: int, limits: tuple[float, float]
) -> None:
    rows = drawn(0, skip=skip, groups=groups)
    part = rows.some(~rows.left_out)
    whole = moments(rows.inputs, aims(rows))
    fitted = whole, moments(part.inputs, aims(part))
    prior = np.zeros((groups, 5, 3))
    made = fit_rectified(rows, limits, fitted, prior, 1e-4)
    plain = solve_moments(whole, prior, 1e-4)
    assert made is not None
    assert plain is not None
    fresh = drawn(0, skip=skip, groups=groups)
    errors = [missed_behind(fresh, limits, fit.weight, fit.bias) for fit in (made, plain)]
    assert errors[0] < 0.97 * errors[1]


def test_without_limits_that_matter_nothing_changes() -> None:
    rows = drawn(1)
    part = rows.some(~rows.left_out)
    fitted = moments(rows.inputs, aims(rows)), moments(part.inputs, aims(part))
    assert fit_rectified(rows, (-1e9, 1e9), fitted, np.zeros((1, 5, 3)), 1e-3) is None


READERS = {
    "Relu(t)": (0.0, np.inf),
    "Clip(t, zero, six)": (0.0, 6.0),
    "Clip(t, , six)": (-np.inf, 6.0),
    "Clip(t, bound)": (-np.inf, np.inf),
    "Sigmoid(t)": (-np.inf, np.inf),
    "Add(t, t)": (-np.inf, np.inf),
}


@pytest.mark.parametrize("reader", READERS)
def test_limits_are_those_of_the_only_reader(reader: str) -> None:
    model = graph(
        f"""g (float[1, 4, 5, 5] x, float bound) => (float[1, 4, 5, 5] y)
        <float[4, 4, 3, 3] w, float zero = {{0}}, float six = {{6}}>
        {{ f = Conv <pads=[1, 1, 1, 1]> (x, w) t = Add(f, x) y = {reader} }}"""
    )
    ir.infer_shapes(model)
    product = product_of(model.nodes("Conv")[0])
    assert product is not None
    layer = layer_of(product, product, np.arange(4), lambda _: False)
    assert (layer.total, layer.skip) == ("t", "x")
    assert layer.limits == READERS[reader]
    alone = layer_of(product, product, np.arange(4), None)
    assert (alone.total, alone.skip, alone.is_limited) == ("f", None, False)
    later = layer_of(product, product, np.arange(4), lambda value: value is product.source)
    assert later.skip is None


def test_missed_is_the_mean_square_on_other_rows() -> None:
    one, other = drawn(2, groups=2), drawn(3, groups=2)
    made = solve_moments(moments(one.inputs, one.totals), np.zeros((2, 5, 3)), 1e-2)
    assert made is not None
    left = other.inputs @ made.weight + made.bias[:, None] - other.totals
    wanted = np.square(left).mean(axis=1).sum()
    found = missed(made, moments(other.inputs, other.totals))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_joined_moments_are_those_of_all_rows() -> None:
    rows = drawn(4)
    parts = [rows.some(rows.left_out), rows.some(~rows.left_out)]
    found = joined(*(moments(part.inputs, part.totals) for part in parts))
    wanted = moments(rows.inputs, rows.totals)
    for name in ("mean", "centred", "mean_out", "cross", "variance_out"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-4)
    assert (found.rows, found.samples) == (wanted.rows, wanted.samples)


def test_few_rows_of_noise_want_a_large_ridge_and_many_a_small_one() -> None:
    chosen = {}
    for rows in (12, 4000):
        random = np.random.default_rng(5)
        truth, prior = random.standard_normal((2, 1, 8, 2))
        x = random.standard_normal((2, 1, rows, 8)).astype(np.float32)
        y = (x @ (prior + 0.2 * truth) + random.standard_normal((2, 1, rows, 2))).astype(np.float32)
        pair = moments(x[0], y[0]), moments(x[1], y[1])
        found = best_ridge([pair], prior, (10.0, 1.0, 0.1, 0.01, 0.001))
        assert found is not None
        chosen[rows] = found[0]
    assert chosen[12] > 10 * chosen[4000]


def test_what_stays_makes_up_for_what_goes() -> None:
    random = np.random.default_rng(6)
    x, weight = random.standard_normal((50, 7)), random.standard_normal((7, 3))
    keep = np.array([True, False, True, True, False, True, True])
    found = made_up(x.T @ x, keep, weight)
    wanted = np.linalg.lstsq(x[:, keep], x @ weight, rcond=None)[0]
    assert found is not None
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_array_equal(made_up(x.T @ x, np.ones(7, dtype=bool), weight), weight)
    assert made_up(np.zeros((7, 7)), keep, weight) is None
