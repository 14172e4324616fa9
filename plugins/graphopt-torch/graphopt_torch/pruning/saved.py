"""What is saved of a training in progress, under one name for each part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from graphopt import ir
from graphopt.passes.prune.result_cache import content_key
from graphopt_torch.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]


def checkpoint_of(graph: Graph, context: Context, step: object, device: str) -> Checkpoint:
    """Return where a pass saves its training of a graph.

    Args:
        graph: as it is given to the pass.
        context: of the pass.
        step: the pass, whose repr says all of its options.
        device: "cpu" or "cuda".
    """
    teacher = ir.structural_hash(context.original)
    facts = (step, teacher, repr(context.target), torch.__version__, torch.get_num_threads())
    return Checkpoint.of(content_key(graph, context, *facts, device))


def prefixed(name: str, state: Mapping[str, Array]) -> dict[str, Array]:
    """Return a state with the name of a part in front of each key."""
    return {f"{name} {key}": value for key, value in state.items()}


def under(name: str, state: Mapping[str, Array]) -> dict[str, Array]:
    """Return the part of a state that was saved under a name."""
    start = f"{name} "
    return {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}
