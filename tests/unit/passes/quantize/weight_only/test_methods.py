"""The methods against brute force, against each other, and at the edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.quantize.weight_only.blocks import Blocks, Grid
from graphopt.passes.quantize.weight_only.coordinate_descent import refine
from graphopt.passes.quantize.weight_only.gptq import Curvature, gptq
from graphopt.passes.quantize.weight_only.hqq import NORM, hqq
from graphopt.passes.quantize.weight_only.methods import (
    WITH_DATA,
    WITHOUT_DATA,
    quantize_rows,
    relative_error,
    sampled,
    try_methods,
)
from graphopt.passes.quantize.weight_only.round_to_nearest import round_to_nearest
from graphopt.passes.quantize.weight_only.search_scales import search_scales

GRIDS = [
    Grid(bits, 16, symmetric, fractional)
    for bits in (2, 4, 8)
    for symmetric, fractional in ((False, False), (True, False), (False, True))
]


def matrix(rows: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, features)).astype(np.float32)


def correlated(features: int, seed: int = 0) -> np.ndarray:
    """A Gram matrix of activations that share directions and have unequal sizes."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((features, features)) * np.exp(random.normal(0, 1, features))
    activations = random.standard_normal((4 * features, features)) @ mixing
    return activations.T @ activations / len(activations)


def error(rows: np.ndarray, blocks: Blocks, gram: np.ndarray | None = None) -> float:
    difference = (blocks.dequantized(rows.shape[1]) - rows).astype(np.float64)
    gram = np.eye(rows.shape[1]) if gram is None else gram
    return float(np.sum((difference @ gram) * difference))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_codes_and_zero_points_are_in_range(grid: Grid) -> None:
    rows = matrix(5, 40) * np.array([[1], [0], [1e-30], [1e6], [-1]], np.float32)
    curvature = Curvature(correlated(40))
    for method in WITH_DATA:
        found = quantize_rows(lambda a, b: rows[a:b], rows.shape, grid, method, curvature)
        assert found.codes.max() <= grid.top
        assert found.zero_points.min() >= 0
        assert found.zero_points.max() <= grid.top
        assert np.isfinite(found.scales).all()
        if not grid.fractional:
            np.testing.assert_array_equal(found.zero_points, np.rint(found.zero_points))
        np.testing.assert_array_equal(found.dequantized(40)[1], 0)


@given(st.integers(0, 1000), st.sampled_from(GRIDS))
@settings(max_examples=30, deadline=None)
def test_rounding_clips_nothing_and_is_within_half_a_step(seed: int, grid: Grid) -> None:
    rows = matrix(3, 32, seed)
    found = round_to_nearest(rows, grid)
    steps = np.abs(found.scales).repeat(16, axis=1)
    # A rounded zero point moves the range by half a step; the positive half of symmetric codes is
    # one short.
    allowed = {True: 1.0, False: 0.5 if grid.fractional else 1.0}[grid.symmetric]
    assert (np.abs(found.dequantized(32) - rows) <= allowed * steps * (1 + 1e-4)).all()


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_search_comes_close_to_brute_force(seed: int) -> None:
    rows, grid = matrix(1, 16, seed), Grid(2, 16)
    importance = np.random.default_rng(seed).uniform(0.1, 2, 16).astype(np.float32)
    best = np.inf
    for zero, scale in itertools.product(range(4), np.linspace(0.02, 3, 600)):
        codes = np.clip(np.rint(rows / scale) + zero, 0, 3)
        best = min(best, float((importance * (rows - scale * (codes - zero)) ** 2).sum()))
    found = error(rows, search_scales(rows, grid, importance), np.diag(importance))
    # The error has several valleys, of which the search looks into a few: 1.26 at most here.
    assert found <= 1.3 * best + 1e-9


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_search_is_never_worse_than_rounding(grid: Grid) -> None:
    rows = matrix(16, 48)
    assert error(rows, search_scales(rows, grid)) <= error(rows, round_to_nearest(rows, grid))


@pytest.mark.parametrize("bits", [2, 4])
def test_hqq_lowers_its_own_norm(bits: int) -> None:
    rows = np.random.default_rng(1).standard_t(3, (16, 64)).astype(np.float32)

    def norm(blocks: Blocks) -> float:
        return float((np.abs(blocks.dequantized(64) - rows) ** NORM).sum())

    grid = Grid(bits, 32, fractional=True)
    assert norm(hqq(rows, grid)) < norm(round_to_nearest(rows, grid))


@pytest.mark.parametrize("features", [16, 40, 160])
@pytest.mark.parametrize("ordered", [False, True])
def test_gptq_lowers_the_error_of_the_outputs(features: int, ordered: bool) -> None:
    rows, gram, grid = matrix(24, features), correlated(features), Grid(4, 32)
    curvature = Curvature(gram)
    plain = search_scales(rows, grid, curvature.diagonal)
    assert error(rows, gptq(rows, grid, curvature, ordered=ordered), gram) < error(
        rows, plain, gram
    )


def test_gptq_corrects_a_block_that_crosses_a_panel() -> None:
    """Blocks wider than a panel of 128 features see their weights corrected by the panel so far."""
    rows, gram = matrix(8, 300), correlated(300)
    curvature = Curvature(gram)
    for size in (16, 256, 512):
        grid = Grid(4, size)
        plain = error(rows, round_to_nearest(rows, grid), gram)
        assert error(rows, gptq(rows, grid, curvature), gram) < plain


def test_without_correlation_gptq_rounds_to_nearest() -> None:
    rows, grid = matrix(4, 64), Grid(4, 32)
    curvature = Curvature(np.eye(64))
    found = gptq(rows, grid, curvature, ordered=True)
    plain = search_scales(rows, grid, curvature.diagonal)
    np.testing.assert_array_equal(found.codes, plain.codes)
    np.testing.assert_allclose(found.scales, plain.scales, rtol=1e-6)


@given(st.integers(0, 1000), st.sampled_from(GRIDS))
@settings(max_examples=15, deadline=None)
def test_descent_never_raises_the_error(seed: int, grid: Grid) -> None:
    rows, curvature = matrix(6, 40, seed), Curvature(correlated(40, seed))
    start = search_scales(rows, grid, curvature.diagonal)
    last = error(rows, start, curvature.matrix)
    for rounds in (1, 2, 4):
        found = error(rows, refine(rows, start, grid, curvature.matrix, rounds), curvature.matrix)
        assert found <= last * (1 + 1e-4)
        last = found


def test_descent_finds_the_best_codes_of_a_small_block() -> None:
    """Every single code is at its best: no change of one alone lowers the error."""
    rows, curvature = matrix(1, 16), Curvature(correlated(16))
    grid = Grid(2, 16)
    found = refine(rows, search_scales(rows, grid), grid, curvature.matrix, 30)
    base = error(rows, found, curvature.matrix)
    for place, code in itertools.product(range(16), range(4)):
        codes = found.codes.copy()
        codes[0, 0, place] = code
        other = Blocks(codes, found.scales, found.zero_points)
        # The last step fits the scale, after which a tie may have turned.
        assert error(rows, other, curvature.matrix) >= base * (1 - 1e-3)


def test_features_that_are_always_zero_do_not_matter() -> None:
    rows, gram = matrix(4, 32), correlated(32)
    gram[5], gram[:, 5] = 0, 0
    for method in WITH_DATA:
        found = quantize_rows(
            lambda a, b: rows[a:b], rows.shape, Grid(4, 16), method, Curvature(gram)
        )
        assert np.isfinite(found.dequantized(32)).all()
    nothing = Curvature(np.zeros((32, 32)))
    assert np.isfinite(gptq(rows, Grid(4, 16), nothing).dequantized(32)).all()


def test_slabs_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, curvature = matrix(50, 48), Curvature(correlated(48))
    whole = {
        m: quantize_rows(lambda a, b: rows[a:b], rows.shape, Grid(4, 32), m, curvature)
        for m in WITH_DATA
    }
    where = "graphopt.passes.quantize.weight_only.methods"
    monkeypatch.setattr(f"{where}._SLAB_ELEMENTS", 48 * 7)
    monkeypatch.setattr(f"{where}.CHUNK_ELEMENTS", 48 * 3)
    for method, expected in whole.items():
        found = quantize_rows(lambda a, b: rows[a:b], rows.shape, Grid(4, 32), method, curvature)
        # Products of other shapes may be summed in another order, and turn a tie.
        same = np.mean(found.codes == expected.codes)
        assert same > 0.99, method


def test_the_method_with_the_smallest_error_comes_first() -> None:
    rows, curvature = matrix(32, 64), Curvature(correlated(64))
    trials = try_methods(rows, Grid(4, 32), WITH_DATA, curvature)
    assert [t.error for t in trials] == sorted(t.error for t in trials)
    assert trials[0].method in {"gptq", "gptq-ordered", "descent"}
    assert trials[-1].method in WITHOUT_DATA


def test_relative_error_of_nothing_is_nothing() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert relative_error(zeros, zeros, None) == 0.0
    assert relative_error(np.ones((1, 2)), np.zeros((1, 2)), None) == 1.0


def test_sampled_rows_are_spread_over_the_matrix() -> None:
    assert sampled(10).tolist() == list(range(10))
    chosen = sampled(100_000)
    assert (chosen[0], chosen[-1], len(set(chosen.tolist()))) == (0, 99_999, 256)
