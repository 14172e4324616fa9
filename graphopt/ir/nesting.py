"""How deep graphs lie inside each other, measured without recursion."""

from __future__ import annotations

from graphopt.errors import ModelError

MAX_NESTING = 30
"""Levels of inner graphs; protobuf, and so onnxruntime, stops at 100 messages, 3 for each level."""

_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}
"""Which numbered fields of a message hold messages that may hold graphs."""

_FIXED = {1: 8, 5: 4}
"""Bytes of the wire types of fixed size."""


def too_deep(where: str | None = None) -> ModelError:
    """Return the error about graphs that lie too deep."""
    return ModelError(
        f"graphs are nested more than {MAX_NESTING} deep",
        code="G209",
        where=where,
        hint="no runtime loads such a model; flatten its If, Loop and Scan bodies",
    )


def serialized_nesting(data: bytes) -> int:
    """Return how many levels of inner graphs a serialized model has, as far as it can be read."""
    deepest, position = 0, 0
    stack = [(len(data), "model", -1)]
    try:
        while stack:
            end, kind, depth = stack[-1]
            if position >= end:
                stack.pop()
                continue
            key, position = _varint(data, position)
            size, position = _size(data, position, key & 7)
            child = _INNER[kind].get(key >> 3) if key & 7 == 2 else None
            if child is None:
                position += size
                continue
            depth += child == "graph"
            deepest = max(deepest, depth)
            stack.append((position + size, child, depth))
    except (IndexError, KeyError):
        pass  # cut short, or no protobuf at all: what was read so far is the answer
    return deepest


def _size(data: bytes, position: int, wire_type: int) -> tuple[int, int]:
    """Return how many bytes a field's contents take, and where they start."""
    if wire_type == 0:
        return 0, _varint(data, position)[1]
    if wire_type == 2:
        return _varint(data, position)
    return _FIXED[wire_type], position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
