"""The nodes of a graph as steps that torch can take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from graphopt_torch.execution import registry
from graphopt_torch.execution.operators import blockwise, control, quantization

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from graphopt.ir import Graph, Node
    from graphopt_torch.execution.registry import Kernel, Operator


@dataclass(frozen=True)
class Step:
    """One application of a kernel to named tensors.

    Args:
        kernel: what is computed.
        inputs: names by position; empty where an input is omitted.
        outputs: names by position; empty where nobody wants an output.
        lists: positions of inputs that the kernel takes as Python numbers.
        irregular: the shapes of the outputs depend on values.
        of_shape: only the shape of the input is looked at.
        op: the operator, where plans look at it.
        options: what they have to know about it.
    """

    kernel: Kernel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lists: frozenset[int] = frozenset()
    irregular: bool = False
    of_shape: bool = False
    op: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def steps_of(graph: Graph, device: str = "cpu") -> list[Step]:
    """Return the steps of a graph's nodes, which must all be supported, in order."""
    nodes = [node for node in graph.nodes() if not _is_constant(node)]
    made = [step for node in nodes for step in _steps(node)]
    if device == "cpu":
        return made
    return [replace(s, kernel=_on(s.kernel, device)) if s.op in _FROM_NUMBERS else s for s in made]


_FROM_NUMBERS = {"ConstantOfShape"}
"""Operators that make tensors of numbers only, which say nothing about a device."""


def _on(kernel: Kernel, device: str) -> Kernel:
    return lambda *given: kernel(*given).to(device)


def version_of(node: Node) -> int:
    """Return the version of the operator set that a node's operator is from."""
    root = node.graph.root
    return root.opset if not node.domain else root.opsets.get(node.domain, 1)


def row_of(node: Node) -> Operator | None:
    """Return how a node's operator is computed, or None."""
    return registry.find(node.domain, node.op, version_of(node))


def _is_constant(node: Node) -> bool:
    return node.op == "Constant" and not node.domain


def _steps(node: Node) -> Iterator[Step]:
    row = row_of(node)
    assert row is not None
    inputs = tuple("" if v is None else v.name for v in node.inputs)
    outputs = tuple(v.name for v in node.outputs)
    if node.subgraphs:
        inputs += control.captured(node)
    if blockwise.is_split(node):
        first, inputs = blockwise.split(node, inputs)
        yield Step(*first)
    kernel = row.build(node, version_of(node))
    yield Step(
        kernel,
        inputs,
        outputs,
        frozenset(i for i in row.lists if i < len(inputs) and inputs[i]),
        row.irregular,
        node.op in {"Shape", "Size"} and not node.domain,
        "" if node.domain else node.op,
        _options(node),
    )


_LOOKED_AT = {
    "Clip": ("min", "max"),
    "Gemm": ("alpha", "beta", "transA", "transB"),
    "QuantizeLinear": ("axis", "block_size"),
    "DequantizeLinear": ("axis", "block_size"),
}


def _options(node: Node) -> dict[str, Any]:
    """Return the attributes that plans look at, and of Q and DQ the quantized type."""
    names = _LOOKED_AT.get(node.op, ()) if not node.domain else ()
    made = {n: node.attribute(n) for n in names if n in node.attribute_names}
    if node.op.endswith("QuantizeLinear") or node.op == "DequantizeLinear":
        made["kind"] = quantization.quantized_type(node)
    return made
