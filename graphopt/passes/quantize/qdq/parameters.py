"""Scales and zero points: real = scale * (integer - zero_point).

Source: Jacob et al. 2018, arXiv:1712.05877, sec. 2; Krishnamoorthi 2018, arXiv:1806.08342, sec. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.quantize.qdq.rounding import round_balanced, round_learned
from graphopt.types import DType, QuantParams

if TYPE_CHECKING:
    from graphopt.targets.base import QuantizationRules

    Array = np.ndarray[Any, Any]

_DTYPES = {"int8": DType.INT8, "uint8": DType.UINT8}
_RANGE = {"int8": (-128, 127), "uint8": (0, 255)}
_SHARES = tuple(1.0 - i / 50 for i in range(16))
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def activation_params(low: float, high: float, rules: QuantizationRules) -> QuantParams:
    """Return the parameters of an activation with values in [low, high]; zero is exact.

    scale = (high - low) / 255. Tensors that are never negative put zero at the lowest integer, so
    that a Relu before Q changes nothing; with symmetric activations others put it at 0.
    """
    kind = rules.activations
    smallest, largest = _RANGE[kind]
    low, high = min(low, 0.0), max(high, 0.0)
    if kind == "int8" and rules.symmetric_activations and low < 0.0:
        scale = _positive(max(-low, high) / largest)
        return QuantParams((scale,), (0,), _DTYPES[kind])
    scale = _positive((high - low) / (largest - smallest))
    if low == 0.0:
        scale = _not_above(scale, high, largest - smallest)
    zero = round(min(max(smallest - low / scale, smallest), largest))
    return QuantParams((scale,), (zero,), _DTYPES[kind])


def _positive(scale: float) -> float:
    return float(np.float32(max(scale, _SMALLEST_SCALE))) if scale > 0 else 1.0


def _not_above(scale: float, high: float, steps: int) -> float:
    """Keep scale * steps at or below ``high`` in float32, so that a Clip there is redundant."""
    if high <= 0.0:
        return scale
    while np.float32(scale) * np.float32(steps) > np.float32(high) and scale > _SMALLEST_SCALE:
        scale = float(np.nextafter(np.float32(scale), np.float32(0)))
    return scale


def weight_params(
    weight: Array,
    axis: int | None,
    rules: QuantizationRules,
    bias: Array | None,
    input_scale: float,
    *,
    search: bool = False,
) -> QuantParams:
    """Return symmetric parameters of a weight, per slice along ``axis`` (None: one for all).

    s = max|w| / 127, or / 63 where two neighbouring products could saturate 16 bits. A scale is
    raised where the bias would not fit into 32 bits: bias_integer = bias / (s * input_scale).

    Args:
        weight: float, any shape.
        axis: runs over the outputs; None for one scale.
        rules: of the target.
        bias: float64, one per output; None without.
        input_scale: of the activations that are multiplied with the weight.
        search: clip the largest weights where that makes the squared error of all smaller.
    """
    moved = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0)
    rows = np.abs(moved.reshape(moved.shape[0], -1).astype(np.float64))
    peak = rows.max(axis=1, initial=0.0)
    scale = peak / 127.0
    if rules.saturates and rules.activations == "uint8":
        scale = np.where(_can_saturate(rows), peak / 63.0, scale)
    if search:
        scale = scale * _best_shares(rows, scale, np.where(scale > 0, peak, 0.0))
    if bias is not None:
        needed = np.abs(np.broadcast_to(bias, scale.shape if axis is not None else bias.shape))
        limit = needed / (input_scale * float(2**30))
        scale = np.maximum(scale, limit if axis is not None else limit.max(initial=0.0))
    stored = np.where(scale > 0, np.maximum(scale, _SMALLEST_SCALE), 1.0).astype(np.float32)
    zeros = (0,) * len(stored)
    return QuantParams(tuple(float(s) for s in stored), zeros, _DTYPES[rules.weights], axis)


def _best_shares(rows: Array, scale: Array, peak: Array) -> Array:
    """Return the share of each scale, from 1 down to 0.7, with the smallest squared error.

    Integers stay within what the full scale would have given, so that saturation stays ruled out.
    """
    safe = np.where(scale > 0, scale, 1.0)
    limit = np.rint(peak / safe)[:, None]
    best = np.full(scale.shape, np.inf)
    shares = np.ones_like(scale)
    for share in _SHARES:
        steps = rows / (safe * share)[:, None]
        error = np.square(steps - np.minimum(np.rint(steps), limit)).sum(axis=1) * share**2
        # A tie, and a gain that rounding could undo, go to the larger scale.
        better = error < best * (1.0 - 1e-6)
        shares, best = np.where(better, share, shares), np.where(better, error, best)
    return shares


def _can_saturate(rows: Array) -> Array:
    """Whether 255 * (|w_i| + |w_j|) may exceed 2^15 - 1 for some pair at 8 bits, per row.

    Which products are added in 16 bits depends on how the runtime packs the weights, so the two
    largest of a row are taken as the pair, each rounded up: balanced rounding may do so.
    """
    if rows.shape[1] < 2:
        return np.zeros(rows.shape[0], dtype=bool)
    top = np.sort(rows, axis=1)[:, -2:]
    peak = np.maximum(rows.max(axis=1, keepdims=True), _SMALLEST_SCALE)
    # Scales are stored in 32 bits, which may put an integer just above itself.
    steps = np.minimum(np.ceil(top / peak * 127.0 * (1.0 + 1e-6)), 127.0)
    return np.asarray(255.0 * steps.sum(axis=1) > 32767.0)


def quantize(values: Array, params: QuantParams) -> Array:
    """Return constants of activation type as integers: nearest (half to even), saturating."""
    kind = np.uint8 if params.dtype is DType.UINT8 else np.int8
    smallest, largest = _RANGE[np.dtype(kind).name]
    steps = np.rint(values / params.scale[0]) + params.zero_point[0]
    return np.asarray(np.clip(steps, smallest, largest), dtype=kind)


def quantize_weight(
    weight: Array, output_axis: int, params: QuantParams, moments: Array | None = None
) -> Array:
    """Return a weight as int8 in [-127, 127], rounded so that errors cancel per output.

    Args:
        weight: float, outputs along ``output_axis``, input channels along the next other axis.
        output_axis: 0 for Conv, 0 or 1 for matrices.
        params: scales per output, or one for all.
        moments: second moments of the inputs, [groups, features, features]: the error of the
            outputs on such inputs is minimised. Without them, sums of errors are.
    """
    moved = np.moveaxis(weight.astype(np.float64), output_axis, 0)
    rows = moved.reshape(moved.shape[0], moved.shape[1], -1)
    steps = rows / np.array(params.scale).reshape(-1, 1, 1)
    if moments is None:
        rounded = round_balanced(steps, 127)
    else:
        rounded = round_learned(steps.reshape(len(moments), -1, moments.shape[1]), moments, 127)
    return np.ascontiguousarray(
        np.moveaxis(rounded.reshape(moved.shape), 0, output_axis), dtype=np.int8
    )


def mean_error(
    weight: Array, stored: Array, output_axis: int, params: QuantParams, mean: Array
) -> Array:
    """Return by how much rounding the weight shifts the mean of each output; float64 [outputs].

    (scale * integer - weight) . E[x]: what a bias has to make up for (analytic bias correction).

    Source: Nagel et al. 2019, arXiv:1906.04721, sec. 4.2.

    Args:
        weight: float, outputs along ``output_axis``.
        stored: the integers that stand for it.
        output_axis: 0 for Conv, 0 or 1 for matrices.
        params: of the integers.
        mean: of the inputs, [groups, features].
    """
    moved = [np.moveaxis(a.astype(np.float64), output_axis, 0) for a in (weight, stored)]
    outputs = len(moved[0])
    wanted, integers = (a.reshape(outputs, -1) for a in moved)
    error = integers * np.array(params.scale).reshape(-1, 1) - wanted
    per_output = np.repeat(mean, outputs // len(mean), axis=0)
    return np.asarray((error * per_output).sum(axis=1))


def quantize_bias(bias: Array, scale: Array) -> Array:
    """Return ``bias`` as int32 with the scale of the products that it is added to."""
    limit = float(2**31 - 1)
    return np.clip(np.rint(bias / scale.astype(np.float64)), -limit, limit).astype(np.int32)
