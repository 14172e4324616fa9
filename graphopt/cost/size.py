"""Bytes of the model file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis import stored_bytes
from graphopt.ir import serialized_size

if TYPE_CHECKING:
    from graphopt.ir import Graph

_SERIALIZE_UP_TO = 64 << 20
"""Larger models are not serialized just to be counted."""

_BYTES_PER_NODE = 150
"""Names, type and attributes of one node; only used above that size."""


def file_bytes(graph: Graph) -> int:
    """Return the size of the model file: exact up to 64 MB of weights, then summed."""
    weights = stored_bytes(graph)
    if weights <= _SERIALIZE_UP_TO:
        return serialized_size(graph)
    return weights + _BYTES_PER_NODE * sum(1 for _ in graph.walk())
