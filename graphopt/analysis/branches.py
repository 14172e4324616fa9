"""Residual branches: what a graph adds to a tensor that it could also pass on as it is.

An addition y = s + f(x) has a branch f when all that f computes is read nowhere else, and s comes
from x as well: s = x, or s is made of x by another path (a projection). The operators of f are the
exclusive ancestors of its last tensor: those from which every path leads to the addition through
that tensor (they are what its producer post-dominates). Branches may lie inside each other.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis.uses import captured_values
from graphopt.ir.order import dependencies
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graphopt.ir import Graph, Node, Value

JOINS = frozenset(
    {
        ("", "Add"),
        ("", "Sum"),
        ("com.microsoft", "SkipLayerNormalization"),
        ("com.microsoft", "SkipSimplifiedLayerNormalization"),
    }
)
"""Operators (domain, name) that add their first two operands."""
_WORK = frozenset(
    {"Attention", "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "Einsum",
     "FusedConv", "FusedMatMul", "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger", "MaxPool",
     "QLinearConv", "QLinearMatMul", "RNN"}
)  # fmt: skip
"""Operators of which a branch has at least one; without them there is little to save."""
_NO_SIGNAL = frozenset({DType.INT32, DType.INT64, DType.BOOL, DType.STRING})
"""Types of shapes and masks, which say nothing about what a path computes."""
_LARGEST = 8192
"""Operators beyond which a region is the model itself and no branch of it; bounds the search."""


@dataclass(frozen=True)
class Chain:
    """A run of operators between two tensors: everything that makes one from the other.

    Args:
        exit: what it makes; read by whoever follows.
        entry: what it is made from.
        sides: further tensors from elsewhere that it reads: shapes, masks, another signal.
        nodes: its operators in an order that does not depend on that of the graph.
    """

    exit: Value
    entry: Value
    sides: tuple[Value, ...]
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """Its ends, which tell it from all others."""
        return f"{self.entry.name} to {self.exit.name}"

    def overlaps(self, other: Chain) -> bool:
        """Whether not both can be replaced."""
        return not set(self.nodes).isdisjoint(other.nodes)


@dataclass(frozen=True)
class Branch(Chain):
    """A residual branch f of ``join``: y = skip + exit, exit = f(entry, sides).

    Args:
        join: the operator that adds.
        skip: the other operand; the entry itself, or made from it.
        shortcut: the operators that make the skip of the entry and nothing else; empty where they
            are one tensor, None where the skip depends on more, or is read elsewhere.
    """

    join: Node
    skip: Value
    shortcut: tuple[Node, ...] | None

    @property
    def name(self) -> str:
        """The name of its last tensor, which only the join reads."""
        return self.exit.name

    @property
    def operand(self) -> int:
        """Which input of the join the branch is."""
        return 0 if self.join.inputs[0] is self.exit else 1

    def overlaps(self, other: Chain) -> bool:
        """Whether not both can be replaced: they share operators, or the join."""
        mine = {self.join, *self.nodes, *(self.shortcut or ())}
        theirs = set(other.nodes)
        if isinstance(other, Branch):
            theirs |= {other.join, *(other.shortcut or ())}
        return not mine.isdisjoint(theirs)


def residual_branches(graph: Graph) -> tuple[Branch, ...]:
    """Return the residual branches of the outermost graph, from its inputs to its outputs.

    Inner branches come before the one that they are in. The order, as the result, does not depend
    on the order of nodes. Graphs inside nodes are not searched, and such nodes are in no branch.

    Args:
        graph: in topological order; types and shapes are used where they are known.
    """
    search = _Search(graph)
    found = [b for node in graph.nodes() for b in search.branches_of(node)]
    return tuple(sorted(found, key=lambda b: (search.level(b.join), len(b.nodes), b.name)))


def levels_of(graph: Graph) -> dict[Node, int]:
    """Return the length of the longest path that ends in each node of the outermost graph."""
    levels: dict[Node, int] = {}
    for node in graph.nodes():
        below = (levels[d] for d in dependencies(node) if d in levels)
        levels[node] = 1 + max(below, default=0)
    return levels


class _Search:
    """Levels of operators, and the regions that only one tensor depends on."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.returned = set(graph.outputs)
        self.captured = {v for n in graph.nodes() if n.subgraphs for v in captured_values(n)}
        self.numbers = {node: number for number, node in enumerate(graph.nodes())}
        self.levels = levels_of(graph)

    def level(self, node: Node) -> int:
        """Return the length of the longest path that ends in a node."""
        return self.levels[node]

    def branches_of(self, join: Node) -> Iterator[Branch]:
        """Yield the branches that end in an operator, at most one for each operand."""
        if (join.domain, join.op) not in JOINS or len(join.inputs) < 2:
            return
        if join.op == "Sum" and len(join.inputs) != 2:
            return
        one, other = join.inputs[:2]
        if one is None or other is None or one is other or one.is_constant or other.is_constant:
            return
        if _broadcasts(one, other):
            return
        for skip, last in ((one, other), (other, one)):
            branch = self._branch(join, skip, last)
            if branch is not None:
                yield branch

    def _branch(self, join: Node, skip: Value, last: Value) -> Branch | None:
        region = self._region(last, join)
        if region is None or not any(n.op in _WORK or n.domain for n in region):
            return None
        entries = _entries(region)
        entry = self._fork(entries, skip, last)
        if entry is None:
            return None
        sides = tuple(sorted((v for v in entries if v is not entry), key=lambda v: v.name))
        shortcut = self._shortcut(skip, entry, join)
        return Branch(last, entry, sides, self._ordered(region), join, skip, shortcut)

    def _region(self, last: Value, reader: Node) -> set[Node] | None:
        """Return the operators that nothing but ``last`` depends on; it has one reader only."""
        inside: set[Node] = set()
        uses = last.uses
        if len(uses) != 1 or uses[0][0] is not reader or not self._is_private(last):
            return None
        # Readers stand on higher levels than what they read, so they are decided first.
        waiting: list[tuple[int, int, Node]] = []
        self._push(waiting, last)
        while waiting:
            node = heapq.heappop(waiting)[2]
            if node in inside or not self._is_exclusive(node, inside, last):
                continue
            inside.add(node)
            if len(inside) > _LARGEST:
                return None
            for value in node.inputs:
                self._push(waiting, value)
        return inside or None

    def _push(self, waiting: list[tuple[int, int, Node]], value: Value | None) -> None:
        node = value.producer if value is not None else None
        if node is not None and node in self.levels and node.op != "Constant":
            heapq.heappush(waiting, (-self.levels[node], self.numbers[node], node))

    def _is_exclusive(self, node: Node, inside: set[Node], last: Value) -> bool:
        if node.subgraphs:
            return False
        return all(
            value is last or (self._is_private(value) and all(n in inside for n, _ in value.uses))
            for value in node.outputs
        )

    def _is_private(self, value: Value) -> bool:
        return value not in self.returned and value not in self.captured

    def _fork(self, entries: list[Value], skip: Value, last: Value) -> Value | None:
        """Return the entry that the skip is, or else the last one that it depends on."""
        if skip in entries:
            return skip
        signals = [v for v in entries if v.dtype not in _NO_SIGNAL]
        above = self._ancestors(skip, signals)
        if not above:
            return None
        rank = None if last.shape is None else len(last.shape)
        return max(above, key=lambda v: (_rank(v) == rank, self._height(v), v.name))

    def _height(self, value: Value) -> int:
        return self.levels.get(value.producer, 0) if value.producer is not None else 0

    def _ancestors(self, value: Value, wanted: list[Value]) -> list[Value]:
        """Return those of the wanted values that ``value`` depends on."""
        lowest = min((self._height(v) for v in wanted), default=0)
        seen: set[Value] = set()
        stack = [value]
        while stack:
            current = stack.pop()
            if current in seen or self._height(current) < lowest:
                continue
            seen.add(current)
            if current.producer is not None:
                stack.extend(v for v in current.producer.inputs if v is not None)
        return [v for v in wanted if v in seen]

    def _shortcut(self, skip: Value, entry: Value, join: Node) -> tuple[Node, ...] | None:
        if skip is entry:
            return ()
        region = self._region(skip, join)
        if region is None or _entries(region) != [entry]:
            return None
        return self._ordered(region)

    def _ordered(self, region: Iterable[Node]) -> tuple[Node, ...]:
        return tuple(sorted(region, key=lambda n: (self.levels[n], _label(n))))


def _label(node: Node) -> tuple[str, ...]:
    return (*(value.name for value in node.outputs), node.name)


def _entries(region: set[Node]) -> list[Value]:
    """Return the tensors from elsewhere that a region reads, stored ones apart."""
    read = {v for node in region for v in node.inputs if v is not None}
    fixed = {v for v in read if v.is_constant or v.is_initializer}
    return [v for v in read - fixed if v.producer not in region]


def _rank(value: Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _broadcasts(one: Value, other: Value) -> bool:
    """Whether two operands are known to be of different shape."""
    if one.shape is None or other.shape is None:
        return False
    if len(one.shape) != len(other.shape):
        return True
    pairs = zip(one.shape, other.shape, strict=True)
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
