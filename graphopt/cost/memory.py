"""Peak activation memory of a model as the runtime executes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis import Step, buffers, peak
from graphopt.cost.shapes import nbytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.kernels import Kernel
    from graphopt.ir import Graph


@dataclass(frozen=True)
class PeakMemory:
    """The most activation bytes that are alive at once, and where.

    It is what a perfect placement needs; a runtime's allocator and its scratch come on top.
    """

    nbytes: int
    at: str


def peak_memory(graph: Graph, kernels: Sequence[Kernel]) -> PeakMemory:
    """Return the peak of activations over the kernels of ``graph``, inputs and outputs included.

    Elementwise kernels and reshapes reuse the memory of an input that nobody needs later.
    """
    steps = [_step(kernel) for kernel in kernels]
    values = {v.name: v for k in kernels for v in (*k.reads, *k.writes)}
    values |= {v.name: v for v in (*graph.feeds, *graph.outputs)}
    sizes = {name: nbytes(value) for name, value in values.items()}
    fed = [v.name for v in graph.feeds]
    alive = buffers(steps, sizes, fed, [v.name for v in graph.outputs if v.name in sizes])
    most, where = peak(alive, steps)
    return PeakMemory(most, steps[where].name if steps else "")


def _step(kernel: Kernel) -> Step:
    reads = tuple(v.name for v in kernel.reads)
    writes = tuple(v.name for v in kernel.writes)
    pairs = tuple((w, r) for w in writes[:1] for r in reads)
    return Step(
        name=f"{kernel.name} {kernel.node.label}",
        reads=reads,
        writes=writes,
        views=pairs[:1] if kernel.is_view else (),
        in_place=pairs if kernel.in_place else (),
    )
