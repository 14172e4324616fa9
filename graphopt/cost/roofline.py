"""The roofline cost model: every kernel priced from the target's peaks, for any graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from graphopt.cost.base import Estimate, KernelCost
from graphopt.cost.kernels import Kernel, group_kernels
from graphopt.cost.latency import KernelTime, copy_time, kernel_time
from graphopt.cost.layout import LayoutCopy, assign_layouts
from graphopt.cost.shapes import unknown_count
from graphopt.cost.whole import Whole
from graphopt.targets.base import evidence
from graphopt.types import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt.targets.base import Target


@dataclass(frozen=True)
class Roofline:
    """Cost from published or measured peaks, efficiency by kernel class, and bandwidths.

    Args:
        dims: sizes of symbolic dimensions. Others count as 1 for a batch and as 64 elsewhere.
    """

    name: ClassVar[str] = "roofline"
    dims: Mapping[str, int] = field(default_factory=dict)

    def estimate(self, graph: Graph, target: Target) -> Estimate:
        """Return the cost of one inference on one core; every operator costs something."""
        whole = Whole.of(graph, target, self.dims)
        costs = _kernel_costs(whole.kernels, target, weights_in_cache=whole.in_cache)
        total_ms = (target.compute.run_us + sum(c.latency_us for c in costs)) / 1e3
        latency = Figure(
            value=total_ms,
            low=total_ms * (1 - target.uncertainty),
            high=total_ms * (1 + target.uncertainty),
            source="estimated",
            basis=_basis(whole.known, target, whole.bound),
        )
        return whole.estimate(latency, costs)


def _kernel_costs(
    grouped: Sequence[Kernel], target: Target, *, weights_in_cache: bool
) -> tuple[KernelCost, ...]:
    """Return the kernels in order of execution, the copies between layouts among them."""
    placed, copies = assign_layouts(grouped, target)
    before: dict[int, list[LayoutCopy]] = {}
    for copy in copies:
        before.setdefault(copy.before, []).append(copy)
    costs: list[KernelCost] = []
    for index, kernel in enumerate(placed):
        costs.extend(_copy_cost(copy, target) for copy in before.get(index, ()))
        costs.append(_cost(kernel, target, weights_in_cache=weights_in_cache))
    costs.extend(_copy_cost(copy, target) for copy in before.get(len(placed), ()))
    return tuple(costs)


def _cost(kernel: Kernel, target: Target, *, weights_in_cache: bool) -> KernelCost:
    time = kernel_time(kernel, target, weights_in_cache=weights_in_cache)
    bodies = kernel.node.subgraphs
    inner = [_inner_time(g, target, weights_in_cache=weights_in_cache) for g in bodies]
    return KernelCost(
        nodes=tuple(n.label for n in kernel.nodes),
        kernel=kernel.name,
        kind=kernel.kind,
        dtype=kernel.dtype,
        macs=time.macs + max((t.macs for t in inner), default=0),
        bytes_moved=time.bytes_moved + max((t.bytes_moved for t in inner), default=0),
        latency_us=time.latency_us + max((t.latency_us for t in inner), default=0.0),
    )


def _inner_time(graph: Graph, target: Target, *, weights_in_cache: bool) -> KernelTime:
    """Return the cost of a branch, or of one turn of a loop, whose length nobody knows."""
    grouped = group_kernels(graph, target)
    costs = _kernel_costs(grouped, target, weights_in_cache=weights_in_cache)
    return KernelTime(
        sum(c.latency_us for c in costs),
        sum(c.macs for c in costs),
        sum(c.bytes_moved for c in costs),
    )


def _copy_cost(copy: LayoutCopy, target: Target) -> KernelCost:
    time = copy_time(copy, target)
    dtype = "int8" if copy.value.dtype is not None and copy.value.dtype.bits == 8 else "float32"
    return KernelCost(
        nodes=(), kernel=copy.name, kind="movement", dtype=dtype, macs=0,
        bytes_moved=time.bytes_moved, latency_us=time.latency_us,
    )  # fmt: skip


def _basis(graph: Graph, target: Target, bound: Mapping[str, int]) -> str:
    """Say what the estimate rests on: target, origin of the peaks, assumed sizes, gaps."""
    parts = [f"roofline on {target.name}, one thread", _figures(target)]
    if bound:
        parts.append("with " + ", ".join(f"{name}={size}" for name, size in bound.items()))
    unknown = unknown_count(graph)
    if unknown:
        parts.append(f"{unknown} tensors of unknown shape counted as small")
    return "; ".join(parts)


def _figures(target: Target) -> str:
    """Say which of the figures behind the times were measured, and which are peaks of a document.

    Peaks do not count where the fractions of them were measured: those took the peaks' error in.
    """
    sources = target.sources.items()
    rates = {evidence(text) for key, text in sources if key.startswith("compute.efficiency")}
    peaks = {evidence(text) for key, text in sources if key.startswith("compute.macs_per_cycle")}
    if rates == {"measured"}:
        return "measured efficiencies"
    known = "published peaks" if peaks <= {"published"} else "published peaks, not all verified"
    if "measured" in rates:
        return f"partly measured efficiencies, {known}"
    return f"{known}, assumed efficiencies"
