"""Read-only facts about a graph."""

from __future__ import annotations

from graphopt.analysis.memory import Buffer, Step, buffers, peak
from graphopt.analysis.uses import captured_values, folded_nodes, only_consumer, stored_bytes

__all__ = [
    "Buffer",
    "Step",
    "buffers",
    "captured_values",
    "folded_nodes",
    "only_consumer",
    "peak",
    "stored_bytes",
]
