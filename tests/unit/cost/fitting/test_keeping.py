"""The time that a shared cache keeps what is unused is the one that predicts kernels best."""

from __future__ import annotations

import dataclasses
import math

import pytest

from graphopt.cost.fitting.curves import CurveFitter
from graphopt.cost.fitting.keeping import KEEPS_US, best_keeping
from graphopt.cost.fitting.samples import Sample
from graphopt.cost.signature import Signature
from graphopt.cost.terms import Around, Grid, terms
from graphopt.cost.work import Product

GRID = Grid({"float32": 16}, 1 << 20, 64 << 20)


@pytest.mark.parametrize("keep_us", KEEPS_US)
def test_the_time_with_the_least_error_is_taken(keep_us: float) -> None:
    found = best_keeping(GRID, lambda grid: 0.5 if grid.keep_us == keep_us else 0.6)
    assert found.keep_us == keep_us
    assert dataclasses.replace(found, keep_us=GRID.keep_us) == GRID


def test_nothing_is_forgotten_where_that_predicts_as_well() -> None:
    assert math.isinf(best_keeping(GRID, lambda grid: 0.5).keep_us)
    assert math.isinf(best_keeping(GRID, lambda grid: 0.5 if grid.keep_us > 1e9 else 0.499).keep_us)


def _product(inputs: int, period_us: float, source: str, keep_us: float) -> Sample:
    product = Product(1, 512, inputs)
    signature = Signature("Gemm", "gemv", "float32", "plain", product, 512, 4 * inputs,
                          2048 * inputs, 2048, 512)  # fmt: skip
    around = Around(1 << 20, period_us)
    sizes = terms(signature, dataclasses.replace(GRID, keep_us=keep_us), around)
    us = 0.5 + 2.0 * sizes["mac"] + 0.05 * sizes["cold_weight"]
    return Sample(signature, us, source, around)


def test_a_fit_finds_how_long_a_cache_keeps_weights() -> None:
    samples = [
        _product(inputs, period, f"net{number}", 4e3)
        for number, period in enumerate((20.0, 300.0, 1e3, 3e3, 8e3, 30e3))
        for inputs in (64, 128, 320, 512, 900)
    ]
    found = best_keeping(GRID, lambda grid: CurveFitter(samples, grid).left_out(3))
    assert found.keep_us == 4e3


def test_samples_of_other_sources_predict_what_is_exactly_of_the_terms() -> None:
    samples = [
        _product(inputs, 0.0, f"net{number}", math.inf)
        for number in range(6) for inputs in (64, 100 + number, 320, 512)
    ]  # fmt: skip
    assert CurveFitter(samples, GRID).left_out() < 0.02
    assert CurveFitter(samples[:1], GRID).left_out() == 0.0
