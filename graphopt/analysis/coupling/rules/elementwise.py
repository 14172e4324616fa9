"""Operators that treat every element by itself, with broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    MICROSOFT,
    broadcast,
    contradiction,
    is_single,
    operand,
    rank,
    result,
    same_axes,
)

if TYPE_CHECKING:
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node

NUMPY_BROADCASTING = 7
"""The first operator set in which operands are broadcast as numpy does it."""

_UNARY = (
    "Abs", "Acos", "Acosh", "Affine", "Asin", "Asinh", "Atan", "Atanh", "BitCast", "BitwiseNot",
    "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg",
    "Not", "ParametricSoftplus", "Reciprocal", "Relu", "Round", "ScaledTanh", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip

_MICROSOFT_UNARY = ("Gelu", "QuickGelu")

_BROADCASTING = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu",
    "Pow", "Sub", "Sum", "SwiGLU", "Where", "Xor",
)  # fmt: skip

_MICROSOFT_BIASED = ("BiasAdd", "BiasGelu", "FastGelu")


def _unary(node: Node, links: Links) -> None:
    """Tie the first input to the output; others are scalars, or say no more than a type."""
    same_axes(links, node, (operand(node, 0), result(node)))
    if node.op == "CastLike":
        for place in range(rank(operand(node, 1))):
            links.ignore(Axis(node.inputs[1], place))  # type: ignore[arg-type]


def _broadcasting(node: Node, links: Links) -> None:
    made = result(node)
    if made is None or _is_old_broadcast(node):
        links.freeze_node(node, f"{node.op} `{node.label}` broadcasts as before operator set 7")
        return
    broadcast(links, node, node.inputs, made)


def _is_old_broadcast(node: Node) -> bool:
    """Whether operands are aligned as they were before numpy's way became the rule."""
    if node.attribute("broadcast", 0) or node.attribute("axis") is not None:
        return True
    if node.op != "PRelu" or node.graph.opset >= NUMPY_BROADCASTING:
        return False
    return not is_single(operand(node, 1))


def _dropout(node: Node, links: Links) -> None:
    old = node.graph.opset < NUMPY_BROADCASTING and not node.attribute("is_test", 0)
    if old or _may_train(node, 2):
        links.freeze_node(node, f"Dropout `{node.label}` may draw random numbers")
        return
    same_axes(links, node, (operand(node, 0), result(node), result(node, 1)))


def _may_train(node: Node, index: int) -> bool:
    """Whether an input that switches training on is not known to be off."""
    switch = operand(node, index)
    return switch is not None and (not switch.is_constant or bool(switch.array().any()))


def _biased(node: Node, links: Links) -> None:
    """A bias, and for BiasAdd a third operand, are added before or after the function."""
    made = result(node)
    if made is None:
        links.freeze_node(node, contradiction(node))
    else:
        broadcast(links, node, node.inputs, made)


def _bias_dropout(node: Node, links: Links) -> None:
    """Couple BiasDropout: data, bias, residual, ratio, training mode."""
    made = result(node)
    if made is None or _may_train(node, 4):
        links.freeze_node(node, f"BiasDropout `{node.label}` may draw random numbers")
        return
    broadcast(links, node, (*node.inputs[:3], result(node, 1)), made)


def _split_gelu(node: Node, links: Links) -> None:
    """Couple BiasSplitGelu: the first half of the last axis times Gelu of the second."""
    source, bias, made = operand(node, 0), operand(node, 1), result(node)
    last = rank(source) - 1
    if source is None or bias is None or made is None or last < 0 or rank(bias) != 1:
        links.freeze_node(node, contradiction(node))
        return
    if not same_axes(links, node, (source, made), but=(last,)):
        return
    wide, narrow = Axis(source, last), Axis(made, last)
    if not narrow.size or wide.size != 2 * narrow.size or Axis(bias, 0).size != wide.size:
        links.freeze_node(node, f"the sizes around BiasSplitGelu `{node.label}` are not known")
        return
    halves = np.tile(np.arange(narrow.size), 2)
    links.tie(wide, Axis(bias, 0))
    links.tie(wide, narrow, of_other=halves)


RULES: tuple[CouplingRule, ...] = (
    *(CouplingRule(op, _unary) for op in _UNARY),
    *(CouplingRule(op, _unary, domain=MICROSOFT) for op in _MICROSOFT_UNARY),
    *(CouplingRule(op, _broadcasting) for op in _BROADCASTING),
    *(CouplingRule(op, _biased, domain=MICROSOFT) for op in _MICROSOFT_BIASED),
    CouplingRule("Dropout", _dropout),
    CouplingRule("BiasDropout", _bias_dropout, domain=MICROSOFT),
    CouplingRule("BiasSplitGelu", _split_gelu, domain=MICROSOFT),
)
