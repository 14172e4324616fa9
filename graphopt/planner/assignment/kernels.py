"""The kernels whose precision is to be chosen: each as it stands in the model of each precision."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.pipeline.layers import Layer, Port, find_layers
from graphopt.planner.assignment.precisions import INT8, giving_only, labels_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Node, Value
    from graphopt.planner.assignment.workbench import Workbench

RETURNS_FLOATS = frozenset({"Gemm", "MatMul"})
"""Integer products that write floats at no cost."""

_PACKED = frozenset({"DynamicQuantizeMatMul", "MatMulNBits"})
_PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True)
class Kernels:
    """What can have which precision.

    Args:
        names: of the kernels, in the order of the float model.
        forms: by precision other than fp32 and by name, what the kernel becomes.
        graphs: by precision, the model in which every kernel that can has it.
    """

    names: tuple[str, ...]
    forms: Mapping[str, Mapping[str, Layer]]
    graphs: Mapping[str, Graph]

    @property
    def labels(self) -> tuple[str, ...]:
        """The precisions, fp32 first."""
        return tuple(self.graphs)

    @property
    def possible(self) -> dict[str, frozenset[str]]:
        """By precision, the names of the kernels that can have it."""
        return {label: frozenset(found) for label, found in self.forms.items()}


def find_kernels(bench: Workbench) -> Kernels:
    """Make the model of every precision, and match its kernels with those of the float model."""
    labels = labels_of(bench.steps)
    graphs = {labels[0]: bench.float}
    forms: dict[str, dict[str, Layer]] = {}
    for label in labels[1:]:
        made = bench.made(giving_only(bench.steps, label))
        found = _static(bench.float, made) if label == INT8 else _packed(bench.float, made)
        if found:
            graphs[label] = made
            forms[label] = {layer.name: layer for layer in found}
    known = {name for found in forms.values() for name in found}
    order = tuple(n.label for n in bench.float.nodes() if n.label in known)
    return Kernels(order, forms, graphs)


def _static(reference: Graph, made: Graph) -> list[Layer]:
    """Return the layers between Q and DQ; products without the pair behind them.

    A product writes floats where no integer kernel reads it, and who reads it quantizes what it
    reads.
    """
    found = []
    for layer in find_layers(reference, made):
        plain = _before_pair(layer.result) if layer.node.op in RETURNS_FLOATS else None
        same = plain is not None and plain.name == layer.reference.name
        found.append(dataclasses.replace(layer, result=plain) if same and plain else layer)
    return found


def _before_pair(value: Value) -> Value | None:
    for op in ("DequantizeLinear", "QuantizeLinear"):
        producer = value.producer
        if producer is None or producer.op != op or producer.inputs[0] is None:
            return None
        value = producer.inputs[0]
    return value


def _packed(reference: Graph, made: Graph) -> list[Layer]:
    """Return the products that became one operator with packed weights."""
    twins = {n.label: n for n in made.nodes() if n.op in _PACKED}
    labels = {n.label for n in made.nodes()}
    found = []
    for node in reference.nodes(*_PRODUCTS):
        twin = twins.get(node.label)
        left = node.inputs[0]
        if twin is None or left is None or twin.inputs[0] is None:
            continue
        output = _output(node, labels)
        port = Port(left.name, None)
        found.append(
            Layer(node, output, twin.outputs[0], (twin,), (twin.inputs[0],), (port,),
                  Port(output.name, None))
        )  # fmt: skip
    return found


def _output(node: Node, left: set[str]) -> Value:
    """Return the value that the packed operator makes: that of the Add which it took, if any."""
    output = node.outputs[0]
    readers = output.consumers
    if len(readers) == 1 and readers[0].op == "Add" and readers[0].label not in left:
        return readers[0].outputs[0]
    return output
