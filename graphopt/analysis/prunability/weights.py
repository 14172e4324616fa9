"""Which constants are weights, and how much of them hangs on some axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.analysis.coupling import Axis
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from graphopt.analysis.coupling import Group
    from graphopt.ir import Graph, Value

    Array = np.ndarray[Any, Any]

_QUANTIZED = frozenset({DType.INT8, DType.UINT8, DType.INT4, DType.UINT4})


def stored_weights(graph: Graph) -> dict[Value, int]:
    """Return how many numbers each weight of the outermost graph has, in order of name.

    Weights are constants of floating-point numbers or of at most 8 bits, of rank 1 at least and
    with more than one element, that an operator reads.
    """
    found: dict[Value, int] = {}
    read = {v for node in graph.nodes() for v in node.inputs if v is not None and v.is_constant}
    for value in sorted(read, key=lambda v: v.name):
        tensor = value.tensor
        if tensor is None or tensor.size < 2 or not value.shape:
            continue
        if tensor.dtype.is_float or tensor.dtype in _QUANTIZED:
            found[value] = tensor.size
    return found


def reached(value: Value, covered: Mapping[Axis, float]) -> float:
    """Return the share of a weight that some of the covered indices run through, in [0, 1].

    Args:
        value: the weight.
        covered: share of the indices of an axis; axes that are absent count as 0.
    """
    stays = 1.0
    for position in range(len(value.shape or ())):
        stays *= 1.0 - covered.get(Axis(value, position), 0.0)
    return 1.0 - stays


def covered_by(groups: Iterable[Group]) -> dict[Axis, float]:
    """Return the share of each axis that belongs to units of any of the groups."""
    count: dict[Axis, int] = {}
    for group in groups:
        for axis, units in group.units.items():
            count[axis] = count.get(axis, 0) + int((units >= 0).sum())
    return {axis: number / (axis.size or 1) for axis, number in count.items()}
