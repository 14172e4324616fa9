"""Which kernels read what which others wrote, over operators that only move or bound data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.planner.assignment.kernels import Kernels
    from graphopt.types import Shape

OUTSIDE = ""
"""The name of everything that is not a kernel with a choice: inputs, outputs, float operators."""

_THROUGH = frozenset(
    {"Clip", "Dropout", "Flatten", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Slice",
     "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip
_LONGEST_WAY = 12


@dataclass(frozen=True)
class Connection:
    """A kernel that reads a tensor, and the kernel that wrote it.

    Args:
        writer: name, or OUTSIDE.
        reader: name, or OUTSIDE.
        tensor: what is read, as the writer made it.
        shape: of that tensor.
        pooling: label of a MaxPool on the way, whose layout and type depend on both ends.
    """

    writer: str
    reader: str
    tensor: str
    shape: Shape
    pooling: str | None = None


def owners_of(kernels: Kernels) -> dict[str, str]:
    """Return the kernel that makes each tensor, by the tensor's name in the float model."""
    found: dict[str, str] = {}
    for forms in kernels.forms.values():
        for name, layer in forms.items():
            found[layer.node.outputs[0].name] = found[layer.reference.name] = name
    return found


def connections(graph: Graph, kernels: Kernels) -> list[Connection]:
    """Return who reads whom, in the order of the float model."""
    owners = owners_of(kernels)
    nodes = {n.label: n for n in graph.nodes()}
    found: dict[Connection, None] = {}
    for name in kernels.names:
        for value in nodes[name].inputs:
            if value is not None and not value.is_constant and value.shape is not None:
                found[_read(value, name, owners)] = None
    read = set(owners.values())
    for name in kernels.names:
        for form in _results(graph, name, kernels):
            if _leaves(form, read, owners) and form.shape is not None:
                found[Connection(name, OUTSIDE, form.name, form.shape)] = None
    return list(found)


def _read(value: Value, reader: str, owners: dict[str, str]) -> Connection:
    assert value.shape is not None
    source, pooling = value, None
    for _ in range(_LONGEST_WAY):
        if source.name in owners:
            shape = source.shape if source.shape is not None else value.shape
            return Connection(owners[source.name], reader, source.name, shape, pooling)
        producer = source.producer
        above = producer.inputs[0] if producer is not None and producer.op in _THROUGH else None
        if above is None or above.is_constant:
            break
        if producer is not None and producer.op == "MaxPool":
            pooling = producer.label
        source = above
    return Connection(OUTSIDE, reader, value.name, value.shape)


def _results(graph: Graph, name: str, kernels: Kernels) -> list[Value]:
    """Return what a kernel makes in the float model: after its activation, where it has one."""
    forms = (f[name].reference.name for f in kernels.forms.values() if name in f)
    return [graph.value(tensor) for tensor in dict.fromkeys(forms)]


def _leaves(value: Value, kernels: set[str], owners: dict[str, str]) -> bool:
    """Whether an operator without a choice, or the caller of the model, reads a tensor."""
    stack, seen = [value], 0
    while stack and seen < _LONGEST_WAY:
        seen += 1
        at = stack.pop()
        if at.is_output:
            return True
        for reader in at.consumers:
            if reader.label in kernels or _belongs(reader, owners):
                continue
            if reader.op not in _THROUGH:
                return True
            stack += reader.outputs
    return False


def _belongs(node: Node, owners: dict[str, str]) -> bool:
    """Whether a node is the bias or activation of a kernel."""
    return bool(node.outputs) and node.outputs[0].name in owners
