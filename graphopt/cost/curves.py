"""The time of a kernel by a device's profile, and the time of all kernels of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.terms import ALONE, Around, Grid, curve_keys, terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.cost.signature import Signature
    from graphopt.targets.base import Target
    from graphopt.targets.profile import DeviceProfile, KernelCurve

_L2 = 1
"""Position of the cache of one core among the levels."""

_DEFAULT_NEAR_BYTES = 1 << 20

GENERAL = "any"
"""Last part of the name of the curve for kernels of every class."""


@dataclass(frozen=True)
class CurveTime:
    """Microseconds of a kernel, and the curve that they are from."""

    us: float
    key: str
    curve: KernelCurve


_ROUNDS = 4
"""Times that a model is priced, each time as often as the one before says that it is executed."""


def grid_of(target: Target) -> Grid:
    """Return blocks and caches of a target; how long they keep what, where a profile tells."""
    levels = target.memory.levels_bytes
    near = levels[_L2] if len(levels) > _L2 else _DEFAULT_NEAR_BYTES
    keep = target.profile.keep_us if target.profile is not None else 0.0
    far = max(target.memory.cache_bytes, near)
    return Grid(target.compute.alignment, near, far, keep or math.inf)


def curve_time(
    signature: Signature,
    curves: Mapping[str, KernelCurve],
    grid: Grid,
    around: Around = ALONE,
    *,
    general: bool = False,
) -> CurveTime | None:
    """Return the one-thread time of a kernel by the most exact curve that exists, or None.

    Args:
        signature: the kernel.
        curves: by name, as ``curve_keys`` makes them.
        grid: blocks and caches that the curves were fitted with.
        around: what it is executed among.
        general: take the curve of kernels of every class where there is no other.
    """
    for key in curve_keys(signature, grid):
        if key in curves and (general or not key.endswith(f".{GENERAL}")):
            sizes = terms(signature, grid, around)
            curve = curves[key]
            us = sum(cost * sizes.get(term, 0.0) for term, cost in curve.terms.items())
            return CurveTime(us, key, curve)
    return None


def threaded(us: float, profile: DeviceProfile, threads: int) -> float:
    """Return the time with ``threads`` of a kernel that takes ``us`` with one.

    The runtime divides no kernel shorter than a grain. What is longer is faster by the speed-up of
    long kernels, never shorter than the grain itself. Counts that were not measured take Amdahl's
    law through the largest one that was.
    """
    if threads <= 1 or us <= profile.grain_us or not profile.speedup:
        return us
    return max(us / speedup(profile, threads), min(profile.grain_us, us))


def speedup(profile: DeviceProfile, threads: int) -> float:
    """Return how much faster long kernels are with ``threads`` than with one."""
    known = profile.speedup.get(str(threads))
    if known is not None:
        return max(known, 1.0)
    most = max((int(n) for n in profile.speedup), default=1)
    if most <= 1:
        return 1.0
    at_most = min(max(profile.speedup[str(most)], 1.0), float(most))
    serial = (most / at_most - 1.0) / (most - 1.0)
    return threads / (1.0 + serial * (threads - 1.0))


def model_us(
    kernels: Sequence[Signature], profile: DeviceProfile, grid: Grid, threads: int = 1
) -> float:
    """Return the time of one inference that executes ``kernels``; what no curve covers is free."""
    _, total = settled(kernels, profile, grid, threads)
    return total


def settled(
    kernels: Sequence[Signature], profile: DeviceProfile, grid: Grid, threads: int = 1
) -> tuple[list[float], float]:
    """Return the one-thread time of each kernel, and that of one inference.

    What caches forget depends on how long an inference takes, and that on what they forget: the
    model is priced as if it were executed at once, then as often as that says, and so on. The time
    only grows from round to round, by less each time.
    """
    resident = sum(kernel.weight_bytes for kernel in kernels)
    around = Around(resident)
    for _ in range(_ROUNDS):
        times = [_priced(kernel, profile, grid, around) for kernel in kernels]
        total = profile.run_us + sum(threaded(us, profile, threads) for us in times)
        if not math.isfinite(grid.keep_us):
            break
        around = Around(resident, total)
    return times, total


def _priced(kernel: Signature, profile: DeviceProfile, grid: Grid, around: Around) -> float:
    found = curve_time(kernel, profile.curves, grid, around, general=True)
    return 0.0 if found is None else found.us
