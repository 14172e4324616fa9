"""Steps in the forward direction that gradients pass as if they were not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, smooth: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.clone()

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0] * factor, None


def replaced(smooth: Tensor, exact: Tensor) -> Tensor:
    """Return ``exact``, bit for bit, with the gradient of ``smooth``; both of one shape."""
    made: Tensor = _Replaced.apply(smooth, exact.detach())  # type: ignore[no-untyped-call]
    return made


def with_gradient_times(x: Tensor, factor: Tensor) -> Tensor:
    """Return ``x``, whose gradient is multiplied with ``factor``, of a shape that broadcasts."""
    made: Tensor = _Scaled.apply(x, factor)  # type: ignore[no-untyped-call]
    return made


def rounded(steps: Tensor, low: float, high: float) -> Tensor:
    """Return the nearest integers (half to even) within bounds, as floats.

    The gradient is 1 where low <= steps <= high, and 0 beyond: what was cut off cannot get
    nearer by moving.

    Source: Esser et al. 2020, arXiv:1902.08153, eq. 1 and 5 (the bounds themselves pass here).
    """
    kept = steps.clamp(low, high)
    return replaced(kept, kept.round())
