"""What the rules of operators say: which atoms go together, which stay, and who sums over them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphopt.analysis.coupling.axes import AtomTable, Axis
from graphopt.analysis.symbols import Symbols
from graphopt.ir import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from graphopt.ir import Graph, Node

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Consumer:
    """An operator that sums over an axis, so that an index that is zero there can go.

    Args:
        node: the operator.
        source: the axis of the activation that is summed over; None where the sum is inside the
            operator (the recurrent product of an LSTM), and only the weight is seen.
        weight: the axis of the weight that goes with it; None where two activations are multiplied,
            the sum has no weight, or the weight of a grouped convolution has no such axis.
    """

    node: Node
    source: Axis | None
    weight: Axis | None


@dataclass(frozen=True)
class Producer:
    """An operator that makes each index of an axis from weights of its own.

    Args:
        node: the operator.
        weight: the axis of the weight whose slices make the indices.
        bias: the same of the bias; None without one.
    """

    node: Node
    weight: Axis
    bias: Axis | None = None


@dataclass(frozen=True)
class Product:
    """An axis that is several axes run together, the last of them fastest.

    Args:
        whole: the axis, as large as the product of the factors.
        factors: the axes it is made of, or taken apart into.
        node: the operator that does it.
    """

    whole: Axis
    factors: tuple[Axis, ...]
    node: Node


@dataclass(frozen=True)
class Balance:
    """Equal parts of an axis that must lose the same number of indices each."""

    axis: Axis
    blocks: int
    node: Node


@dataclass
class Links:
    """Collects what the rules say about one graph.

    A rule says something about every axis of its node's inputs and outputs that has more than one
    index; an axis that it is silent about is frozen. Axes are (value, position); whoever ties an
    axis whose size is not known freezes the other.
    """

    graph: Graph
    table: AtomTable
    consumers: list[Consumer] = field(default_factory=list)
    producers: list[Producer] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    balances: list[Balance] = field(default_factory=list)
    frozen: list[tuple[Array, str]] = field(default_factory=list)
    inexact: list[tuple[Array, str]] = field(default_factory=list)
    batched: list[Array] = field(default_factory=list)
    edges: list[tuple[Array, Array]] = field(default_factory=list)
    _said: set[Axis] = field(default_factory=set)

    # -- what rules say ------------------------------------------------------------------

    def tie(
        self, one: Axis, other: Axis, of_one: Array | None = None, of_other: Array | None = None
    ) -> None:
        """Couple two axes index by index: ``of_one[i]`` of the one goes with ``of_other[i]``.

        Args:
            one: an axis.
            other: another, or the same.
            of_one: indices, all in order by default.
            of_other: as many indices of the other; a broadcast scalar is not meant.

        Raises:
            ValueError: not as many on both sides, or an index that is not there.
        """
        self._said |= {one, other}
        if one not in self.table or other not in self.table:
            for axis in (one, other):
                self.freeze(axis, f"the size of {one.label} or {other.label} is not known")
            return
        left, right = self.table.atoms(one, of_one), self.table.atoms(other, of_other)
        if left.shape != right.shape:
            raise ValueError(f"{left.size} indices of {one.label}, {right.size} of {other.label}")
        self.edges.append((left, right))

    def freeze(self, axis: Axis, reason: str, indices: Array | None = None) -> None:
        """Keep an axis, or some of its indices, as it is; ``reason`` continues "because"."""
        self._said.add(axis)
        if axis in self.table:
            self.frozen.append((self.table.atoms(axis, indices), reason))

    def freeze_value(self, value: Value | None, reason: str) -> None:
        """Keep every axis of a tensor as it is."""
        for axis in axes_of(value):
            self.freeze(axis, reason)

    def freeze_node(self, node: Node, reason: str) -> None:
        """Keep every axis of everything that a node reads and makes as it is."""
        for value in (*node.inputs, *node.outputs):
            self.freeze_value(value, reason)

    def multiply(self, whole: Axis, factors: Sequence[Axis], node: Node) -> None:
        """Say that ``whole`` is the factors run together (row-major), as Reshape does.

        Only one of the factors can lose indices; which one is decided when all is known.

        Raises:
            ValueError: the factors together are not as large as the whole.
        """
        self._said |= {whole, *factors}
        if len(factors) == 1:
            self.tie(whole, factors[0])
        elif whole in self.table and all(f in self.table for f in factors):
            sizes = [f.size or 0 for f in factors]
            if math.prod(sizes) != whole.size:
                raise ValueError(f"{whole.label} has {whole.size} indices, not {sizes} together")
            self.products.append(Product(whole, tuple(factors), node))
        else:
            for axis in (whole, *factors):
                self.freeze(axis, f"`{node.label}` reshapes sizes that are not known")

    def balance(self, axis: Axis, blocks: int, node: Node) -> None:
        """Demand that each of ``blocks`` equal parts of an axis loses the same number.

        Raises:
            ValueError: the axis has no such parts.
        """
        self._said.add(axis)
        if axis in self.table and blocks > 1:
            if (axis.size or 0) % blocks:
                raise ValueError(f"{axis.label} has {axis.size} indices: no {blocks} equal parts")
            self.balances.append(Balance(axis, blocks, node))

    def approximate(self, axis: Axis, reason: str) -> None:
        """Say that removing indices changes what the others become; ``reason`` says how."""
        self._said.add(axis)
        if axis in self.table:
            self.inexact.append((self.table.atoms(axis), reason))

    def consume(self, node: Node, source: Axis | None, weight: Axis | None = None) -> None:
        """Say that a node sums over an axis, with the weight's axis if there is one.

        The two are tied here.
        """
        self._said |= {a for a in (source, weight) if a is not None}
        if source is not None and weight is not None:
            self.tie(source, weight)
        self.consumers.append(Consumer(node, source, weight))

    def produce(self, node: Node, made: Axis, weight: Axis, bias: Axis | None = None) -> None:
        """Say that slices of a weight, and of a bias, make the indices of an axis; ties them."""
        self.tie(made, weight)
        if bias is not None:
            self.tie(made, bias)
        self.producers.append(Producer(node, weight, bias))

    def batch(self, axis: Axis) -> None:
        """Say that whole products are stacked along an axis, as attention stacks its heads."""
        self._said.add(axis)
        if axis in self.table:
            self.batched.append(self.table.atoms(axis))

    def ignore(self, axis: Axis) -> None:
        """Say that a node does not care about an axis: it neither ties nor freezes it."""
        self._said.add(axis)

    # -- what rules ask ------------------------------------------------------------------

    @cached_property
    def symbols(self) -> Symbols:
        """Lengths and shape arithmetic of the graph, with symbols."""
        return Symbols(self.graph)

    def between(self, node: Node, sizes: Sequence[int]) -> tuple[Axis, ...]:
        """Return axes that no tensor has, which a node takes apart and runs together in one go."""
        value = Value(self.graph, "~".join([node.outputs[0].name, *map(str, sizes)]))
        value.shape = tuple(sizes)
        self.table.hide(value)
        return tuple(Axis(value, position) for position in range(len(sizes)))

    # -- what the engine asks ------------------------------------------------------------

    def begin(self) -> None:
        """Start a node."""
        self._said = set()

    def finish(self, node: Node) -> None:
        """Freeze what the rule of ``node`` was silent about."""
        for value in (*node.inputs, *node.outputs):
            for axis in axes_of(value):
                if axis not in self._said and axis.size != 1:
                    self.freeze(axis, f"{node.op} `{node.label}` fixes it")


def axes_of(value: Value | None) -> Iterable[Axis]:
    """Return the axes of a tensor; none where its rank is not known, or it is omitted."""
    if value is None or value.shape is None:
        return ()
    return tuple(Axis(value, position) for position in range(len(value.shape)))
