"""What the first BatchNormalization says about the inputs: their means, colours and smoothness.

Behind a convolution of the input with kernels W, its mean of output channel o is
    b_o + sum_c m_c sum_k W_ock,
linear in the input's channel means m, and its variance
    sum_{c,d} C_cd sum_{k,l} W_ock R_kl W_odl,
linear in the covariance C of the input's channels, for a correlation R between pixels. R is that of
the power law f^-2a and C has one correlation for all pairs, so a handful of numbers is fitted to as
many equations as there are output channels. Borders are neglected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from graphopt.calibration.synthetic.statistics import Remembered
    from graphopt.ir import Graph, Node

    Array = npt.NDArray[Any]

_EXPONENTS = tuple(np.arange(0.5, 2.76, 0.25))
_CORRELATIONS = (0.0, 0.4, 0.7, 0.85, 0.95)
_STEPS = tuple(np.exp([-0.3, -0.1, -0.03, 0.03, 0.1, 0.3]))
_SWEEPS = 6
_MOST_CHANNELS = 8
_UNEQUAL = 0.05
"""What unequal deviations of channels cost, so that what the kernels cannot tell is left equal."""
_FARTHEST = 3.0
_DEAD = 1e-5
"""Share of the largest variance below which a channel says nothing."""


@dataclass(frozen=True)
class InputModel:
    """What inputs are like.

    Args:
        mean: of each channel.
        covariance: of the channels at one place.
        exponent: amplitudes fall with the frequency f as f^-exponent.
    """

    mean: Array
    covariance: Array
    exponent: float


def fit_input(
    graph: Graph, remembered: tuple[Remembered, ...], size: tuple[int, int]
) -> InputModel | None:
    """Return what the first normalization says about the only input of a model.

    Args:
        graph: with BatchNormalization nodes.
        remembered: their statistics.
        size: (height, width) of the input; a height of 1 where it has one spatial axis.

    Returns:
        the model; None where the first normalization does not follow a dense convolution of the
        input, or there are too many channels.
    """
    source = graph.feeds[0]
    for one in remembered:
        node = one.value.producer
        if one.value is source:
            return InputModel(one.mean, np.diag(one.variance), 1.0)
        if node is not None and node.inputs and node.inputs[0] is source and _is_dense(node):
            return _fit(node, one, size)
    return None


def _is_dense(node: Node) -> bool:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if node.op != "Conv" or node.domain or node.attribute("group", 1) != 1:
        return False
    shape = weight.stored.shape if weight is not None and weight.stored is not None else ()
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    is_known = bias is None or bias.stored is not None
    return is_known and len(shape) in {3, 4} and shape[1] <= _MOST_CHANNELS


def _fit(node: Node, one: Remembered, size: tuple[int, int]) -> InputModel:
    live = one.variance > _DEAD * one.variance.max()
    kernels = _kernels(node)[live]
    bias = _bias(node, len(live))[live]
    mean, variance = one.mean[live] - bias, one.variance[live]
    scale = 1.0 / np.sqrt(variance)
    totals = kernels.sum(axis=(2, 3)) * scale[:, None]
    channels = kernels.shape[1]
    # A small ridge, for means that no kernel sees: edge detectors sum to zero.
    equations = np.concatenate([totals, 1e-2 * np.eye(channels)])
    means = np.linalg.lstsq(equations, np.concatenate([mean * scale, np.zeros(channels)]))[0]
    best: tuple[float, float, Array] | None = None
    for exponent in _EXPONENTS:
        pixels = _pixel_correlation(size, exponent, kernels.shape[2:])
        power = np.einsum("oaij,ijkl,obkl->oab", kernels, pixels, kernels, optimize=True)
        for correlation in _CORRELATIONS if channels > 1 else (0.0,):
            between = correlation + (1.0 - correlation) * np.eye(channels)
            error, deviations = _deviations(power * between, variance)
            if best is None or error < best[0]:
                best = error, exponent, between * np.outer(deviations, deviations)
    assert best is not None
    return InputModel(means, best[2], float(best[1]))


def _kernels(node: Node) -> Array:
    """Return the weights as float64 [outputs, channels, height, width]."""
    weight = node.inputs[1]
    assert weight is not None
    assert weight.stored is not None
    kernels = weight.stored.array().astype(np.float64)
    return kernels[:, :, None, :] if kernels.ndim == 3 else kernels


def _bias(node: Node, outputs: int) -> Array:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or bias.stored is None:
        return np.zeros(outputs)
    return bias.stored.array().astype(np.float64)


def _pixel_correlation(size: tuple[int, int], exponent: float, kernel: tuple[int, ...]) -> Array:
    """Return the correlation between pixels of a window, [height, width, height, width]."""
    # An image smaller than its kernel would meet itself.
    height, width = (max(n, k) for n, k in zip(size, kernel, strict=True))
    rows, columns = np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width
    frequency = np.hypot(rows[:, None], columns[None, :])
    frequency[0, 0] = 1.0
    found = np.fft.ifft2(frequency ** (-2.0 * exponent)).real
    down, right = np.arange(kernel[0]), np.arange(kernel[1])
    apart = (down[:, None] - down[None, :]) % height, (right[:, None] - right[None, :]) % width
    return np.asarray(found[apart[0][:, None, :, None], apart[1][None, :, None, :]] / found[0, 0])


def _deviations(power: Array, variance: Array) -> tuple[float, Array]:
    """Return (error, deviations of the channels) that explain the variances best.

    Args:
        power: by output and pair of channels.
        variance: of each output.
    """

    def apart(deviations: Array) -> Array:
        made = np.einsum("oab,a,b->o", power, deviations, deviations)
        return np.asarray(np.log(np.maximum(made, 1e-12 * variance) / variance))

    def error(deviations: Array) -> float:
        far = np.minimum(np.abs(apart(deviations)), _FARTHEST).mean()
        return float(far + _UNEQUAL * np.log(deviations).std())

    found = np.ones(power.shape[1])
    found *= np.exp(-0.5 * np.median(apart(found)))
    least = error(found)
    for _ in range(_SWEEPS):
        before = least
        for channel in range(len(found)):
            for step in _STEPS:
                tried = found.copy()
                tried[channel] *= step
                reached = error(tried)
                if reached < least:
                    found, least = tried, reached
        if least == before:
            break
    return least, found
