"""How many steps fit into a time, and which rate they are taken at."""

from __future__ import annotations

import math
import time
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TIMED, _SECONDS = 12, 6.0
"""Steps that are timed, at most, and seconds after which no further one is."""
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Among which one is chosen; the search begins at one and goes on while it gets better."""
_FIRST = 4


def seconds_per_step(step: Callable[[int], object]) -> float:
    """Return the median time of a step; the first, which plans and allocates, does not count.

    Args:
        step: takes a step, by its number.
    """
    step(0)
    found: list[float] = []
    for number in range(1, _TIMED + 1):
        started = time.perf_counter()
        step(number)
        found.append(time.perf_counter() - started)
        if sum(found) > _SECONDS:
            break
    return median(found)


def best_rate(
    attempt: Callable[[float], float], rates: Sequence[float] = RATES, first: int = _FIRST
) -> float:
    """Return the rate after which the divergence is least, trying neighbours while it falls.

    Args:
        attempt: trains for a short while at a rate, and returns the divergence on held-out samples.
        rates: ascending.
        first: position of the one to begin with.
    """
    tried: dict[int, float] = {}

    def at(place: int) -> float:
        if not 0 <= place < len(rates):
            return math.inf
        if place not in tried:
            tried[place] = attempt(rates[place])
        return tried[place]

    place = first
    direction = -1 if at(place - 1) < at(place) else 1
    while at(place + direction) < at(place):
        place += direction
    return rates[place]
