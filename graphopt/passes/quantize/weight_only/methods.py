"""The methods by name, on matrices of any size, and the choice between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.passes.quantize.weight_only.blocks import CHUNK_ELEMENTS, Blocks, empty
from graphopt.passes.quantize.weight_only.coordinate_descent import refine
from graphopt.passes.quantize.weight_only.gptq import Curvature, gptq
from graphopt.passes.quantize.weight_only.hqq import hqq
from graphopt.passes.quantize.weight_only.round_to_nearest import round_to_nearest
from graphopt.passes.quantize.weight_only.search_scales import search_scales

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.passes.quantize.weight_only.blocks import Array, Grid

WITHOUT_DATA = ("rtn", "hqq", "search")
WITH_DATA = ("rtn", "hqq", "search", "gptq", "gptq-ordered", "descent")
SAMPLED_ROWS = 256
"""Output features that ``auto`` tries every method on."""
_ROUNDS = 4
_SLAB_ELEMENTS = 1 << 22
"""Weights that a method with a Hessian works on at once; it holds about five such arrays."""


@dataclass(frozen=True)
class Trial:
    """What a method is expected to do to a matrix.

    Args:
        method: its name.
        error: expected squared error of the outputs, relative to their square; with no data that
            of the weights.
    """

    method: str
    error: float


def quantize_rows(
    rows: Callable[[int, int], Array],
    shape: tuple[int, int],
    grid: Grid,
    method: str,
    curvature: Curvature | None,
) -> Blocks:
    """Quantize a matrix slab by slab; its float form is never held as a whole.

    Args:
        rows: returns the rows from one index to another; float [count, inputs].
        shape: outputs and inputs.
        grid: the codes.
        method: one of ``WITH_DATA``; without ``curvature`` one of ``WITHOUT_DATA``.
        curvature: of the inputs.
    """
    count, features = shape
    made = empty(count, features, grid)
    slab = max(1, _SLAB_ELEMENTS // max(features, 1))
    for start in range(0, count, slab):
        stop = min(start + slab, count)
        _store(made, start, _slab(rows(start, stop), grid, method, curvature))
    return made


def _slab(rows: Array, grid: Grid, method: str, curvature: Curvature | None) -> Blocks:
    if curvature is not None and method in {"gptq", "gptq-ordered", "descent"}:
        return _second_order(rows, grid, method, curvature)
    made = empty(len(rows), rows.shape[1], grid)
    chunk = max(1, CHUNK_ELEMENTS // max(rows.shape[1], 1))
    importance = None if curvature is None else curvature.diagonal
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        if method == "rtn":
            found = round_to_nearest(part, grid)
        elif method == "hqq":
            found = hqq(part, grid)
        else:
            found = search_scales(part, grid, importance)
        _store(made, start, found)
    return made


def _second_order(rows: Array, grid: Grid, method: str, curvature: Curvature) -> Blocks:
    if method == "descent":
        start = search_scales(rows, grid, curvature.diagonal)
    else:
        start = gptq(rows, grid, curvature, ordered=method == "gptq-ordered")
    return refine(rows, start, grid, curvature.matrix, _ROUNDS)


def _store(made: Blocks, start: int, part: Blocks) -> None:
    end = start + len(part.codes)
    made.codes[start:end] = part.codes
    made.scales[start:end] = part.scales
    made.zero_points[start:end] = part.zero_points


def relative_error(rows: Array, found: Array, curvature: Curvature | None) -> float:
    """Return tr(D H D^T) / tr(W H W^T) with D = found - rows; H is 1 without data."""
    difference = found - rows
    if curvature is None:
        wanted, error = float(np.square(rows).sum()), float(np.square(difference).sum())
    else:
        wanted, error = curvature.error(rows), curvature.error(difference)
    return error / wanted if wanted > 0 else 0.0


def try_methods(
    rows: Array, grid: Grid, methods: tuple[str, ...], curvature: Curvature | None
) -> list[Trial]:
    """Return what each method does to ``rows``, smallest expected error first.

    Of equals the one named first wins; rows are a sample of a large matrix's.
    """
    trials = []
    for method in methods:
        found = _slab(rows, grid, method, curvature).dequantized(rows.shape[1])
        trials.append(Trial(method, relative_error(rows, found, curvature)))
    return sorted(trials, key=lambda t: t.error)


def sampled(count: int) -> Array:
    """Return the indices of the rows that methods are tried on, spread evenly."""
    if count <= SAMPLED_ROWS:
        return np.arange(count)
    return np.linspace(0, count - 1, SAMPLED_ROWS).astype(np.int64)
