"""A copy of a graph in the operator set that a fused operator needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.errors import ModelError

if TYPE_CHECKING:
    from graphopt.ir import Graph


def for_opset(graph: Graph, version: int) -> tuple[Graph | None, tuple[str, ...]]:
    """Return a copy written for at least ``version``, or None and a note that says why not."""
    trial = graph.copy()
    if trial.opset < version:
        try:
            ir.upgrade_opset(trial, version)
        except ModelError as error:
            return None, (f"stays at opset {graph.opset}: {error.message}",)
    return trial, ()
