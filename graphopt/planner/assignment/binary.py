"""Two choices for each vertex: the cheapest labelling, exactly, as a minimum cut.

A term of two vertices with costs A, B, C, D for (0, 0), (0, 1), (1, 0), (1, 1) is
A + (C - A) x + (D - C) y + (B + C - A - D) (1 - x) y. The first three go to the terminals; the last
is an edge, and needs B + C >= A + D. Where that does not hold, the edge is left out.

Sources: Kolmogorov, Zabih 2004, "What energy functions can be minimized via graph cuts?"; Rother,
Kumar, Kolmogorov, Blake 2005, "Digital tapestry" (truncation).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

_STEPS = 1 << 44
"""Capacities are whole numbers, the largest about this: sums are exact, and so is the cut."""


@dataclass
class BinaryEnergy:
    """Costs of zeros and ones; vertices are any hashable, and appear when they are first named."""

    ones: defaultdict[Hashable, float] = field(default_factory=lambda: defaultdict(float))
    """Cost of one less that of zero."""
    edges: defaultdict[tuple[Hashable, Hashable], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    """(a, b): cost where a is zero and b is one."""
    truncated: int = 0
    """Terms that no cut can express."""

    def add(self, vertex: Hashable, zero: float, one: float) -> None:
        """Add a term of one vertex."""
        self.ones[vertex] += one - zero

    def add_pair(
        self, first: Hashable, second: Hashable, costs: tuple[float, float, float, float]
    ) -> None:
        """Add a term of two vertices: costs of (0, 0), (0, 1), (1, 0), (1, 1)."""
        a, b, c, d = costs
        self.ones[first] += c - a
        self.ones[second] += d - c
        weight = b + c - a - d
        if weight > 0:
            self.edges[first, second] += weight
        elif weight < -1e-9 * (abs(a) + abs(b) + abs(c) + abs(d)):
            self.truncated += 1

    def minimum(self) -> frozenset[Hashable]:
        """Return the vertices that are one in the cheapest labelling."""
        import networkx as nx

        largest = max(map(abs, (*self.ones.values(), *self.edges.values())), default=0.0)
        if largest == 0.0:
            return frozenset()
        scale = _STEPS / largest
        network = nx.DiGraph()
        network.add_nodes_from(("zero", "one"))
        for vertex, cost in self.ones.items():
            # On the side of the source is what is zero.
            ends = (("v", vertex), "one") if cost < 0 else ("zero", ("v", vertex))
            network.add_edge(*ends, capacity=round(abs(cost) * scale))
        for (first, second), cost in self.edges.items():
            network.add_edge(("v", first), ("v", second), capacity=round(cost * scale))
        _, (_, ones) = nx.minimum_cut(
            network, "zero", "one", flow_func=nx.algorithms.flow.boykov_kolmogorov
        )
        return frozenset(v[1] for v in ones if isinstance(v, tuple))
