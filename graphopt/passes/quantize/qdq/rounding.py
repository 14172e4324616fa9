"""Round weights so that their errors cancel instead of adding up.

Rounding each weight to the nearest integer leaves, per output channel, a sum of errors that shifts
every output when the inputs have a mean, as they do after Relu. Choosing which few weights to
round the other way brings the sum over each kernel, then over each output channel, to at most
half a step, at almost no cost in the squared error.

Source: Guo et al. 2022 (SQuant), arXiv:2202.07471, sec. 3; no data needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def round_balanced(steps: Array, limit: int) -> Array:
    """Round weights, given in steps, to integers in [-limit, limit].

    Args:
        steps: float64 [outputs, kernels, elements], weight / scale; an element is one tap of the
            kernel that joins one input channel to one output channel.
        limit: largest magnitude.

    Returns:
        Integers as float64, same shape; each within one step of its weight.
    """
    rounded = np.clip(np.rint(steps), -limit, limit)
    if steps.shape[2] > 1:
        _balance_kernels(steps, rounded, limit)
    _balance_outputs(steps, rounded, limit)
    return rounded


def _gain(steps: Array, rounded: Array, sign: Array, limit: int) -> Array:
    """Return how close each weight is to being rounded ``sign`` further; -inf where it cannot."""
    gain = (steps - rounded) * sign
    blocked = (np.abs(rounded + sign) > limit) | (gain <= 0)
    return np.where(blocked, -np.inf, gain)


def _balance_kernels(steps: Array, rounded: Array, limit: int) -> None:
    wanted = np.rint((steps - rounded).sum(axis=2, keepdims=True))
    sign = np.sign(wanted)
    gain = _gain(steps, rounded, sign, limit)
    order = np.argsort(-gain, axis=2, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(steps.shape[2]).reshape(1, 1, -1), axis=2)
    rounded += np.where((rank < np.abs(wanted)) & np.isfinite(gain), sign, 0.0)


def _balance_outputs(steps: Array, rounded: Array, limit: int) -> None:
    wanted = np.rint((steps - rounded).sum(axis=(1, 2), keepdims=True))
    sign = np.sign(wanted)
    gain = _gain(steps, rounded, sign, limit)
    best = np.argmax(gain, axis=2)
    value = np.take_along_axis(gain, best[..., None], axis=2)[..., 0]
    order = np.argsort(-value, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(steps.shape[1]).reshape(1, -1), axis=1)
    flip = (rank < np.abs(wanted[:, :, 0])) & np.isfinite(value)
    rows, kernels = np.nonzero(flip)
    rounded[rows, kernels, best[rows, kernels]] += sign[rows, 0, 0]
