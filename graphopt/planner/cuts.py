"""Which operators should be integer: minimum cuts of a graph of kernel times and border costs.

Each heavy operator is a vertex with a time in float and a time in integer; where two neighbours
differ, a border is paid: Q or DQ, and a change of layout. The cheapest labelling is a minimum cut.
Times from a profiler hold its own overhead, a few microseconds per kernel, and the costs of borders
are uncertain; so the cut is made for a few corrections of each, and the few results that differ
are timed.

Source: Greig, Porteous, Seheult 1989, "Exact maximum a posteriori estimation for binary images".
"""

from __future__ import annotations

import glob
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.runtime import HEAVY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Node, Value
    from graphopt.planner.judges import Judge
    from graphopt.planner.workshop import Candidate
    from graphopt.runtime import KernelTimes

_BORDER_US = 3.0
_BORDER_NS_PER_ELEMENT = 0.4
"""Q or DQ, a transpose, and a reorder between layouts: measured on Zen 4, onnxruntime 1.31.1."""

_BORDER_SCALES = (0.3, 0.6, 1.0, 1.3)
_FLOAT_SCALES = (0.9, 1.0, 1.1)
_LARGE = 400
"""Operators above which fewer corrections are tried: a cut takes seconds there."""
_MOST = 3


@dataclass(frozen=True)
class Costs:
    """What is known about the heavy operators of a graph, in microseconds, by their names.

    Args:
        floats: time in float.
        integers: time in integer; math.inf where an operator has no integer kernel.
        borders: (one, other): cost when exactly one of the two is integer.
    """

    floats: dict[str, float]
    integers: dict[str, float]
    borders: dict[tuple[str, str], float]


def propose_cuts(graph: Graph, integer: Candidate, judge: Judge) -> list[frozenset[str]]:
    """Return a few sets of heavy operators to keep in float, the most promising first.

    Args:
        graph: the float graph that the candidate was made of, with shapes.
        integer: everything in integer that can be.
        judge: knows how long kernels take on the target.
    """
    found: dict[frozenset[str], float] = {}
    for costs in judge.kernel_costs(graph, integer):
        scales = itertools.product(_BORDER_SCALES, _FLOAT_SCALES)
        if len(costs.floats) > _LARGE:
            scales = itertools.product((0.6,), (0.9, 1.0))
        for border, share in scales:
            kept = minimum_cut(costs, border, share)
            if 0 < len(kept) < len(costs.floats):
                found.setdefault(kept, total_cost(costs, kept))
    return sorted(found, key=lambda kept: found[kept])[:_MOST]


def minimum_cut(
    costs: Costs, border_scale: float = 1.0, float_scale: float = 1.0
) -> frozenset[str]:
    """Return the operators to keep in float so that the sum of times and borders is least."""
    from graphopt.planner.assignment.binary import BinaryEnergy

    known = (*costs.floats.values(), *costs.integers.values(), *costs.borders.values())
    # What has no integer kernel stays in float, whatever that costs.
    never = 1.0 + 2 * sum(c for c in known if math.isfinite(c))
    energy = BinaryEnergy()
    for name, cost in costs.floats.items():
        energy.add(name, min(costs.integers[name], never), cost * float_scale)
    for (one, other), cost in costs.borders.items():
        border = cost * border_scale
        energy.add_pair(one, other, (0.0, border, border, 0.0))
    return frozenset(str(name) for name in energy.minimum())


def total_cost(costs: Costs, kept: frozenset[str]) -> float:
    """Return the microseconds of a labelling: times, and borders between unlike neighbours."""
    times = sum(costs.floats[n] if n in kept else costs.integers[n] for n in costs.floats)
    borders = (c for (a, b), c in costs.borders.items() if (a in kept) != (b in kept))
    return times + sum(borders)


def patterns(kept: frozenset[str]) -> tuple[str, ...]:
    """Return glob patterns that match exactly these names, in a stable order."""
    return tuple(glob.escape(name) for name in sorted(kept))


def measured_costs(
    graph: Graph, floats: KernelTimes, integers: KernelTimes, float_us: float, integer_us: float
) -> list[Costs]:
    """Return the costs as profiled, and with the profiler's overhead taken off each kernel.

    Args:
        graph: float, with shapes.
        floats: profile of the float graph.
        integers: profile of the all-integer one.
        float_us: what an inference in float takes without the profiler.
        integer_us: the same in integer.
    """
    borders = border_costs(graph)
    names = [n.label for n in graph.nodes() if _is_heavy(n)]
    made = []
    for corrected in (False, True):
        one = _without_overhead(floats, float_us) if corrected else floats.by_node
        other = _without_overhead(integers, integer_us) if corrected else integers.by_node
        made.append(
            Costs(
                {n: max(one.get(n, 0.0), 0.0) for n in names},
                {n: max(other.get(n, math.inf), 0.0) for n in names},
                borders,
            )
        )
    return made


def _without_overhead(times: KernelTimes, whole_us: float) -> dict[str, float]:
    overhead = max((times.total - whole_us) / max(times.kernels, 1), 0.0)
    return {n: t - overhead * times.counts[n] for n, t in times.by_node.items()}


def border_costs(graph: Graph) -> dict[tuple[str, str], float]:
    """Return the cost of a change of precision between heavy operators that feed each other."""
    before: dict[Node, dict[Node, None]] = {}
    borders: dict[tuple[str, str], float] = {}
    for node in graph.nodes():
        found: dict[Node, None] = {}
        for value in node.inputs:
            above = _heavy_above(value, before)
            found |= above
            if _is_heavy(node) and value is not None:
                cost = _BORDER_US + _BORDER_NS_PER_ELEMENT * _elements(value) / 1e3
                for other in above:
                    borders[other.label, node.label] = cost
        before[node] = found
    return borders


def _heavy_above(value: Value | None, before: Mapping[Node, dict[Node, None]]) -> dict[Node, None]:
    producer = value.producer if value is not None else None
    if producer is None:
        return {}
    return {producer: None} if _is_heavy(producer) else before.get(producer, {})


def _is_heavy(node: Node) -> bool:
    return node.op in HEAVY and node.domain == ""


def _elements(value: Value) -> int:
    return math.prod(d for d in value.shape or () if isinstance(d, int))
