"""Arithmetic on each element."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import torch

from graphopt_torch.execution.registry import operator, plain

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point():
        return torch.div(a, b)
    return torch.div(a, b, rounding_mode="trunc")


def _power(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype == b.dtype:
        return torch.pow(a, b)
    # The result has the type of the base, whatever that of the exponent.
    kind = torch.promote_types(a.dtype, b.dtype)
    return torch.pow(a.to(kind), b.to(kind)).to(a.dtype)


def _mean(*terms: Tensor) -> Tensor:
    return reduce(torch.add, terms) / len(terms)


plain(
    {
        "Add": torch.add,
        "Sub": torch.sub,
        "Mul": torch.mul,
        "Div": _divide,
        "Pow": _power,
        "Neg": torch.neg,
        "Abs": torch.abs,
        "Sign": torch.sign,
        "Exp": torch.exp,
        "Log": torch.log,
        "Sqrt": torch.sqrt,
        "Reciprocal": torch.reciprocal,
        "Floor": torch.floor,
        "Ceil": torch.ceil,
        "Round": torch.round,
        "Erf": torch.erf,
        "Sin": torch.sin,
        "Cos": torch.cos,
        "Tan": torch.tan,
        "Asin": torch.asin,
        "Acos": torch.acos,
        "Atan": torch.atan,
        "Sinh": torch.sinh,
        "Cosh": torch.cosh,
        "Asinh": torch.asinh,
        "Acosh": torch.acosh,
        "Atanh": torch.atanh,
        "Sum": lambda *terms: reduce(torch.add, terms),
        "Mean": _mean,
        "Max": lambda *terms: reduce(torch.maximum, terms),
        "Min": lambda *terms: reduce(torch.minimum, terms),
    }
)


@operator("Mod")
def _mod(node: Node, _version: int) -> Kernel:
    return torch.fmod if node.attribute("fmod", 0) else _remainder


def _remainder(a: Tensor, b: Tensor) -> Tensor:
    """Return the remainder with the sign of the divisor, that of a zero included."""
    made = torch.remainder(a, b)
    return torch.copysign(made, b) if a.is_floating_point() else made


@operator("CumSum", lists=(1,))
def _cumulative_sum(node: Node, _version: int) -> Kernel:
    reverse, exclusive = node.attribute("reverse", 0), node.attribute("exclusive", 0)

    def kernel(x: Tensor, axis: int | list[int]) -> Tensor:
        along = axis[0] if isinstance(axis, list) else axis
        turned = x.flip(along) if reverse else x
        total = torch.cumsum(turned, along, dtype=x.dtype)
        if exclusive:
            total = total - turned
        return total.flip(along) if reverse else total

    return kernel
