"""What is known of a value without running the graph: its numbers and its shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Value


def scalar(value: Value | None) -> float | None:
    """Return the number that a constant of one element holds."""
    if value is None or value.tensor is None or value.tensor.size != 1:
        return None
    if value.tensor.dtype is DType.STRING:
        return None
    return float(value.array().reshape(-1)[0])


def integers(value: Value | None) -> list[int] | None:
    """Return the values of a constant of int32 or int64, flattened."""
    if value is None or value.tensor is None:
        return None
    if value.tensor.dtype not in {DType.INT32, DType.INT64}:
        return None
    return [int(v) for v in value.array().reshape(-1)]


def static_shape(value: Value | None) -> tuple[int, ...] | None:
    """Return the shape when every dimension is a number."""
    if value is None or value.shape is None:
        return None
    sizes = [d for d in value.shape if isinstance(d, int)]
    return tuple(sizes) if len(sizes) == len(value.shape) else None
