"""Quantization and its inverse, with gradients to what is quantized and to its scale.

QuantizeLinear: q = clamp(round(x / s) + z), halves to even; a float tensor that holds integers
where a gradient is wanted, one of the quantized type otherwise. DequantizeLinear: s (q - z).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from graphopt.types import DType
from graphopt_torch.execution.element_types import HELD, declared_type, integer_range
from graphopt_torch.execution.registry import MICROSOFT, operator
from graphopt_torch.execution.rounding import quantized, round_through

if TYPE_CHECKING:
    from graphopt.ir import Node, Value
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor
_NARROW = {torch.float16, torch.bfloat16}


def spread(values: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Return scales or zero points in a shape that goes with ``x``.

    Args:
        values: one number, one for each index of the axis, or one for each block of the axis.
        x: what is quantized.
        axis: of ``x``.
        block: elements of a block; 0 where there are no blocks.
    """
    if values.dim() == 0 or (values.numel() == 1 and x.dim() > 0 and not block):
        return values.reshape(())
    if block:
        return values.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


def quantized_type(node: Node) -> DType | None:
    """Return the integer type of a Q or DQ, or None where it is known at run time only."""
    if node.op == "DequantizeLinear":
        return declared_type(node.inputs[0]) or declared_type(_point(node))
    stated = node.attribute("output_dtype", 0)
    if stated:
        return DType(stated)
    point = _point(node)
    return DType.UINT8 if point is None else declared_type(point) or node.outputs[0].dtype


def _point(node: Node) -> Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _quantize_kernel(node: Node, axis: int) -> Kernel:
    block = node.attribute("block_size", 0)
    kind = quantized_type(node)

    def kernel(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        held = torch.uint8 if zero is None else zero.dtype
        low, high = integer_range(kind, held)
        held = held if kind is None else HELD[kind]
        wide = scale.to(torch.float32) if scale.dtype in _NARROW else scale
        at = axis % x.dim() if x.dim() else 0
        made = quantized(
            x.to(wide.dtype),
            spread(wide, x, at, block),
            None if zero is None else spread(zero, x, at, block),
            low,
            high,
        )
        return made if made.requires_grad else made.to(held)

    return kernel


def dequantized(q: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Return (q - zero) * scale in the type of the scale."""
    kind = torch.float32 if scale.dtype in _NARROW else scale.dtype
    if zero is None:
        steps = q.to(kind)
    elif q.is_floating_point() or q.dtype is torch.int32:
        steps = (q - zero).to(kind)
    else:
        steps = q.to(kind) - zero.to(kind)
    return steps * scale if kind == scale.dtype else (steps * scale.to(kind)).to(scale.dtype)


def _dequantize_kernel(node: Node, axis: int) -> Kernel:
    block = node.attribute("block_size", 0)
    stated = node.attribute("output_dtype", 0)

    def kernel(q: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        at = axis % q.dim() if q.dim() else 0
        point = None if zero is None else spread(zero, q, at, block)
        made = dequantized(q, spread(scale, q, at, block), point)
        return made.to(HELD[DType(stated)]) if stated else made

    return kernel


def _not_integer(node: Node, _version: int) -> str | None:
    stated = node.attribute("output_dtype", 0)
    if stated and DType(stated) not in HELD:
        return f"makes {DType(stated).name.lower()}"
    return None


@operator("QuantizeLinear", since=10, refuse=_not_integer)
def _quantize_linear(node: Node, _version: int) -> Kernel:
    return _quantize_kernel(node, node.attribute("axis", 1))


@operator("DequantizeLinear", since=10, refuse=_not_integer)
def _dequantize_linear(node: Node, _version: int) -> Kernel:
    return _dequantize_kernel(node, node.attribute("axis", 1))


@operator("QuantizeLinear", domain=MICROSOFT)
def _quantize_linear_of_runtime(node: Node, _version: int) -> Kernel:
    return _quantize_kernel(node, node.attribute("axis", 1))


@operator("DequantizeLinear", domain=MICROSOFT)
def _dequantize_linear_of_runtime(node: Node, _version: int) -> Kernel:
    return _dequantize_kernel(node, node.attribute("axis", 1))


@operator("DynamicQuantizeLinear")
def _dynamic_quantize_linear(_node: Node, _version: int) -> Kernel:
    return quantized_by_range


def quantized_by_range(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return uint8 numbers, scale and zero point for the range of what came, zero included."""
    low, high = torch.clamp(x.amin(), max=0), torch.clamp(x.amax(), min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = round_through(torch.clamp(-low / scale, 0, 255))
    made = torch.clamp(round_through(x / scale) + zero, 0, 255)
    if made.requires_grad:
        return made, scale, zero
    return made.to(torch.uint8), scale, zero.to(torch.uint8)
