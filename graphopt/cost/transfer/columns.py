"""Kernels of a model to time by group of terms: what one factor of a device multiplies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.cost.terms import CONVOLUTION_KINDS, Around, curve_keys, terms
from graphopt.cost.work import MATRIX_PRODUCTS, RECURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.cost.signature import Signature
    from graphopt.cost.terms import Grid
    from graphopt.targets.profile import KernelCurve

    Array = np.ndarray[Any, Any]
    GroupRule = Callable[[str, str], str]

_CALLS = frozenset({"call", "cold_call"})
_ACTIVATIONS = frozenset({"moved", "cold_moved", "spilled"})
_WEIGHTS = frozenset({"weight", "far_weight", "cold_weight", "column"})
_STARTS = frozenset({"out", "place", "tile", "pass", "line"})
_PRODUCTS = frozenset({"gemm", "gemv", "attention", *MATRIX_PRODUCTS, *RECURRENT})


def group_of(key: str, term: str) -> str:
    """Return the group of a curve's term: terms of one group change together between devices.

    ``call`` and ``weights`` whatever the kernel is; ``activations`` of kernels with products;
    by precision, ``starts`` of sums (outputs, lines, tiles, passes over the inputs), and arithmetic
    by family: conv, pointwise, depthwise, grouped, product, pool, element, the last two with the
    bytes that their kernels move.

    Args:
        key: name of the curve, "dtype.kind" or "dtype.Kernel".
        term: name of the term.
    """
    if term in _CALLS:
        return "call"
    if term in _WEIGHTS:
        return "weights"
    dtype, name = key.split(".")[:2]
    family = _family(name)
    if term in _STARTS and family not in {"element", "pool"}:
        return f"{'int8' if dtype == 'int8' else 'float'}.starts"
    if term in _ACTIVATIONS and family not in {"element", "pool"}:
        return "activations"
    return f"{'int8' if dtype == 'int8' else 'float'}.{family}"


def _family(name: str) -> str:
    """Return the family of a class or of a runtime's operator."""
    if name in CONVOLUTION_KINDS:
        return name
    if name in _PRODUCTS:
        return "product"
    if "Conv" in name:
        return "conv"
    return "pool" if "pool" in name.lower() else "element"


def columns(
    models: Sequence[Sequence[Signature]],
    curves: Mapping[str, KernelCurve],
    grid: Grid,
    rule: GroupRule = group_of,
) -> tuple[tuple[str, ...], Array]:
    """Return the groups of ``curves`` and the microseconds of each in each model.

    Args:
        models: kernels of each model.
        curves: what a kernel costs; the first of `curve_keys` that exists is taken, and a kernel
            without one costs nothing.
        grid: blocks and caches for the terms.
        rule: the group of a curve's key and term; an empty one leaves the term out.

    Returns:
        names: sorted.
        times: (models, groups), float64, at least 0.
    """
    found = {rule(key, term) for key, curve in curves.items() for term in curve.terms} - {""}
    names = tuple(sorted(found))
    position = {name: index for index, name in enumerate(names)}
    times = np.zeros((len(models), len(names)))
    for row, signatures in zip(times, models, strict=True):
        around = Around(sum(s.weight_bytes for s in signatures))
        for signature in signatures:
            key = next((k for k in curve_keys(signature, grid) if k in curves), "")
            if not key:
                continue
            sizes = terms(signature, grid, around)
            for term, cost in curves[key].terms.items():
                group = rule(key, term)
                if group:
                    row[position[group]] += cost * sizes.get(term, 0.0)
    return names, times
