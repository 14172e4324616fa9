"""Read-only facts about a graph."""

from __future__ import annotations

from graphopt.analysis.channels import CHANNEL_AXIS, ChannelGroup, ChannelGroups
from graphopt.analysis.memory import Buffer, Step, buffers, peak
from graphopt.analysis.uses import (
    captured_values,
    folded_nodes,
    levels,
    only_consumer,
    stored_bytes,
)
from graphopt.analysis.values import integers, scalar, static_shape

__all__ = [
    "CHANNEL_AXIS",
    "Buffer",
    "ChannelGroup",
    "ChannelGroups",
    "Step",
    "buffers",
    "captured_values",
    "folded_nodes",
    "integers",
    "levels",
    "only_consumer",
    "peak",
    "scalar",
    "static_shape",
    "stored_bytes",
]
