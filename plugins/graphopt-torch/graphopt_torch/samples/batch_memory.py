"""How many samples fit into one training step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphopt.cost.shapes import sized
from graphopt.workers.capacity import free_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Value
    from graphopt_torch.execution import Program

USUAL = 64
"""Samples in a batch where memory sets no limit: more are slower and learn no better per minute."""
SHARE = 0.3
"""Of the memory that is free, what a step may take."""
_FACTOR = 2.5
"""Bytes that a step holds for every byte that operators write: the tensors themselves, which are
kept for the way back, what fake quantization keeps beside them, and the gradients in flight."""
_FLOAT = 4


def affordable(graph: Graph, program: Program, sample: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many samples of these shapes fit into one step; at least 1.

    Args:
        graph: that is trained.
        program: it under torch, on the device that counts.
        sample: shapes of the inputs of one sample, by name.
    """
    free = _free(program)
    if free is None:
        return USUAL
    return max(1, int(SHARE * free / max(step_bytes(graph, sample), 1)))


def step_bytes(graph: Graph, sample: Mapping[str, tuple[int, ...]]) -> int:
    """Return what one sample takes in a step, from its forward to the end of its backward pass.

    Everything that an operator writes stays alive until the gradients have come by, so the plan of
    its memory has nothing to share: the sum over all tensors, in 4 bytes for each element whatever
    the graph says, since integers are floats while they are trained.
    """
    symbols = {
        dim: size
        for value in graph.feeds
        for dim, size in zip(value.shape or (), sample[value.name], strict=False)
        if isinstance(dim, str)
    }
    known, _ = sized(graph, symbols)
    written = [value for node in known.nodes() for value in node.outputs if value is not None]
    return int(_FACTOR * _FLOAT * sum(map(_elements, written)))


def _elements(value: Value) -> int:
    """Return the elements of a tensor; what is not known counts as 1."""
    return math.prod(d if isinstance(d, int) else 1 for d in value.shape or ())


def _free(program: Program) -> int | None:
    device = next((values.device for values in program.constants.values()), None)
    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return free_bytes()
