"""Compute once what several nodes compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.analysis import levels
from graphopt.passes.base import PassResult, counted
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Hashable

    from graphopt.ir import Attribute, Graph, Node, Value
    from graphopt.passes.base import Context

_DRAWN = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip
"""Two of these need not return the same."""
_KEPT = frozenset({"Constant", "DequantizeLinear", "Identity", "QuantizeLinear"})
"""Constants are data. Runtimes want a DequantizeLinear for each reader; an Identity has its reason:
an output that must have a name of its own."""
_LARGEST = 1 << 10
"""Constants of more elements are the same only if they are one."""


@dataclass(frozen=True)
class MergeEqualNodes:
    """Merge nodes of one operator with equal attributes and inputs (common subexpressions).

    Constants of up to 1024 elements are equal when their values are. What is drawn at random is
    never equal, operators of other domains may keep a state, and those with inner graphs are not
    looked into. Inner graphs are merged each by itself: what only one branch needs stays in it.
    """

    name: ClassVar[str] = "merge-equal-nodes"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Merge into the first of several, in topological order, so that one sweep suffices."""
        merged = sum(_merge(level) for level in levels(graph))
        if not merged:
            return PassResult(False)
        return PassResult(True, (counted(merged, "equal node", "merged"),), {"nodes": merged})


def _merge(graph: Graph) -> int:
    merged = 0
    seen: dict[Hashable, Node] = {}
    for node in graph.nodes():
        if not _is_repeatable(node):
            continue
        first = seen.setdefault(_key(node), node)
        if first is node or not _may_replace(first, node):
            continue
        for old, new in zip(node.outputs, first.outputs, strict=True):
            if old.name:
                graph.replace_uses(old, new)
        graph.remove(node)
        merged += 1
    return merged


def _is_repeatable(node: Node) -> bool:
    return not (node.domain or node.op in _DRAWN or node.op in _KEPT or node.subgraphs)


def _may_replace(first: Node, node: Node) -> bool:
    """Whether no two graph outputs would have to share a value."""
    pairs = zip(first.outputs, node.outputs, strict=True)
    return not any(old.is_output and new.is_output for new, old in pairs)


def _key(node: Node) -> Hashable:
    """Return what is equal for nodes that compute the same."""
    return (
        node.op,
        tuple(_input(v) for v in node.inputs),
        tuple(bool(v.name) for v in node.outputs),
        tuple(_attribute(a) for _, a in sorted(node.attributes.items())),
    )


def _input(value: Value | None) -> Hashable:
    tensor = value.tensor if value is not None else None
    return value if tensor is None or tensor.size > _LARGEST else tensor.digest()


def _attribute(attribute: Attribute) -> Hashable:
    if attribute.tensors:
        return (attribute.name, *(t.digest() for t in attribute.tensors))
    return attribute.proto.SerializeToString(deterministic=True)
