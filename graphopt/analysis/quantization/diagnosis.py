"""Everything that is known to be wrong with a quantized graph on a target, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.quantization.hazards import (
    dynamic_findings,
    hazard_findings,
    saturating_outputs,
    scale_findings,
)
from graphopt.analysis.quantization.leftovers import leftover_findings
from graphopt.analysis.quantization.members import member_findings
from graphopt.analysis.quantization.operators import HEAVY
from graphopt.analysis.quantization.pairs import dequantizer, is_dequantize, is_quantize
from graphopt.analysis.quantization.products import product_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.analysis.quantization.findings import Finding
    from graphopt.analysis.quantization.operators import Rules
    from graphopt.ir import Graph, Node


def diagnose(graph: Graph, rules: Rules) -> tuple[Finding, ...]:
    """Return the findings of ``graph`` in the order of its nodes, each once.

    Args:
        graph: with types inferred as far as they can be; bodies of If and Loop are looked at too.
        rules: what the target executes in integer.
    """
    found: dict[Finding, None] = {}
    for node in graph.walk():
        if all(v is not None or i > 1 for i, v in enumerate(node.inputs)):
            found |= dict.fromkeys(_of_node(node, rules))
    found |= dict.fromkeys(dynamic_findings(graph))
    return tuple(found)


def _of_node(node: Node, rules: Rules) -> Iterator[Finding]:
    if is_quantize(node) or is_dequantize(node):
        yield from scale_findings(node)
        return
    if not node.outputs:
        return
    role = rules.role(node)
    if node.op in HEAVY and node.domain == "" and len(node.inputs) > 1:
        yield from product_findings(node, rules)
    elif role in {"elementwise", "passthrough"}:
        yield from member_findings(node, role, rules)
    yield from leftover_findings(node, rules)
    yield from hazard_findings(node, rules)


def is_quantized_product(node: Node) -> bool:
    """Whether the weight, or second operand, of a product comes through a DQ."""
    return len(node.inputs) > 1 and dequantizer(node.inputs[1]) is not None


def products_at_risk(graph: Graph) -> int:
    """Return how many products could saturate on a CPU that adds pairs in 16 bits."""
    return sum(1 for n in graph.walk() if (saturating_outputs(n) or (0, 0))[0])
