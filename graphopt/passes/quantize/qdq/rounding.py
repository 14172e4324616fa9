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

_BLOCK = 64
"""Features after which what is left over is spread beyond them: one product for all."""


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


def _balance_outputs(steps: Array, rounded: Array, limit: int, *, inward: bool = False) -> None:
    """Bring the sum of errors of each output to half a step; ``inward``: only towards zero."""
    wanted = np.rint((steps - rounded).sum(axis=(1, 2), keepdims=True))
    sign = np.sign(wanted)
    gain = _gain(steps, rounded, sign, limit)
    if inward:
        gain = np.where(rounded * sign < 0, gain, -np.inf)
    best = np.argmax(gain, axis=2)
    value = np.take_along_axis(gain, best[..., None], axis=2)[..., 0]
    order = np.argsort(-value, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(steps.shape[1]).reshape(1, -1), axis=1)
    flip = (rank < np.abs(wanted[:, :, 0])) & np.isfinite(value)
    rows, kernels = np.nonzero(flip)
    rounded[rows, kernels, best[rows, kernels]] += sign[rows, 0, 0]


def separate_pairs(steps: Array, rounded: Array, limit: int) -> Array:
    """Bring |a + b| of any two neighbours of one sign to ``limit``, in place.

    Of a pair that exceeds it, the weight that was rounded away from zero the furthest goes a step
    towards zero; what that does to the sum of errors of its output is made up for by weights that
    may go towards zero as well. Magnitudes only fall, so that no other pair comes to exceed.

    Args:
        steps: float64 [outputs, products], weight / scale, in the order of the runtime's kernel.
        rounded: integers as float64, same shape, at most 127 in magnitude.
        limit: at least 127.

    Returns:
        How many weights were moved for the sake of a pair, per output; int64 [outputs].
    """
    before = rounded.copy()
    for start in (0, 1):
        stop = start + (rounded.shape[1] - start) // 2 * 2
        _shrink(steps[:, start:stop], rounded[:, start:stop], limit)
    moved = np.abs(before - rounded).sum(axis=1).astype(np.int64)
    touched = np.flatnonzero(moved)
    if len(touched):
        rows = rounded[touched][:, None, :]
        _balance_outputs(steps[touched][:, :, None], rows.transpose(0, 2, 1), limit, inward=True)
        rounded[touched] = rows[:, 0, :]
    return np.asarray(moved)


def _shrink(steps: Array, rounded: Array, limit: int) -> None:
    left, right = rounded[:, ::2], rounded[:, 1::2]
    while True:
        total = left + right
        over = np.abs(total) > limit
        if not over.any():
            return
        sign = np.sign(total)
        first = (left - steps[:, ::2]) * sign >= (right - steps[:, 1::2]) * sign
        left -= np.where(over & first, sign, 0.0)
        right -= np.where(over & ~first, sign, 0.0)


def round_learned(steps: Array, moments: Array, limit: int, *, sweeps: int = 1) -> Array:
    """Round weights so that the error of the layer's outputs is small on given inputs.

    Each output minimises d^T H d over the two integers around each weight, where d is the
    difference in steps and H the second moment of the inputs: rounding is decided in order, what
    is left over being spread over the weights still to come (GPTQ), then single weights change
    their mind as long as that makes the error smaller (coordinate descent). It never ends above
    the error of the better of balanced and nearest rounding.

    Sources: Frantar et al. 2022 (GPTQ), arXiv:2210.17323, sec. 3; Nagel et al. 2020 (AdaRound),
    arXiv:2004.10568, sec. 3, for the objective.

    Args:
        steps: float64 [groups, outputs, features], weight / scale.
        moments: float64 [groups, features, features], symmetric, positive definite.
        limit: largest magnitude.
        sweeps: passes of coordinate descent over all features, at most.

    Returns:
        Integers as float64, same shape; each within one step of its weight.
    """
    low = np.clip(np.floor(steps), -limit, limit)
    high = np.clip(np.ceil(steps), -limit, limit)
    balanced = round_balanced(steps.reshape(-1, steps.shape[2], 1), limit).reshape(steps.shape)
    starts = [_spread(steps, moments, low, high)]
    starts += [np.clip(start, low, high) for start in (np.rint(steps), balanced)]
    errors = np.stack([_errors(rounded - steps, moments) for rounded in starts])
    best = np.argmin(errors, axis=0)
    rounded: Array = np.take_along_axis(np.stack(starts), best[None, ..., None], axis=0)[0]
    _descend(steps, moments, rounded, low, high, sweeps)
    return rounded


def _errors(difference: Array, moments: Array) -> Array:
    """Return d^T H d; [groups, outputs]."""
    return np.asarray((np.matmul(difference, moments) * difference).sum(axis=2))


def _spread(steps: Array, moments: Array, low: Array, high: Array) -> Array:
    """Round feature by feature; each error is made up for by the features after it.

    With H = M D M^T, M unit upper triangular, the error is sum_k D_k ((E M)_k)^2, so that
    w_k + sum_{j<k} E_j M_jk is what is rounded. This is GPTQ without its inverse.

    Source: Chee et al. 2023 (QuIP), arXiv:2307.13304, sec. 3 and theorem 6.
    """
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2).sum(axis=0), kind="stable")
    back = order[::-1]
    factor = np.linalg.cholesky(moments[:, back][:, :, back])[:, ::-1, ::-1]
    unit = factor / np.diagonal(factor, axis1=1, axis2=2)[:, None, :]
    work, lows, highs = (a[:, :, order] for a in (steps, low, high))
    errors, rounded = np.zeros_like(work), np.empty_like(work)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        wanted = work[:, :, start:stop]
        if start:
            wanted = wanted + np.matmul(errors[:, :, :start], unit[:, :start, start:stop])
        for j in range(start, stop):
            near = np.matmul(errors[:, :, start:j], unit[:, start:j, j, None])[:, :, 0]
            chosen = np.rint(wanted[:, :, j - start] + near)
            chosen = np.clip(chosen, lows[:, :, j], highs[:, :, j])
            errors[:, :, j] = work[:, :, j] - chosen
            rounded[:, :, order[j]] = chosen
    return rounded


def _descend(
    steps: Array, moments: Array, rounded: Array, low: Array, high: Array, sweeps: int
) -> None:
    """Give one weight after the other the integer that is best beside all others, in place."""
    slope = np.matmul(rounded - steps, moments)
    for _ in range(sweeps):
        changed = False
        for j in range(steps.shape[2]):
            now = rounded[:, :, j]
            wanted = now - slope[:, :, j] / moments[:, None, j, j]
            change = np.clip(np.rint(wanted), low[:, :, j], high[:, :, j]) - now
            groups, outputs = np.nonzero(change)
            if not len(groups):
                continue
            changed = True
            delta = change[groups, outputs]
            rounded[groups, outputs, j] += delta
            slope[groups, outputs] += delta[:, None] * moments[groups, j]
        if not changed:
            return
