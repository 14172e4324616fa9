"""Scales and zero points: real = scale * (integer - zero_point).

Source: Jacob et al. 2018, arXiv:1712.05877, sec. 2; Krishnamoorthi 2018, arXiv:1806.08342, sec. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.saturation import (
    PAIR_LIMIT,
    from_reduction_rows,
    reduction_rows,
    scale_needed,
)
from graphopt.passes.quantize.qdq.rounding import round_balanced, round_learned, separate_pairs
from graphopt.types import DType, QuantParams

if TYPE_CHECKING:
    from graphopt.targets.base import QuantizationRules

    Array = np.ndarray[Any, Any]

_DTYPES = {
    "int8": DType.INT8,
    "uint8": DType.UINT8,
    "int16": DType.INT16,
    "uint16": DType.UINT16,
}
_RANGE = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
_SHARES = tuple(1.0 - i / 50 for i in range(16))
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def activation_params(low: float, high: float, rules: QuantizationRules) -> QuantParams:
    """Return the parameters of an activation with values in [low, high]; zero is exact.

    scale = (high - low) / 255, or / 65535 in 16 bits. Tensors that are never negative put zero at
    the lowest integer, so that a Relu before Q changes nothing; with symmetric activations others
    put it at 0.
    """
    kind = rules.activations
    smallest, largest = _RANGE[kind]
    low, high = min(low, 0.0), max(high, 0.0)
    if kind.startswith("int") and rules.symmetric_activations and low < 0.0:
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
    pairs: bool = True,
    output_axis: int | None = None,
) -> QuantParams:
    """Return symmetric parameters of a weight, per slice along ``axis`` (None: one for all).

    s = max|w| / 127, or max|w_i + w_j| / 128 over neighbours where that is more and their products
    are added in 16 bits. A scale is raised where the bias would not fit into 32 bits: bias_integer
    = bias / (s * input_scale).

    Args:
        weight: float, any shape.
        axis: runs over the outputs; None for one scale.
        rules: of the target.
        bias: float64, one per output; None without.
        input_scale: of the activations that are multiplied with the weight.
        search: clip the largest weights where that makes the squared error of all smaller.
        pairs: whether the operator's kernel adds products in pairs; depthwise ones do not.
        output_axis: the outputs where ``axis`` is None; the first axis by default.
    """
    moved = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0)
    rows = np.abs(moved.reshape(moved.shape[0], -1).astype(np.float64))
    scale = rows.max(axis=1, initial=0.0) / 127.0
    lowest = np.zeros_like(scale)
    if pairs and separates_pairs(rules):
        outputs = axis if axis is not None else output_axis or 0
        lowest = scale_needed(reduction_rows(weight, outputs))
        lowest = lowest if axis is not None else lowest.max(initial=0.0, keepdims=True)
        scale = np.maximum(scale, lowest)
    if search:
        scale = _searched(rows, scale, lowest)
    if bias is not None:
        needed = np.abs(np.broadcast_to(bias, scale.shape if axis is not None else bias.shape))
        limit = needed / (input_scale * float(2**30))
        scale = np.maximum(scale, limit if axis is not None else limit.max(initial=0.0))
    stored = np.where(scale > 0, np.maximum(scale, _SMALLEST_SCALE), 1.0).astype(np.float32)
    zeros = (0,) * len(stored)
    return QuantParams(tuple(float(s) for s in stored), zeros, _DTYPES[rules.weights], axis)


def separates_pairs(rules: QuantizationRules) -> bool:
    """Whether the target adds products in 16 bits, so that neighbouring weights must be small."""
    return rules.saturates and rules.activations == "uint8" and rules.weights == "int8"


def coarser_outputs(weight: Array, output_axis: int) -> Array:
    """Return by what factor pairs make the scale of each output larger; float64, at least 1."""
    rows = reduction_rows(weight, output_axis).astype(np.float64)
    usual = np.abs(rows).max(axis=1, initial=0.0) / 127.0
    needed = scale_needed(rows)
    ratio = np.divide(needed, usual, out=np.ones_like(usual), where=usual > 0)
    return np.asarray(np.maximum(ratio, 1.0))


def _searched(rows: Array, scale: Array, lowest: Array) -> Array:
    """Return the scales, from 1 down to 0.7 of the given, with the smallest squared error."""
    safe = np.where(scale > 0, scale, 1.0)
    best = np.full(scale.shape, np.inf)
    found = scale
    for share in _SHARES:
        tried = np.maximum(safe * share, lowest)
        steps = rows / tried[:, None]
        error = np.square(steps - np.minimum(np.rint(steps), 127.0)).sum(axis=1) * tried**2
        # A tie, and a gain that rounding could undo, go to the larger scale.
        better = error < best * (1.0 - 1e-6)
        found = np.where(better & (scale > 0), tried, found)
        best = np.where(better, error, best)
    return found


def quantize(values: Array, params: QuantParams) -> Array:
    """Return constants of activation type as integers: nearest (half to even), saturating."""
    kind = params.dtype.numpy_name
    smallest, largest = _RANGE[kind]
    steps = np.rint(values / params.scale[0]) + params.zero_point[0]
    return np.asarray(np.clip(steps, smallest, largest), dtype=kind)


def quantize_weight(
    weight: Array,
    output_axis: int,
    params: QuantParams,
    moments: Array | None = None,
    *,
    pairs: bool = False,
) -> Array:
    """Return a weight as int8 in [-127, 127], rounded so that errors cancel per output.

    Args:
        weight: float, outputs along ``output_axis``, input channels along the next other axis.
        output_axis: 0 for Conv, 0 or 1 for matrices.
        params: scales per output, or one for all.
        moments: second moments of the inputs, [groups, features, features]: the error of the
            outputs on such inputs is minimised. Without them, sums of errors are.
        pairs: keep the sum of any two neighbours within what 16 bits hold.
    """
    moved = np.moveaxis(weight.astype(np.float64), output_axis, 0)
    rows = moved.reshape(moved.shape[0], moved.shape[1], -1)
    steps = rows / np.array(params.scale).reshape(-1, 1, 1)
    if moments is None:
        rounded = round_balanced(steps, 127)
    else:
        rounded = round_learned(steps.reshape(len(moments), -1, moments.shape[1]), moments, 127)
    rounded = rounded.reshape(moved.shape)
    if pairs:
        rounded = _separated(steps.reshape(moved.shape), rounded)
    return np.ascontiguousarray(np.moveaxis(rounded, 0, output_axis), dtype=np.int8)


def _separated(steps: Array, rounded: Array) -> Array:
    rows = np.ascontiguousarray(reduction_rows(rounded, 0))
    separate_pairs(reduction_rows(steps, 0), rows, PAIR_LIMIT)
    return from_reduction_rows(rows, rounded.shape)


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
