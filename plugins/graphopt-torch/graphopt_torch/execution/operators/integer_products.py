"""Products of integers, as quantized models store them.

Sums of products of 8-bit numbers are computed in float64, which holds them all exactly; where a
gradient is wanted, the numbers arrive as floats and the sums stay floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from graphopt_torch.execution.element_types import declared_type, integer_range
from graphopt_torch.execution.operators.convolution import conv
from graphopt_torch.execution.operators.quantization import (
    dequantized,
    quantized_by_range,
)
from graphopt_torch.execution.registry import MICROSOFT, operator
from graphopt_torch.execution.rounding import quantized

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def _shifted(q: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Return q - zero in float64; a zero point for each index goes along ``axis``."""
    wide = q.to(torch.float64)
    if zero is None:
        return wide
    if zero.dim() == 1 and zero.numel() > 1:
        shape = [1] * q.dim()
        shape[axis] = -1
        zero = zero.reshape(shape)
    elif zero.dim() == 1:
        zero = zero.reshape(())
    return wide - zero.to(torch.float64)


def _whole(total: Tensor) -> Tensor:
    """Return sums as int32, or as float32 where a gradient is wanted."""
    return total.to(torch.float32) if total.requires_grad else total.to(torch.int32)


@operator("MatMulInteger", since=10)
def _matmul_integer(_node: Node, _version: int) -> Kernel:
    def kernel(a: Tensor, b: Tensor, za: Tensor | None = None, zb: Tensor | None = None) -> Tensor:
        return _whole(torch.matmul(_shifted(a, za, -2), _shifted(b, zb, -1)))

    return kernel


@operator("ConvInteger", since=10)
def _conv_integer(node: Node, version: int) -> Kernel:
    plain = conv(node, version)

    def kernel(x: Tensor, w: Tensor, zx: Tensor | None = None, zw: Tensor | None = None) -> Tensor:
        return _whole(plain(_shifted(x, zx, 1), _shifted(w, zw, 0)))

    return kernel


def _requantized(node: Node, point: int, values: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    low, high = integer_range(declared_type(node.inputs[point]), zero.dtype)
    made = quantized(values, scale.reshape(()), zero.reshape(()), low, high)
    return made if made.requires_grad else made.to(zero.dtype)


def _by_row(scale: Tensor, rank: int) -> Tensor:
    return scale.reshape(-1, *[1] * (rank - 1)) if scale.dim() else scale


@operator("QLinearConv", since=10)
def _quantized_conv(node: Node, version: int) -> Kernel:
    plain = conv(node, version)

    def kernel(
        x: Tensor,
        sx: Tensor,
        zx: Tensor,
        w: Tensor,
        sw: Tensor,
        zw: Tensor,
        sy: Tensor,
        zy: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        total = plain(_shifted(x, zx, 1), _shifted(w, zw, 0))
        if bias is not None:
            total = total + bias.reshape(1, -1, *[1] * (x.dim() - 2))
        rescale = sx.reshape(()) * _by_row(sw, x.dim() - 1 if sw.dim() else 0)
        return _requantized(node, 7, total.to(torch.float32) * rescale, sy, zy)

    return kernel


@operator("QLinearMatMul", since=10)
def _quantized_matmul(node: Node, _version: int) -> Kernel:
    def kernel(
        a: Tensor,
        sa: Tensor,
        za: Tensor,
        b: Tensor,
        sb: Tensor,
        zb: Tensor,
        sy: Tensor,
        zy: Tensor,
    ) -> Tensor:
        total = torch.matmul(_shifted(a, za, -2), _shifted(b, zb, -1))
        rows = sa.unsqueeze(-1) if sa.dim() == 1 and sa.numel() > 1 else sa
        return _requantized(node, 7, total.to(sa.dtype) * rows * sb, sy, zy)

    return kernel


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
def _matmul_to_float(_node: Node, _version: int) -> Kernel:
    def kernel(
        a: Tensor,
        b: Tensor,
        sa: Tensor,
        sb: Tensor,
        za: Tensor | None = None,
        zb: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        total = torch.matmul(_shifted(a, za, -2), _shifted(b, zb, -1)).to(sa.dtype) * (sa * sb)
        return total if bias is None else total + bias

    return kernel


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
def _dynamic_matmul(_node: Node, _version: int) -> Kernel:
    def kernel(
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        zero: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        q, s, z = quantized_by_range(a)
        total = torch.matmul(_shifted(q, z, -2), _shifted(b, zero, -1)).to(a.dtype) * (s * scale)
        return total if bias is None else total + bias

    return kernel


# -- elementwise, on quantized numbers -------------------------------------------------------


def _two(compute: Callable[[Tensor, Tensor], Tensor]) -> Any:
    def build(node: Node, _version: int) -> Kernel:
        def kernel(
            a: Tensor,
            sa: Tensor,
            za: Tensor | None,
            b: Tensor,
            sb: Tensor,
            zb: Tensor | None,
            sy: Tensor,
            zy: Tensor,
        ) -> Tensor:
            made = compute(dequantized(a, sa, za), dequantized(b, sb, zb))
            return _requantized(node, 7, made, sy, zy)

        return kernel

    return build


operator("QLinearAdd", domain=MICROSOFT)(_two(torch.add))
operator("QLinearMul", domain=MICROSOFT)(_two(torch.mul))
