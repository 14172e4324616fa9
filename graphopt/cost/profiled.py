"""The cost model of a measured device: kernels priced by the curves of its profile."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from graphopt.cost.base import Estimate, KernelCost
from graphopt.cost.curves import curve_time, grid_of, settled, threaded
from graphopt.cost.kernels import group_kernels
from graphopt.cost.latency import kernel_time
from graphopt.cost.layout import in_execution_order
from graphopt.cost.roofline import Roofline
from graphopt.cost.shapes import unknown_count
from graphopt.cost.signature import signature_of
from graphopt.cost.terms import Around
from graphopt.cost.whole import Whole
from graphopt.types import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.cost.kernels import Kernel
    from graphopt.cost.terms import Grid
    from graphopt.ir import Graph
    from graphopt.targets.base import Target
    from graphopt.targets.profile import DeviceProfile


@dataclass(frozen=True)
class Profiled:
    """Cost from what was measured on the device; the roofline for what was not.

    Args:
        dims: sizes of symbolic dimensions. Others count as 1 for a batch and as 64 elsewhere.
        threads: threads of the runtime.
        executed: price the graph that the installed onnxruntime makes of the model, where it is
            the target's own, instead of what the fusion tables predict. Opens and runs the model.
    """

    name: ClassVar[str] = "profiled"
    dims: Mapping[str, int] = field(default_factory=dict)
    threads: int = 1
    executed: bool = False

    def estimate(self, graph: Graph, target: Target) -> Estimate:
        """Return the cost of one inference; that of the roofline for a target without a profile."""
        if target.profile is None:
            return Roofline(self.dims).estimate(graph, target)
        whole = Whole.of(graph, target, self.dims)
        kernels, origin = self._kernels(whole)
        around = _around(kernels, whole.weight_bytes, target, self.threads)
        prices = _Prices(target, target.profile, self.threads, around, whole.in_cache)
        priced = [prices.cost(kernel) for kernel in kernels]
        latency = _latency(priced, target, target.profile)
        facts = _facts(whole.known, target.profile, self.threads, origin, whole.bound)
        basis = "; ".join([*facts[:2], latency.basis, *facts[2:]])
        return whole.estimate(
            dataclasses.replace(latency, basis=basis), [cost for cost, _ in priced]
        )

    def _kernels(self, whole: Whole) -> tuple[Sequence[Kernel], str]:
        """Return what is executed, and how that is known."""
        if self.executed:
            from graphopt.cost.executed import executed_kernels

            found = executed_kernels(whole.given, whole.target)
            if not isinstance(found, str):
                return found, "kernels of the executed graph"
        return in_execution_order(whole.kernels, whole.target), ""


@dataclass(frozen=True)
class _Prices:
    """What a kernel costs on one device, inside one model."""

    target: Target
    profile: DeviceProfile
    threads: int
    around: Around
    cached: bool

    def cost(self, kernel: Kernel) -> tuple[KernelCost, bool]:
        """Return the cost of a kernel, and whether a measured curve says so."""
        fallback = kernel_time(kernel, self.target, weights_in_cache=self.cached)
        found = curve_time(signature_of(kernel), self.profile.curves, self._grid, self.around)
        us = fallback.latency_us if found is None else found.us
        inner = [self._inner(body) for body in kernel.node.subgraphs]
        most = max(inner, key=lambda part: part[0], default=(0.0, 0, 0))
        cost = KernelCost(
            nodes=tuple(n.label for n in kernel.nodes),
            kernel=kernel.name,
            kind=kernel.kind,
            dtype=kernel.dtype,
            macs=fallback.macs + most[1],
            bytes_moved=fallback.bytes_moved + most[2],
            latency_us=threaded(us, self.profile, self.threads) + most[0],
        )
        return cost, found is not None

    @property
    def _grid(self) -> Grid:
        return grid_of(self.target)

    def _inner(self, body: Graph) -> tuple[float, int, int]:
        """Return time, products and bytes of a branch, or of one turn of a loop."""
        kernels = in_execution_order(group_kernels(body, self.target), self.target)
        costs = [self.cost(kernel)[0] for kernel in kernels]
        return (
            sum(c.latency_us for c in costs),
            sum(c.macs for c in costs),
            sum(c.bytes_moved for c in costs),
        )


def _around(kernels: Sequence[Kernel], weight_bytes: int, target: Target, threads: int) -> Around:
    """Return what the kernels of a model are executed among."""
    grid = grid_of(target)
    if target.profile is None or not math.isfinite(grid.keep_us):
        return Around(weight_bytes)
    _, us = settled([signature_of(kernel) for kernel in kernels], target.profile, grid, threads)
    return Around(weight_bytes, us)


def _latency(
    priced: Sequence[tuple[KernelCost, bool]], target: Target, profile: DeviceProfile
) -> Figure:
    """Return the sum of the kernels, its interval, and how much of it was measured.

    The measured part has the interval of whole models, the rest that of the base's figures.
    """
    measured = profile.run_us + sum(cost.latency_us for cost, known in priced if known)
    assumed = sum(cost.latency_us for cost, known in priced if not known)
    total = measured + assumed
    unsure = max(target.uncertainty, _ROOFLINE_UNCERTAINTY)
    count = sum(known for _, known in priced)
    basis = f"{count} of {len(priced)} kernels from the profile's curves"
    if assumed > 0:
        basis += f", {assumed / total:.0%} of the time from the figures of {profile.base}"
    return Figure(
        value=total / 1e3,
        low=(measured * profile.low + assumed * (1 - unsure)) / 1e3,
        high=(measured * profile.high + assumed * (1 + unsure)) / 1e3,
        source="estimated",
        basis=basis,
    )


_ROOFLINE_UNCERTAINTY = 0.5
"""Half width of the interval of what no curve covers, relative."""


def _facts(
    graph: Graph, profile: DeviceProfile, threads: int, origin: str, bound: Mapping[str, int]
) -> list[str]:
    """Return what an estimate rests on: device and runtime, threads, assumed sizes, gaps."""
    count = "one thread" if threads == 1 else f"{threads} threads"
    facts = [f"profile of {profile.device}, {profile.runtime}", count]
    if origin:
        facts.append(origin)
    if bound:
        facts.append("with " + ", ".join(f"{name}={size}" for name, size in bound.items()))
    unknown = unknown_count(graph)
    if unknown:
        facts.append(f"{unknown} tensors of unknown shape counted as small")
    return facts
