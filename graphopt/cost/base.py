"""What a cost model answers, and the protocol it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.targets.base import Target
    from graphopt.types import Figure


@dataclass(frozen=True)
class KernelCost:
    """One kernel as the runtime will execute it.

    Args:
        nodes: names of the graph nodes that it covers, in order.
        kernel: the runtime's operator, such as ``QLinearConv`` or ``FusedConv``.
        kind: cost class: conv, pointwise, depthwise, grouped, gemm, gemv, elementwise,
            reduction, pool, movement, quantize, gather, other.
        dtype: float32, int8, float16.
        macs: multiply-accumulates.
        bytes_moved: activations and weights read and written.
        latency_us: microseconds on the target.
    """

    nodes: tuple[str, ...]
    kernel: str
    kind: str
    dtype: str
    macs: int
    bytes_moved: int
    latency_us: float


@dataclass(frozen=True)
class EnergyParts:
    """Where the energy of one inference goes, in nominal millijoules.

    Only ratios between two models on one target mean something, unless the estimate has
    ``energy_mj`` too (graphopt.cost.energy.relative_energy).

    Args:
        running_mj: what the part draws for as long as it runs.
        products_mj: multiply-accumulates.
        memory_mj: main memory.
    """

    running_mj: float
    products_mj: float = 0.0
    memory_mj: float = 0.0

    @property
    def total_mj(self) -> float:
        """Sum of the parts."""
        return self.running_mj + self.products_mj + self.memory_mj


@dataclass(frozen=True)
class Estimate:
    """The cost of one inference of a graph on a target (batch 1, one thread unless said).

    Units: latency in milliseconds, memory and size in bytes, energy in millijoules (None where the
    power of the target was not measured; ``energy_parts`` then serve to compare two models).
    """

    latency_ms: Figure
    peak_activation_bytes: int
    peak_at: str
    weight_bytes: int
    size_bytes: int
    energy_mj: Figure | None
    macs: int
    kernels: tuple[KernelCost, ...]
    energy_parts: EnergyParts | None = None


@runtime_checkable
class CostModel(Protocol):
    """Maps a graph and a target to an estimate."""

    name: ClassVar[str]

    def estimate(self, graph: Graph, target: Target) -> Estimate:
        """Return the cost of one inference of ``graph``; never fails on an unknown operator."""
        ...
