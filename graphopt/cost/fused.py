"""Float fusions: the nodes behind an operator that the runtime executes together with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis import only_consumer
from graphopt.cost.shapes import elements

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from graphopt.ir import Node, Value

_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"})


def fused_with(node: Node, taken: AbstractSet[Node]) -> tuple[tuple[Node, ...], str]:
    """Return the nodes that are executed with ``node`` as one kernel, and the kernel's name.

    Conv takes a BatchNormalization and constant scalings into its weights, then a residual Add,
    then an activation. MatMul takes a constant bias and becomes Gemm; Gemm takes an activation.
    Nodes in ``taken`` belong to other kernels.
    """
    if node.domain != "":
        return (node,), node.op
    if node.op in {"Conv", "ConvTranspose"}:
        return _convolution(node, taken)
    if node.op in {"MatMul", "Gemm"}:
        return _matrix_product(node, taken)
    return (node,), node.op


def _convolution(node: Node, taken: AbstractSet[Node]) -> tuple[tuple[Node, ...], str]:
    nodes = [node]
    while (follower := _next(nodes[-1], taken)) is not None and _into_weights(follower, nodes[-1]):
        nodes.append(follower)
    if node.op == "ConvTranspose":
        return tuple(nodes), node.op
    name = "Conv"
    follower = _next(nodes[-1], taken)
    if follower is not None and _is_residual(follower, nodes[-1]):
        nodes.append(follower)
        name = "FusedConv"
        follower = _next(nodes[-1], taken)
    if follower is not None and _is_activation(follower):
        nodes.append(follower)
        name = "FusedConv"
    return tuple(nodes), name


def _matrix_product(node: Node, taken: AbstractSet[Node]) -> tuple[tuple[Node, ...], str]:
    nodes, name = [node], node.op
    follower = _next(node, taken)
    if node.op == "MatMul":
        if follower is None or not _adds_vector(follower, node):
            return (node,), name
        nodes.append(follower)
        name = "Gemm"
        follower = _next(follower, taken)
    if follower is not None and _is_activation(follower):
        nodes.append(follower)
        name = "FusedGemm"
    return tuple(nodes), name


def _next(node: Node, taken: AbstractSet[Node]) -> Node | None:
    """Return the one reader of a node's result, if it is free to be fused."""
    reader = only_consumer(node.outputs[0])
    if reader is None or reader in taken or reader.domain != "" or reader.graph is not node.graph:
        return None
    return reader


def _into_weights(node: Node, before: Node) -> bool:
    if node.op == "BatchNormalization":
        return all(v is not None and v.is_constant for v in node.inputs[1:])
    if node.op not in {"Add", "Mul"}:
        return False
    other = _other_operand(node, before)
    shape = other.shape if other is not None and other.is_constant else None
    per_channel = shape is not None and len(shape) >= 3 and shape[-1] == shape[-2] == 1
    return per_channel or (shape is not None and elements(other) == 1)


def _is_residual(node: Node, before: Node) -> bool:
    """Whether an Add joins the convolution with an equally shaped activation."""
    if node.op != "Add":
        return False
    other = _other_operand(node, before)
    if other is None or other.is_constant:
        return False
    return other.shape is not None and other.shape == before.outputs[0].shape


def _is_activation(node: Node) -> bool:
    constant = all(v is None or v.is_constant for v in node.inputs[1:])
    return node.op in _ACTIVATIONS and constant


def _adds_vector(node: Node, before: Node) -> bool:
    other = _other_operand(node, before) if node.op == "Add" else None
    return other is not None and other.is_constant and len(other.shape or ()) == 1


def _other_operand(node: Node, before: Node) -> Value | None:
    """Return the operand of a binary operator that is not the result of ``before``."""
    others = [v for v in node.inputs if v is not None and v is not before.outputs[0]]
    return others[0] if len(others) == 1 else None
