"""The arithmetic of onnxruntime's integer kernels that add, multiply and average, with gradients.

A network of integers amplifies every deviation: an activation that is off by one step moves
hundreds of sums behind it, and some of these round to another integer. Simulated and executed
outputs therefore only agree if every kernel rounds where, and as, the runtime does. In 32-bit
floats, with s and z for scales and zero points of the inputs x and w (a and b) and of the output y,
halves rounded to even (onnxruntime 1.31.1 on x86-64; benchmarks/qat_exactness.py compares the two):

- products that return floats (QGemm): exact sum of (x - zx)(w - zw) and the bias, times (sx sw);
- QLinearAdd: fma(a, sa / sy, fma(b, sb / sy, zy - fma(sa / sy, za, (sb / sy) zb))), rounded;
- QLinearMul: exact (a - za)(b - zb) times ((sa sb) / sy), zy added, rounded;
- QLinearAveragePool: sx (x - zx) added up row by row, divided by their number, by sy, zy added,
  rounded.

Gradients are those of the same formulas without rounding, and 0 where the result was cut off. The
kernels for Arm round QLinearAdd and QLinearGlobalAveragePool otherwise (fixed point). Products and
means that are rounded are in ``integer_steps``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from graphopt_torch.execution.operators.windows import Pads
from graphopt_torch.execution.registry import operator
from graphopt_torch.execution.straight_through import replaced, rounded

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor

DOMAIN = "graphopt.executed"
"""Operators of this domain are in no file: graphs that are simulated have them."""


def _limits(node: Node) -> tuple[float, float]:
    return float(node.attribute("low")), float(node.attribute("high"))


def _whole(sums: Tensor) -> Tensor:
    """Return sums of integers without what the order of 32-bit additions may have left of them."""
    return replaced(sums, sums.round())


def _shifted(x: Tensor, zero: Tensor) -> Tensor:
    """Return x - zero as floats; the zero point may be one per row of a weight, but is 0 then."""
    moved = x.float()
    if zero.numel() > 1:
        zero = zero.reshape([-1, *[1] * (x.dim() - 1)]) if bool(zero.any()) else zero.new_zeros(())
    return moved - zero.reshape(zero.shape if zero.numel() > 1 else ()).float()


def _along(scale: Tensor, rank: int, axis: int) -> Tensor:
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape([-1 if i == axis else 1 for i in range(rank)])


def _product(node: Node, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    matrix = w.transpose(-1, -2) if node.attribute("transB", 0) else w
    sums: Tensor = torch.matmul(x, matrix)
    return _whole(sums if bias is None else sums + bias.float())


@operator("QGemm", domain=DOMAIN)
def _gemm(node: Node, _version: int) -> Kernel:
    def kernel(
        x: Tensor, sx: Tensor, zx: Tensor, w: Tensor, sw: Tensor, zw: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        sums = _product(node, _shifted(x, zx), _shifted_matrix(w, zw, node), bias)
        factor = sx.reshape(()) * sw
        made: Tensor = sums * _along(factor, sums.dim(), sums.dim() - 1)
        return made

    return kernel


def _shifted_matrix(w: Tensor, zero: Tensor, node: Node) -> Tensor:
    if zero.numel() > 1 and not node.attribute("transB", 0):
        return w.float() - zero.float()
    return _shifted(w, zero)


def _added_exactly(a: Tensor, b: Tensor, ratios: tuple[Tensor, ...], points: Any) -> Tensor:
    """Return the sum with fused multiplications and additions, each rounded to 32 bits once."""
    one, two = ratios
    za, zb, zy = points
    inner = (one.double() * za + (two * zb).double()).float()
    fixed = (zy - inner).double()
    first = (b.double() * two.double() + fixed).float()
    made: Tensor = (a.double() * one.double() + first.double()).float()
    return made


@operator("QLinearAdd", domain=DOMAIN)
def _add(node: Node, _version: int) -> Kernel:
    low, high = _limits(node)

    def kernel(
        a: Tensor, sa: Tensor, za: Tensor, b: Tensor, sb: Tensor, zb: Tensor,
        sy: Tensor, zy: Tensor,
    ) -> Tensor:  # fmt: skip
        ratios = (sa.reshape(()) / sy.reshape(()), sb.reshape(()) / sy.reshape(()))
        points = tuple(z.reshape(()).float() for z in (za, zb, zy))
        a, b = a.float(), b.float()
        smooth = (a - points[0]) * ratios[0] + (b - points[1]) * ratios[1] + points[2]
        with torch.no_grad():
            exact = _added_exactly(a, b, ratios, points).round().clamp(low, high)
        return replaced(smooth.clamp(low, high), exact)

    return kernel


@operator("QLinearMul", domain=DOMAIN)
def _mul(node: Node, _version: int) -> Kernel:
    low, high = _limits(node)

    def kernel(
        a: Tensor, sa: Tensor, za: Tensor, b: Tensor, sb: Tensor, zb: Tensor,
        sy: Tensor, zy: Tensor,
    ) -> Tensor:  # fmt: skip
        product = _shifted(a, za.reshape(())) * _shifted(b, zb.reshape(()))
        ratio = sa.reshape(()) * sb.reshape(()) / sy.reshape(())
        return rounded(product * ratio + zy.reshape(()).float(), low, high)

    return kernel


@operator("QLinearAveragePool", domain=DOMAIN)
def _average_pool(node: Node, _version: int) -> Kernel:
    low, high = _limits(node)
    window = tuple(node.attribute("kernel_shape"))
    strides = tuple(node.attribute("strides") or [1] * len(window))
    pads, counted = Pads.of(node), bool(node.attribute("count_include_pad", 0))

    def kernel(x: Tensor, sx: Tensor, zx: Tensor, sy: Tensor, zy: Tensor) -> Tensor:
        numbers = _shifted(x, zx.reshape(())) * sx.reshape(())
        around = pads.around(x.shape[2:], window, strides, [1] * len(window))
        sides = [p for pair in reversed(around) for p in pair]
        sums = _window_sums(functional.pad(numbers, sides), window, strides)
        ones = torch.ones_like(numbers[:1, :1])
        padded = functional.pad(ones, sides, value=float(counted))
        mean = sums / _window_sums(padded, window, strides)
        return rounded(mean / sy.reshape(()) + zy.reshape(()).float(), low, high)

    return kernel


def _window_sums(x: Tensor, window: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """Add up the numbers of each window in the order of rows, one after the other."""
    parts = x
    for axis, (size, step) in enumerate(zip(window, strides, strict=True)):
        parts = parts.unfold(axis + 2, size, step)
    flat = parts.flatten(-len(window))
    total: Tensor = flat[..., 0]
    for place in range(1, flat.shape[-1]):
        total = total + flat[..., place]
    return total
