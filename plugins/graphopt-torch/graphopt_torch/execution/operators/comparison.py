"""Comparisons, logic, bits, and the choice between two tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from graphopt_torch.execution.registry import operator, plain

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor

plain(
    {
        "Equal": torch.eq,
        "Less": torch.lt,
        "LessOrEqual": torch.le,
        "Greater": torch.gt,
        "GreaterOrEqual": torch.ge,
        "And": torch.logical_and,
        "Or": torch.logical_or,
        "Xor": torch.logical_xor,
        "Not": torch.logical_not,
        "Where": torch.where,
        "IsNaN": torch.isnan,
        "BitwiseAnd": torch.bitwise_and,
        "BitwiseOr": torch.bitwise_or,
        "BitwiseXor": torch.bitwise_xor,
    }
)


@operator("IsInf")
def _is_infinite(node: Node, _version: int) -> Kernel:
    below, above = node.attribute("detect_negative", 1), node.attribute("detect_positive", 1)

    def kernel(x: Tensor) -> Tensor:
        found = torch.zeros_like(x, dtype=torch.bool)
        if below:
            found |= torch.isneginf(x)
        return found | torch.isposinf(x) if above else found

    return kernel


@operator("BitwiseNot")
def _complement(node: Node, _version: int) -> Kernel:
    """Flip all bits; of unsigned numbers that are held in a wider type, only their own."""
    kind = node.inputs[0].dtype if node.inputs[0] is not None else None
    if kind is None or kind.bits < 16 or not kind.name.startswith("U"):
        return torch.bitwise_not
    own = (1 << min(kind.bits, 63)) - 1
    return lambda x: torch.bitwise_xor(x, own)


@operator("BitShift")
def _shift(node: Node, _version: int) -> Kernel:
    if node.attribute("direction") == "LEFT":
        return torch.bitwise_left_shift
    return torch.bitwise_right_shift
