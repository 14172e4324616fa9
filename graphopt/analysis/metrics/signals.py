"""Metrics of pictures, sound and other signals against what they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.metrics.base import CAP_DB, Expects, Metric, mean, negative_mean

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def _pair(output: Array, label: Any) -> tuple[Array, Array]:
    """Return output and label as float64 of one shape; raises ValueError where sizes differ."""
    return np.asarray(output, np.float64), np.reshape(np.asarray(label, np.float64), output.shape)


def _decibel(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise), between -100 and 100; NaN stays NaN."""
    if noise == 0.0:
        return CAP_DB
    if signal == 0.0:
        return -CAP_DB
    return float(np.clip(10.0 * np.log10(signal / noise), -CAP_DB, CAP_DB))


def _peak_ratio(output: Array, label: Any) -> tuple[float, float]:
    found, wanted = _pair(output, label)
    peak = 255.0 if np.asarray(label).dtype.kind in "iu" else 1.0
    return _decibel(peak**2, float(np.square(found - wanted).mean())), 1.0


def _powers(output: Array, label: Any) -> tuple[float, float]:
    found, wanted = _pair(output, label)
    return float(np.square(wanted).sum()), float(np.square(wanted - found).sum())


def _power_ratio(sums: Array) -> Array:
    """Return 10 log10(signal / noise) of sums [..., 2], between -100 and 100 dB."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10.0 * np.log10(sums[..., 0] / sums[..., 1])
    found = np.where(sums[..., 1] == 0.0, CAP_DB, found)
    return np.asarray(np.clip(found, -CAP_DB, CAP_DB))


def _scale_invariant(output: Array, label: Any) -> tuple[float, float]:
    found, wanted = (each.ravel() for each in _pair(output, label))
    power = float(wanted @ wanted)
    if power == 0.0:
        raise ValueError("the label is silent, and si-sdr is not defined for silence")
    target = (float(found @ wanted) / power) * wanted
    return _decibel(float(target @ target), float(np.square(found - target).sum())), 1.0


def _squared_error(output: Array, label: Any) -> tuple[float, float]:
    found, wanted = _pair(output, label)
    return float(np.square(found - wanted).mean()), 1.0


psnr = Metric("psnr", "dB", _peak_ratio, mean)
"""Mean over the samples of 10 log10(peak^2 / mean squared error), in dB.

The peak is 255 where labels are integers, and 1 otherwise. A sample without error counts 100 dB.
"""

snr = Metric("snr", "dB", _powers, _power_ratio)
"""10 log10(sum label^2 / sum (label - output)^2) over all samples together, in dB, 100 at most."""

output_snr = Metric("output-snr", "dB", _powers, _power_ratio, Expects.ORIGINAL)
"""10 log10(sum original^2 / sum (original - output)^2) over all samples together, in dB.

100 at most, which is what the original has.
"""

si_sdr = Metric("si-sdr", "dB", _scale_invariant, mean)
"""Mean over the samples of 10 log10(|a y|^2 / |x - a y|^2), a = <x, y> / <y, y>, in dB.

Between -100 and 100; no mean is taken away. Source: Le Roux et al. 2019, SDR - half-baked or well
done?, eq. 3.
"""

negative_mse = Metric("negative-mse", "", _squared_error, negative_mean)
"""Minus the mean over the samples of the mean squared error, so that larger is better."""
