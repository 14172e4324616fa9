"""Peak activation memory of a model as the runtime executes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis import buffers, peak
from graphopt.cost.sharing import steps_of, tensor_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.kernels import Kernel
    from graphopt.cost.sharing import Sharing
    from graphopt.ir import Graph


@dataclass(frozen=True)
class PeakMemory:
    """The most activation bytes that are alive at once, and where.

    It is what a perfect placement needs in the order of the file; a runtime's allocator and its
    scratch come on top. ``graphopt.cost.planning`` places buffers and looks for a better order.
    """

    nbytes: int
    at: str


def peak_memory(
    graph: Graph, kernels: Sequence[Kernel], sharing: Sharing = "smaller"
) -> PeakMemory:
    """Return the peak of activations over the kernels of ``graph``, inputs and outputs included.

    Args:
        graph: carries its shapes.
        kernels: in order of execution.
        sharing: which outputs reuse the memory of an input that nobody needs later.
    """
    steps = steps_of(kernels, sharing)
    sizes = tensor_sizes(graph, kernels)
    fed = [v.name for v in graph.feeds]
    alive = buffers(steps, sizes, fed, [v.name for v in graph.outputs if v.name in sizes])
    most, where = peak(alive, steps)
    return PeakMemory(most, steps[where].name if steps else "")
