"""Take units out of every tensor that they run through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt import ir
from graphopt.analysis.coupling.couple import rule_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.analysis.coupling import CouplingRule, Cut
    from graphopt.ir import Graph, Value


def remove_units(graph: Graph, cut: Cut, rules: Mapping[str, CouplingRule]) -> None:
    """Shrink a graph in place to what a cut keeps.

    Sizes that attributes and constants hold are rewritten by the rules, then constants are sliced.

    Args:
        graph: the graph that the cut was made for, with its shapes.
        cut: what is kept of each axis.
        rules: those that the coupling was found with.
    """
    if not cut:
        return
    for node in graph.nodes():
        rule = rule_for(node, rules)
        touched = any(cut.touches(value) for value in (*node.inputs, *node.outputs))
        if touched and rule is not None and rule.resize is not None:
            rule.resize(node, cut)
    for value in graph.values():
        if cut.touches(value):
            _shrink(graph, value, cut)


def _shrink(graph: Graph, value: Value, cut: Cut) -> None:
    shape = value.shape or ()
    smaller = tuple(
        shape[i] if cut.keep(value, i) is None else cut.size(value, i) for i in range(len(shape))
    )
    tensor = value.tensor
    if tensor is not None:
        array = tensor.array()
        for position in range(len(shape)):
            kept = cut.kept(value, position)
            if kept is not None:
                array = np.take(array, kept, axis=position)
        sliced = ir.Tensor.from_array(np.ascontiguousarray(array), tensor.dtype)
        if value.producer is not None:
            value.producer.set_attribute("value", sliced)
            for form in set(value.producer.attribute_names) - {"value"}:
                value.producer.set_attribute(form, None)
        else:
            graph.set_tensor(value, sliced)
    value.shape = smaller
