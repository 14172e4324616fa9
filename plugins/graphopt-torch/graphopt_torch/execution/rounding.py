"""Rounding to the numbers of a quantized type, with the gradients that training takes through it.

Forwards: q = clamp(round(u) + z), halves to even, with u = x / s or u = a f. Backwards rounding
passes a gradient on as it comes (straight-through; Bengio et al. 2013) and clamp lets it through
inside of the range. Through DequantizeLinear the gradient to the scale is then that of learned step
sizes (Esser et al. 2020, LSQ, equation 3): round(x / s) - x / s inside, the bound outside.
"""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor


class _Rounding(torch.autograd.Function):
    """Round halves to even; the gradient passes as it comes."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def round_through(x: Tensor) -> Tensor:
    """Round halves to even; the gradient passes as it comes (straight-through)."""
    made: Tensor = _Rounding.apply(x) if x.requires_grad else torch.round(x)  # type: ignore[no-untyped-call]
    return made


def _clamped(steps: Tensor, zero: Tensor | None, low: float, high: float) -> Tensor:
    """Return numbers of the range in the memory of ``steps``."""
    steps.round_()
    if zero is not None:
        steps += zero
    return steps.clamp_(low, high)


def _inside(gradient: Tensor, steps: Tensor, zero: Tensor | None, bounds: Any) -> Tensor:
    """Return the gradient where what was rounded lies in the range, and 0 elsewhere."""
    if zero is not None:
        steps = steps + zero
    low, high = bounds
    return torch.ops.aten.hardtanh_backward(gradient, steps, low - 0.5, high + 0.5)  # type: ignore[no-any-return]


def _summed(gradient: Tensor, like: Tensor) -> Tensor:
    return gradient.sum_to_size(like.shape)


class _Quantizing(torch.autograd.Function):
    """clamp(round(x / scale) + zero)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero: Tensor | None, low: float, high: float
    ) -> Tensor:
        ctx.save_for_backward(x, scale, zero)
        ctx.bounds = low, high
        return _clamped(x / scale, zero, low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero = ctx.saved_tensors
        steps = x / scale
        passed = _inside(gradients[0], steps, zero, ctx.bounds)
        of_zero = _summed(passed, zero) if ctx.needs_input_grad[2] else None
        of_scale = -_summed(passed * steps, scale) / scale if ctx.needs_input_grad[1] else None
        of_x = passed / scale if ctx.needs_input_grad[0] else None
        return of_x, of_scale, of_zero, None, None


class _Requantizing(torch.autograd.Function):
    """clamp(round(total * factor) + zero)."""

    @staticmethod
    def forward(
        ctx: Any, total: Tensor, factor: Tensor, zero: Tensor | None, low: float, high: float
    ) -> Tensor:
        ctx.save_for_backward(total, factor, zero)
        ctx.bounds = low, high
        return _clamped(total * factor, zero, low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        total, factor, zero = ctx.saved_tensors
        passed = _inside(gradients[0], total * factor, zero, ctx.bounds)
        of_zero = _summed(passed, zero) if ctx.needs_input_grad[2] else None
        of_factor = _summed(passed * total, factor) if ctx.needs_input_grad[1] else None
        of_total = passed * factor if ctx.needs_input_grad[0] else None
        return of_total, of_factor, of_zero, None, None


def _wants_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def quantized(x: Tensor, scale: Tensor, zero: Tensor | None, low: float, high: float) -> Tensor:
    """Return clamp(round(x / scale) + zero, low, high), a float tensor that holds integers.

    Args:
        x: any shape, in the type of the scale.
        scale: above zero, in a shape that goes with ``x``.
        zero: the zero point, of any type, in a shape that goes with ``x``; None for 0.
        low: least number of the quantized type.
        high: greatest number of it.
    """
    if _wants_gradient(x, scale, zero):
        point = None if zero is None else zero.to(scale.dtype)
        made: Tensor = _Quantizing.apply(x, scale, point, low, high)  # type: ignore[no-untyped-call]
        return made
    return _clamped(x / scale, zero, low, high)


def requantized(
    total: Tensor, factor: Tensor, zero: Tensor | None, low: float, high: float
) -> Tensor:
    """Return clamp(round(total * factor) + zero, low, high), as ``quantized`` does for x / s."""
    if _wants_gradient(total, factor, zero):
        point = None if zero is None else zero.to(factor.dtype)
        made: Tensor = _Requantizing.apply(total, factor, point, low, high)  # type: ignore[no-untyped-call]
        return made
    return _clamped(total * factor, zero, low, high)
