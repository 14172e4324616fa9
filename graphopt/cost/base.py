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
class Estimate:
    """The cost of one inference of a graph on a target (batch 1, one thread unless said).

    Units: latency in milliseconds, memory and size in bytes, energy in millijoules
    (None where the target has no energy figures).
    """

    latency_ms: Figure
    peak_activation_bytes: int
    peak_at: str
    weight_bytes: int
    size_bytes: int
    energy_mj: Figure | None
    macs: int
    kernels: tuple[KernelCost, ...]


@runtime_checkable
class CostModel(Protocol):
    """Maps a graph and a target to an estimate."""

    name: ClassVar[str]

    def estimate(self, graph: Graph, target: Target) -> Estimate:
        """Return the cost of one inference of ``graph``; never fails on an unknown operator."""
        ...
