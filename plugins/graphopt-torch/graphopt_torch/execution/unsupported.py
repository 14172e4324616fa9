"""Names what torch cannot execute here, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.errors import ModelError
from graphopt_torch.execution import operators as _operators  # fills the table
from graphopt_torch.execution.element_types import declared_type, is_held
from graphopt_torch.execution.steps import row_of, version_of

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node

assert _operators

_MOST_NAMED = 8


def unsupported(graph: Graph) -> list[Node]:
    """Return the nodes that cannot be executed, in order, those of inner graphs included."""
    return [node for node in graph.walk() if reason(node) is not None]


def reason(node: Node) -> str | None:
    """Return why a node cannot be executed, or None."""
    if node.op == "Constant" and not node.domain:
        return None if node.constant_tensor() is not None else "holds no dense numbers"
    row = row_of(node)
    if row is None:
        return "is an operator that is not in the table"
    kinds = [declared_type(v) for v in (*node.inputs, *node.outputs) if v is not None]
    for kind in kinds:
        if kind is not None and not is_held(kind):
            return f"has tensors of type {kind.name.lower()}"
    return row.refuse(node, version_of(node)) if row.refuse is not None else None


def demand_supported(graph: Graph) -> None:
    """Raise ModelError G207 that names every operator and node that cannot be executed."""
    found = [(node, why) for node in graph.walk() if (why := reason(node)) is not None]
    if not found:
        return
    kinds = sorted({f"{n.domain}.{n.op}" if n.domain else n.op for n, _ in found})
    named = [f"`{n.label}` ({n.op}) {why}" for n, why in found[:_MOST_NAMED]]
    if len(found) > _MOST_NAMED:
        named.append(f"and {len(found) - _MOST_NAMED} more nodes")
    raise ModelError(
        f"the model cannot be trained, because torch cannot execute {', '.join(kinds)} here: "
        + "; ".join(named),
        code="G207",
        where=graph.name,
        hint="train a model without these operators, or leave recovery by training out",
    )
