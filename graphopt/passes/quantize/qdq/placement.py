"""Decide which operators become integer, so that what is quantized is executed in integer.

Heavy operators are integer unless something forbids it. Between them, elementwise and
data-moving operators stay integer as long as that keeps an island whole: they read integers, and
lead to an integer product or make the tensor smaller. Everything else stays float: a Q or DQ
around an operator that cannot fuse costs more than it saves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.passes.quantize.qdq.lower import rule_for
from graphopt.passes.quantize.qdq.operands import (
    absorb,
    activations,
    becomes_gemm,
    hidden_by_activation,
    obstacle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from graphopt.calibration.base import RangeStatistics
    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.fusion import FusionRule, FusionTable

_SHRINKING = frozenset(
    {"ArgMax", "AveragePool", "GlobalAveragePool", "MaxPool", "ReduceMax", "ReduceMin"}
)
REARRANGING = frozenset(
    {"DepthToSpace", "Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that move data and never make more of it."""

_FLOAT_OUTPUT = frozenset({"Gemm", "MatMul"})
"""Integer products that can return floats: no Q needed when nobody wants integers."""

_INDICES = "ArgMax"
"""Reads integers and returns indices: nothing to quantize."""


@dataclass(frozen=True)
class Unit:
    """An operator that runs in integer, with the activation that its Q swallows."""

    node: Node
    rule: FusionRule
    output: Value
    absorbed: Node | None = None

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Every tensor that the unit makes; only Split makes more than one."""
        return (self.output, *self.node.outputs[1:])


@dataclass
class Placement:
    """The integer operators, and why each of the others that could matter is not."""

    units: dict[Node, Unit] = field(default_factory=dict)
    reasons: dict[Node, str] = field(default_factory=dict)
    held: set[Node] = field(default_factory=set)
    """Elementwise operators that must stay float even between integers."""

    def by_output(self) -> dict[Value, Unit]:
        """Return the unit that produces each integer tensor."""
        return {output: u for u in self.units.values() for output in u.outputs}

    def needs_integer_output(self, unit: Unit) -> bool:
        """Whether the unit must write integers: it cannot write floats, or somebody reads them."""
        if unit.node.op == _INDICES:
            return False
        if unit.node.op not in _FLOAT_OUTPUT or hidden_by_activation(unit.node):
            return True
        return any(reader in self.units for reader in unit.output.consumers)


def place(
    graph: Graph,
    table: FusionTable,
    ranges: Mapping[str, RangeStatistics],
    excluded: Callable[[Node], str | None],
) -> Placement:
    """Choose the integer operators of ``graph``.

    Args:
        graph: with types inferred.
        table: what the runtime can execute in integer.
        ranges: calibrated ranges by tensor name.
        excluded: returns why the user, or the chosen placement, keeps a node in float.
    """
    placement = Placement()
    for node in graph.nodes():
        rule = rule_for(node, table)
        if rule is None or rule.role == "absorbed":
            continue
        reason = excluded(node) or obstacle(node, rule, graph) or _unseen(node, ranges)
        if reason is None:
            absorbed, output = absorb(node, table)
            placement.units[node] = Unit(node, rule, output, absorbed)
        elif rule.role == "heavy":
            placement.reasons[node] = reason
        elif rule.role == "elementwise":
            placement.held.add(node)
    settled = -1
    while settled != len(placement.units):
        # An operator that is dropped may have been what another wrote its integers for.
        settled = len(placement.units)
        _shrink_to_islands(graph, placement)
        for unit in list(placement.units.values()):
            _settle_output(placement, unit, ranges)
    return placement


def _unseen(node: Node, ranges: Mapping[str, RangeStatistics]) -> str | None:
    missing = next((v.name for v in activations(node) if v.name not in ranges), None)
    return f"`{missing}` has no calibrated range" if missing is not None else None


def _shrink_to_islands(graph: Graph, placement: Placement) -> None:
    """Drop elementwise and moving operators until every one that is left earns its place."""
    order = graph.nodes()
    while True:
        before = len(placement.units)
        sources = _drop_without_integers(order, placement)
        leads: set[Node] = set()
        for node in reversed(order):
            unit = placement.units.get(node)
            if unit is None:
                continue
            consumers = [r for output in unit.outputs for r in output.consumers]
            readers = [placement.units[r] for r in consumers if r in placement.units]
            onward = any(r.rule.role == "heavy" or r.node in leads for r in readers)
            if onward:
                leads.add(node)
            elif unit.rule.role != "heavy" and not _earns_its_place(unit, sources):
                del placement.units[node]
        if len(placement.units) == before:
            return


def _drop_without_integers(order: Iterable[Node], placement: Placement) -> dict[Value, Unit]:
    """Drop what reads no integers; return the units that are left by what they make."""
    sources = placement.by_output()
    for node in order:
        unit = placement.units.get(node)
        if unit is None or unit.rule.role == "heavy" or _reads_integers(unit, sources):
            continue
        del placement.units[node]
        for output in unit.outputs:
            sources.pop(output, None)
    return sources


def _reads_integers(unit: Unit, sources: Mapping[Value, Unit]) -> bool:
    found = [v in sources for v in activations(unit.node)]
    return all(found) if unit.rule.role == "passthrough" else any(found)


def _earns_its_place(unit: Unit, sources: Mapping[Value, Unit]) -> bool:
    """Whether one DQ after it is cheaper than the DQs that its inputs would need."""
    read = activations(unit.node)
    if not all(v in sources for v in read):
        return False
    if unit.node.op in _SHRINKING:
        return True
    if unit.node.op in REARRANGING:
        # Bytes move faster than floats, and the DQ behind costs what the one before would.
        return not _are_free_in_float(read, sources)
    joins = unit.node.op in {"Add", "Mul"} and len(read) > 1
    return joins and not _are_free_in_float(read, sources)


def _are_free_in_float(values: Iterable[Value], sources: Mapping[Value, Unit]) -> bool:
    """Whether all that the values are made of comes from products that can return floats."""
    stack: list[Value] = list(values)
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        unit = sources.get(value)
        if value in seen:
            continue
        seen.add(value)
        if unit is None:
            return False
        if unit.rule.role != "heavy":
            stack += activations(unit.node)
        elif unit.node.op not in _FLOAT_OUTPUT or hidden_by_activation(unit.node):
            return False
    return True


def _settle_output(placement: Placement, unit: Unit, ranges: Mapping[str, RangeStatistics]) -> None:
    """Make sure that the unit's output can be written; drop the unit where it cannot."""
    node = unit.node
    if placement.needs_integer_output(unit):
        if unit.output.name not in ranges and unit.rule.role != "passthrough":
            del placement.units[node]
            placement.reasons[node] = f"`{unit.output.name}` has no calibrated range"
        return
    placement.units[node] = Unit(node, unit.rule, node.outputs[0])
    if node.op == "MatMul" and becomes_gemm(node):
        # The runtime merges MatMul and Add into a Gemm with float bias, which cannot fuse and
        # dequantizes its weights at every run. For higher ranks the bias is reshaped.
        del placement.units[node]
        placement.reasons[node] = "with its bias it becomes a Gemm that has no integer kernel"
