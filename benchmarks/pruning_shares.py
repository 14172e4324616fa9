"""How much of a model can be pruned, and why the rest stays."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling import Axis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.analysis.coupling import Coupling, Group
    from graphopt.ir import Graph, Value

    Array = np.ndarray[Any, Any]

NAMES = re.compile(r"`[^`]*`")


def constants(graph: Graph) -> list[Value]:
    """Return the floating constants of at least two elements."""
    found = []
    for value in graph.values():
        tensor = value.tensor
        if tensor is not None and tensor.size > 1 and tensor.dtype.name.startswith(("FLOAT", "BF")):
            found.append(value)
    return found


def parameters(graph: Graph) -> int:
    """Return the number of elements of floating constants of at least two elements."""
    return sum(value.tensor.size for value in constants(graph) if value.tensor is not None)


def reach(graph: Graph, groups: Iterable[Group]) -> float:
    """Return the share of the parameters that at least one unit runs through."""
    covered = _covered(groups)
    total = reached = 0.0
    for value in constants(graph):
        size = value.tensor.size if value.tensor is not None else 0
        stays = 1.0
        for position in range(len(value.shape or ())):
            units = covered.get(Axis(value, position))
            stays *= 1.0 if units is None else 1 - float(units.mean())
        total += size
        reached += size * (1 - stays)
    return reached / total if total else 0.0


def _covered(groups: Iterable[Group]) -> dict[Axis, Array]:
    covered: dict[Axis, Array] = {}
    for group in groups:
        for axis, units in group.units.items():
            covered[axis] = np.logical_or(covered.get(axis, False), units >= 0)
    return covered


def made_axes(graph: Graph) -> list[Axis]:
    """Return the axis of every weight whose slices make output channels, each once."""
    found: dict[Axis, None] = {}
    for node in graph.nodes("Conv", "ConvTranspose", "Gemm", "MatMul"):
        weight = node.inputs[1]
        if weight is None or not weight.is_constant or len(weight.shape or ()) < 2:
            continue
        rank = len(weight.shape or ())
        if node.op == "MatMul":
            position = rank - 1
        elif node.op == "Gemm":
            position = 0 if node.attribute("transB", 0) else 1
        else:
            position = 0 if node.op == "Conv" else 1
        found[Axis(weight, position)] = None
    return list(found)


def channel_share(graph: Graph, groups: Iterable[Group]) -> float:
    """Return the share of the output channels of weights that belong to some unit."""
    covered = _covered(groups)
    axes = made_axes(graph)
    total = sum(axis.size or 0 for axis in axes)
    return sum(float(covered[a].sum()) for a in axes if a in covered) / total if total else 0.0


def frozen_reasons(
    graph: Graph, coupling: Coupling, most: int = 6
) -> tuple[tuple[str, float, str], ...]:
    """Return (reason without what it quotes, share of all channels, one full reason)."""
    count: Counter[str] = Counter()
    example: dict[str, str] = {}
    axes = made_axes(graph)
    for axis in axes:
        for indices, reason in coupling.why(*axis):
            kind = NAMES.sub("…", reason)
            count[kind] += len(indices)
            example.setdefault(kind, f"{axis.label}: {reason}")
    total = sum(axis.size or 0 for axis in axes)
    return tuple((k, round(n / total, 4), example[k]) for k, n in count.most_common(most))
