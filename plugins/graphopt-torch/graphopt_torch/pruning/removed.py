"""Take closed units out of the graph for real, and prove that this changes nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.errors import PassError
from graphopt.passes.prune.narrow import narrowed
from graphopt.passes.prune.removal.oracle import TOLERANCE, disagreement, silence_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from graphopt.analysis.coupling import Coupling
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_PROBES = 2


def removed(
    graph: Graph, coupling: Coupling, keeps: Mapping[str, Array], context: Context
) -> tuple[Graph, float]:
    """Return the graph without the units that do not stay, and how far it is from the closed one.

    Both are compared in onnxruntime, on the probes. Where activations are quantized they are
    compared without their Q and DQ, the weights staying the numbers that their integers mean: a sum
    that is rounded in another order would else fall on the other side of a step of a quantizer.

    Args:
        graph: with its trained weights; not changed.
        coupling: of the graph.
        keeps: which units stay, by group; bool [units].
        context: runs the probes.

    Raises:
        PassError: G309, the two differ by more than 1e-5 of the largest output.
    """
    cut = coupling.cut(keeps)
    made = narrowed(graph, cut, context)
    closed = silence_units(graph, coupling, cut)
    pairs = [without_rounding(each) for each in (closed, made)]
    worst = 0.0
    for feed in context.probes[:_PROBES]:
        expected, found = (context.run(e, feed, [v.name for v in e.outputs]) for e in pairs)
        worst = max(worst, disagreement(expected, found))
    if not worst <= TOLERANCE:
        raise PassError(
            f"what is left differs by {worst:.1e} from the model with closed units",
            code="G309",
            hint="name the layer in `exclude`, and report the model's operators",
        )
    return made, worst


def without_rounding(graph: Graph) -> Graph:
    """Return a copy in which activations pass by their Q and DQ; weights keep theirs."""
    made = graph.copy()
    passed = {node.outputs[0]: _unrounded(node) for node in made.nodes("DequantizeLinear")}
    for value, source in passed.items():
        for reader, place in list(value.uses) if source is not None else []:
            reader.set_input(place, source)
    outputs = [(passed.get(value) or value).name for value in made.outputs]
    return ir.extract(made, [value.name for value in made.feeds], outputs)


def _unrounded(node: Node) -> Value | None:
    """Return what is quantized in front of a DequantizeLinear; None where nothing is."""
    source = node.inputs[0]
    quantizer = source.producer if source is not None else None
    if quantizer is None or quantizer.op != "QuantizeLinear":
        return None
    return quantizer.inputs[0]
