"""A model on a target before its kernels are priced, and the estimate once they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis import stored_bytes
from graphopt.cost.base import Estimate
from graphopt.cost.energy import energy_mj, energy_parts
from graphopt.cost.kernels import group_kernels
from graphopt.cost.memory import peak_memory
from graphopt.cost.shapes import sized_once
from graphopt.cost.sharing import sharing_of
from graphopt.cost.size import file_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.cost.base import KernelCost
    from graphopt.cost.kernels import Kernel
    from graphopt.cost.memory import PeakMemory
    from graphopt.ir import Graph
    from graphopt.targets.base import Target
    from graphopt.types import Figure


@dataclass(frozen=True)
class Whole:
    """What every cost model starts from.

    Args:
        given: the graph as it came.
        known: a copy with every size that can be known.
        bound: how symbolic sizes were bound.
        target: what it is priced for.
        weight_bytes: constants.
        kernels: what the fusion tables say will be executed.
        memory: peak of the activations.
    """

    given: Graph
    known: Graph
    bound: Mapping[str, int]
    target: Target
    weight_bytes: int
    kernels: Sequence[Kernel]
    memory: PeakMemory

    @classmethod
    def of(cls, graph: Graph, target: Target, dims: Mapping[str, int]) -> Whole:
        """Bind sizes (``shapes.sized``), group kernels and find the peak."""
        known, bound = sized_once(graph, dims)
        kernels = group_kernels(known, target)
        memory = peak_memory(known, kernels, sharing_of(target))
        return cls(graph, known, bound, target, stored_bytes(graph), kernels, memory)

    @property
    def in_cache(self) -> bool:
        """Whether weights and activations stay in the cache from one inference to the next."""
        return self.weight_bytes + self.memory.nbytes <= self.target.memory.cache_bytes

    def estimate(self, latency_ms: Figure, costs: Sequence[KernelCost]) -> Estimate:
        """Return the estimate that follows from the price of the kernels."""
        parts = energy_parts(latency_ms.value, costs, self.target, weights_in_cache=self.in_cache)
        return Estimate(
            latency_ms=latency_ms,
            peak_activation_bytes=self.memory.nbytes,
            peak_at=self.memory.at,
            weight_bytes=self.weight_bytes,
            size_bytes=file_bytes(self.given),
            energy_mj=energy_mj(latency_ms, parts, self.target),
            macs=sum(c.macs for c in costs),
            kernels=tuple(costs),
            energy_parts=parts,
        )
