"""How long a last cache that others use as well keeps what one model does not use."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.cost.terms import Grid

KEEPS_US = (math.inf, 32e3, 16e3, 8e3, 4e3, 2e3, 1e3)
"""Times to choose from."""

_BETTER = 0.99
"""A shorter time must lower the error to this part of the least before, or it is not taken."""


def best_keeping(grid: Grid, error: Callable[[Grid], float]) -> Grid:
    """Return the grid with the time at which kernels of other sources are predicted best.

    Args:
        grid: blocks and caches.
        error: of kernels that were left out of a fit on a grid (``CurveFitter.left_out``).
    """
    best, least = grid, math.inf
    for keep_us in KEEPS_US:
        tried = dataclasses.replace(grid, keep_us=keep_us)
        found = error(tried)
        if found < least * _BETTER:
            best, least = tried, found
    return best
