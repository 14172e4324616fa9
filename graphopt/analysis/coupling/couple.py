"""Couple the axes of a graph: ask every operator's rule, close what they say, group the rest."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling import products
from graphopt.analysis.coupling.axes import AtomTable, Axis
from graphopt.analysis.coupling.components import connected
from graphopt.analysis.coupling.groups import Coupling, group_units
from graphopt.analysis.coupling.links import Links
from graphopt.analysis.symbols import learn_sizes
from graphopt.analysis.uses import captured_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.analysis.coupling.links import Product
    from graphopt.analysis.coupling.rule import CouplingRule
    from graphopt.ir import Graph, Node

    Array = np.ndarray[Any, Any]

BORDERS = ("it is an input of the model", "it is an output of the model")
"""Why the tensors stay that others see."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trace:
    """What can be removed from a graph, and what was said to find it.

    Args:
        coupling: the answer.
        links: what the rules said.
        labels: component of each atom: its smallest member. int64 [atoms].
    """

    coupling: Coupling
    links: Links
    labels: Array


def couple(
    graph: Graph, rules: Mapping[str, CouplingRule], *, prefer_heads: bool = True
) -> Coupling:
    """Return what can be removed from a graph, and what has to go with it.

    The graph must have shapes (``ir.infer_shapes``); what has none is frozen, as are inputs and
    outputs, what inner graphs read, and everything around an operator without a rule, or with one
    that raises.

    Args:
        graph: is not changed, but for sizes that become known.
        rules: by name: the operator, after its domain and a dot where it is not the default one.
        prefer_heads: whether attention loses whole heads rather than features of every head.
    """
    return traced(graph, rules, prefer_heads=prefer_heads).coupling


def traced(graph: Graph, rules: Mapping[str, CouplingRule], *, prefer_heads: bool = True) -> Trace:
    """Return the same as ``couple``, with what it was found from, to explain it."""
    learn_sizes(graph)
    links = Links(graph, AtomTable(_tensors(graph)))
    _freeze_borders(graph, links)
    for node in graph.nodes():
        links.begin()
        _apply(node, rules, links)
        links.finish(node)
    labels = _close(links, prefer_heads)
    return Trace(group_units(links, labels), links, labels)


def rule_for(node: Node, rules: Mapping[str, CouplingRule]) -> CouplingRule | None:
    """Return the rule of a node's operator; None when there is none."""
    return rules.get(f"{node.domain}.{node.op}" if node.domain else node.op)


def _tensors(graph: Graph) -> list[Any]:
    used = {v for n in graph.nodes() for v in (*n.inputs, *n.outputs) if v is not None and v.name}
    return [*used, *(set(graph.values()) - used)]


def _freeze_borders(graph: Graph, links: Links) -> None:
    for value in graph.inputs:
        if not value.is_constant:
            links.freeze_value(value, BORDERS[0])
    for value in graph.outputs:
        links.freeze_value(value, BORDERS[1])


def _apply(node: Node, rules: Mapping[str, CouplingRule], links: Links) -> None:
    rule = rule_for(node, rules)
    if node.subgraphs:
        links.freeze_node(node, f"{node.op} `{node.label}` holds an inner graph")
        for value in captured_values(node):
            links.freeze_value(value, f"an inner graph of `{node.label}` reads it")
    elif rule is None:
        links.freeze_node(node, f"there is no coupling rule for {node.op} (`{node.label}`)")
    elif _lacks_shapes(node):
        links.freeze_node(node, f"not all shapes around {node.op} `{node.label}` are known")
    else:
        _ask(rule, node, links)


def _ask(rule: CouplingRule, node: Node, links: Links) -> None:
    """Let a rule speak; one that fails keeps its node as it is, with all that it may have said."""
    try:
        rule.couple(node, links)
    except Exception as error:
        what = str(error) or "no more is said"
        _log.debug("coupling rule %s at %s", rule.name, node.label, exc_info=error)
        links.freeze_node(
            node,
            f"the coupling rule `{rule.name}` failed at `{node.label}`: "
            f"{type(error).__name__}: {what}",
        )


def _lacks_shapes(node: Node) -> bool:
    """Whether the rank of a tensor is not known; further outputs count when somebody reads them."""
    read = (v for i, v in enumerate(node.outputs) if i == 0 or v.uses or v.is_output)
    return any(v is not None and v.name and v.shape is None for v in (*node.inputs, *read))


class _Closure:
    """Components so far, and which of them are frozen."""

    def __init__(self, links: Links) -> None:
        self.table = links.table
        self.labels = np.arange(links.table.count)
        self.frozen = np.zeros(links.table.count, dtype=bool)
        for atoms, _ in links.frozen:
            self.frozen[atoms] = True
        self.join(links.edges)

    def join(self, edges: list[tuple[Array, Array]]) -> None:
        if edges:
            first = np.concatenate([one for one, _ in edges])
            second = np.concatenate([other for _, other in edges])
            self.labels = connected(self.labels, first, second)

    def spread(self) -> Array:
        """Return for each atom whether its component is frozen."""
        roots = np.zeros_like(self.frozen)
        roots[self.labels[self.frozen]] = True
        return np.asarray(roots[self.labels])

    def marked(self, atoms: list[Array]) -> Array:
        """Return for each atom whether its component holds one of these."""
        roots = np.zeros(self.frozen.size, dtype=bool)
        for some in atoms:
            roots[self.labels[some]] = True
        return np.asarray(roots[self.labels])


def _close(links: Links, prefer_heads: bool) -> Array:
    """Settle all products; return the component of each atom."""
    closure = _Closure(links)
    waiting = sorted(links.products, key=products.sequence)
    while waiting:
        frozen = closure.spread()
        settled = _forced(links, frozen, waiting) or _chosen(links, closure, waiting, prefer_heads)
        for product, factor in settled.items():
            _fix_others(links, closure, product, factor, frozen)
        found = [products.ties(product, factor, links.table) for product, factor in settled.items()]
        closure.join(found)
        waiting = [product for product in waiting if product not in settled]
    return closure.labels


def _forced(links: Links, frozen: Array, waiting: list[Product]) -> dict[Product, Axis]:
    """Return the factor of each product that leaves no choice."""
    settled = {}
    for product in waiting:
        free = products.free_factors(product, links.table, frozen)
        # A whole axis that stays keeps all of its factors: any of them will do.
        if len(free) < 2 or frozen[links.table.atoms(product.whole)].all():
            settled[product] = (free or list(product.factors))[0]
    return settled


def _chosen(
    links: Links, closure: _Closure, waiting: list[Product], prefer_heads: bool
) -> dict[Product, Axis]:
    """Choose for the products that are clearest, as far as one choice does not touch another."""
    table = links.table
    heads = closure.marked(links.batched)
    made = closure.marked([table.atoms(p.weight) for p in links.producers if p.weight in table])
    frozen = closure.spread()

    def rank(axis: Axis) -> tuple[bool, bool, int, int, str]:
        atoms = table.atoms(axis)
        first = int(closure.labels[atoms[0]])
        stacked = bool(heads[atoms].any())
        # Axes that no tensor has are numbered in the order of nodes, which must not matter.
        known, name = (first, "") if first < table.seen else (table.seen, axis.value.name)
        return (stacked == prefer_heads, bool(made[atoms].any()), axis.size or 0, -known, name)

    best = {p: max(products.free_factors(p, table, frozen), key=rank) for p in waiting}
    choices = products.Choices(table, closure.labels)
    for product in sorted(waiting, key=lambda p: rank(best[p]), reverse=True):
        choices.offer(product, best[product])
    return choices.taken


def _fix_others(
    links: Links, closure: _Closure, product: Product, factor: Axis, frozen: Array
) -> None:
    stays = bool(frozen[links.table.atoms(product.whole)].all())
    reason = (products.FULL if stays else products.TAKEN).format(node=product.node.label)
    for axis in product.factors:
        if axis != factor:
            atoms = links.table.atoms(axis)
            links.frozen.append((atoms, reason))
            closure.frozen[atoms] = True
