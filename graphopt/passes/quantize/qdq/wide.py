"""16-bit activations: what to quantize with, and what the runtime makes of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from graphopt import ir
from graphopt.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.targets.base import QuantizationRules, Target
    from graphopt.targets.fusion import FusionTable

Activations = Literal["target", "int16", "uint16"]
_OPSET = 21
"""The first in which Q and DQ have 16-bit types."""


def chosen_rules(target: Target, activations: Activations) -> QuantizationRules:
    """Return the rules of the target, with the activations that the recipe asks for."""
    if activations == "target":
        return target.quantization
    return dataclasses.replace(target.quantization, activations=activations)


def without_kernel(rules: QuantizationRules, table: FusionTable) -> str | None:
    """Return why no activation of this type is computed in integer; None where they are."""
    if rules.activations in table.activations:
        return None
    return f"{table.name} has no kernel that computes {rules.activations} activations in integer"


def with_wide_types(graph: Graph) -> Graph | str:
    """Return a copy of ``graph`` in an opset with 16-bit Q and DQ, or why there is none."""
    if graph.nodes("QuantizeLinear", "DequantizeLinear"):
        return "the model is quantized already"
    copy = graph.copy()
    try:
        ir.upgrade_opset(copy, _OPSET)
    except ModelError as error:
        return f"16-bit Q and DQ need opset {_OPSET}: {error.message}"
    ir.infer_shapes(copy)
    return copy


def explain_simulation(
    nodes: Iterable[Node], rules: QuantizationRules, table: FusionTable, context: Context
) -> str | None:
    """Say at each operator between Q and DQ that it runs in float, where it does; return why."""
    reason = without_kernel(rules, table)
    if reason is not None:
        for node in nodes:
            context.explain(node, f"in float between 16-bit Q and DQ, as a simulation: {reason}")
    return reason
