"""The zero-consumer oracle: what a graph computes once nobody listens to some of its units.

Removing a unit is exact when the operators that sum over it are all that it reaches. So the
original with these inputs set to zero must compute what the smaller graph computes, for any input,
whatever the weights. Zeroing what *makes* a unit would not do: behind a bias or a sigmoid it is not
zero any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir

if TYPE_CHECKING:
    from graphopt.analysis.coupling import Axis, Consumer, Coupling, Cut
    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

TOLERANCE = 1e-5
"""Largest difference between the two, as a share of the largest output."""


def silence_units(graph: Graph, coupling: Coupling, cut: Cut) -> Graph:
    """Return the graph with what a cut removes set to zero wherever it is summed over.

    Args:
        graph: the graph that the cut was made for; not changed.
        coupling: the coupling of that graph.
        cut: what is kept.
    """
    made = graph.copy()
    nodes = dict(zip(graph.nodes(), made.nodes(), strict=True))
    done: set[tuple[Node, Axis]] = set()
    for group in coupling.groups:
        for consumer in group.consumers:
            axis = consumer.source or consumer.weight
            if axis is None or (consumer.node, axis) in done:
                continue
            done.add((consumer.node, axis))
            keep = cut.keep(*axis)
            if keep is not None:
                _silence(made, nodes[consumer.node], consumer, axis, keep)
    made.sort()
    return made


def _silence(graph: Graph, node: Node, consumer: Consumer, axis: Axis, keep: Array) -> None:
    """Mask every input of the node that was the axis's tensor; other axes of it may be masked."""
    shape = [1] * len(axis.value.shape or ())
    shape[axis.position] = -1
    mask = keep.reshape(shape)
    places = [i for i, given in enumerate(consumer.node.inputs) if given is axis.value]
    for value in {node.inputs[place]: None for place in places}:
        assert value is not None
        fresh = _masked(graph, value, mask, stored=consumer.source is None)
        for place in places:
            if node.inputs[place] is value:
                node.set_input(place, fresh)


def _masked(graph: Graph, value: Value, mask: Array, *, stored: bool) -> Value:
    if stored:
        array = value.array()
        zeroed = np.where(mask, array, np.zeros((), array.dtype))
        assert value.tensor is not None
        return graph.add_constant(f"{value.name}_zeroed", ir.Tensor.from_array(zeroed))
    dtype = np.dtype(value.dtype.numpy_name) if value.dtype is not None else np.float32
    factor = graph.add_constant(f"{value.name}_mask", mask.astype(dtype))
    masked = graph.unique_name(f"{value.name}_masked")
    fresh = graph.add_node("Mul", [value, factor], [masked]).outputs[0]
    fresh.dtype, fresh.shape = value.dtype, value.shape
    return fresh


def disagreement(expected: list[Array], found: list[Array]) -> float:
    """Return the largest difference between outputs, as a share of the largest expected value.

    Infinity where shapes differ or something is not finite on one side only.
    """
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if one.dtype.kind not in "f":
            worst = max(worst, 0.0 if np.array_equal(one, other) else float("inf"))
            continue
        wide, narrow = one.astype(np.float64), other.astype(np.float64)
        if not np.array_equal(np.isfinite(wide), np.isfinite(narrow)):
            return float("inf")
        finite = np.isfinite(wide)
        scale = np.abs(wide[finite]).max(initial=0.0)
        gap = np.abs(wide[finite] - narrow[finite]).max(initial=0.0)
        worst = max(worst, float(gap / scale) if scale else float(gap))
    return worst
