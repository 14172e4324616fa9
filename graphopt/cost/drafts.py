"""Float kernels in the making, and those that matrix products become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis import static_shape
from graphopt.cost.loading import has_open_length
from graphopt.cost.shapes import dims, elements
from graphopt.ir import Node, Value

if TYPE_CHECKING:
    from collections.abc import Callable

_GEMM_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"})


@dataclass
class Draft:
    """One float kernel in the making.

    Args:
        node: the operator that does the work; not of the graph where the runtime changes it.
        nodes: operators of the graph that it covers.
        name: the runtime's operator.
        output: what it makes.
        place: position in the order of execution.
        layout: of what it makes.
        source: layout of the images that it reads.
        activated: whether an activation was taken in.
        joined: whether a residual was taken in.
    """

    node: Node
    nodes: list[Node]
    name: str
    output: Value
    place: float
    layout: str = "plain"
    source: str = "plain"
    activated: bool = False
    joined: bool = False

    def take(self, node: Node, place: float) -> None:
        """Take in the operator that reads the output."""
        self.nodes.append(node)
        self.output = node.outputs[0]
        self.place = place
        self.name = "FusedConv"


@dataclass(frozen=True)
class Surroundings:
    """What decides how a product is fused.

    Args:
        next: the one reader of a node's result, if it is free to be fused.
        known: whether a value is the same in every run.
        fused: whether the runtime fuses as onnxruntime does.
    """

    next: Callable[[Node], Node | None]
    known: Callable[[Value], bool]
    fused: bool


def product_drafts(node: Node, place: float, around: Surroundings) -> list[Draft]:
    """Return the kernels of a MatMul or Gemm with the bias and the activation behind it.

    A product of two axes with a bias becomes Gemm; one of more axes a Gemm between two views.
    """
    after = around.next(node)
    if node.op == "Gemm":
        made = Draft(node, [node], "Gemm", node.outputs[0], place)
    elif after is None or after.op != "Add" or not _adds_row(after, node):
        return [Draft(node, [node], node.op, node.outputs[0], place)]
    elif len(dims(node.inputs[0])) != 2:
        if not around.fused or has_open_length(node):
            return [Draft(node, [node], node.op, node.outputs[0], place)]
        return _reshaped_product(node, after, place)
    else:
        made = Draft(node, [node, after], "Gemm", after.outputs[0], place)
        after = around.next(after)
    if after is not None and around.fused and _activates(after, around):
        made.take(after, place)
        made.name = "FusedGemm"
    return [made]


def _activates(node: Node, around: Surroundings) -> bool:
    constant = all(v is None or around.known(v) for v in node.inputs[1:])
    return node.op in _GEMM_ACTIVATIONS and constant


def _adds_row(node: Node, before: Node) -> bool:
    """Whether an Add becomes the bias of a Gemm."""
    weight, given = dims(before.inputs[1]), dims(before.inputs[0])
    bias = static_shape(other_operand(node, before.outputs[0]))
    if bias is None or len(weight) != 2 or static_shape(before.inputs[0]) is None:
        return False
    if bias == weight[1:]:
        return True
    fits = bias[:1] in {(1,), given[:1]} and bias[1:] in {(1,), weight[1:]}
    return len(given) == 2 and len(bias) == 2 and fits


def _reshaped_product(node: Node, after: Node, place: float) -> list[Draft]:
    first, weight, output = node.inputs[0], node.inputs[1], after.outputs[0]
    length, width = dims(first)[-1], dims(weight)[1]
    rows = elements(first) // max(length, 1)
    flat, wide = Value(node.graph, ""), Value(node.graph, "")
    flat.shape, wide.shape = (rows, length), (rows, width)
    flat.dtype = wide.dtype = first.dtype if first is not None else None
    enter = Node.apart(node, "Reshape", [first], [flat])
    product = Node.apart(node, "Gemm", [first, weight], [wide])
    leave = Node.apart(after, "Reshape", [output], [output])
    return [
        Draft(enter, [], "Reshape", flat, place),
        Draft(product, [node, after], "Gemm", output, place + 0.25),
        Draft(leave, [], "Reshape", output, place + 0.5),
    ]


def other_operand(node: Node, value: Value) -> Value | None:
    """Return the operand of a binary operator that is not ``value``."""
    others = [v for v in node.inputs if v is not None and v is not value]
    return others[0] if len(others) == 1 else None
