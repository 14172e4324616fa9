"""What makes a weight hard to quantize: outliers, channels of unequal size, too few codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.saturation import pairs_exceed, reduction_rows
from graphopt.analysis.signal import decibel, entropy_bits

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StoredWeight:
    """A weight as integers: real = scale * (integers - zero).

    Args:
        integers: as stored, padding cut off.
        scale: one number, or one per channel along ``axis``.
        zero: of the shape of ``scale``.
        axis: the channels of ``scale``; None for one scale.
    """

    integers: Array
    scale: Array
    zero: Array
    axis: int | None = None

    def values(self) -> Array:
        """Return the numbers that the integers stand for, as float64."""
        if self.axis is None or self.scale.size == 1:
            scale, zero = self.scale.reshape(()), self.zero.reshape(())
        else:
            wide = [1] * self.integers.ndim
            wide[self.axis] = -1
            scale, zero = self.scale.reshape(wide), self.zero.reshape(wide)
        return (self.integers.astype(np.float64) - zero) * scale


@dataclass(frozen=True)
class WeightFacts:
    """One weight in numbers.

    Args:
        peak: largest magnitude.
        outlier_ratio: ``peak`` over the 99.9th percentile of magnitudes.
        kurtosis: excess kurtosis of all weights, m4 / m2^2 - 3.
        channel_spread: largest over median peak of the output channels that are not zero.
        crest: largest ratio, over the output channels, of peak to root mean square.
        snr_db: of the stored integers against the float weight; None where none are stored.
        effective_bits: Shannon entropy of the stored integers, in bits.
        saturating: share of output channels in which the products of two neighbours could exceed
            16 bits, 255 |a + b| > 32767.
    """

    peak: float
    outlier_ratio: float
    kurtosis: float
    channel_spread: float
    crest: float
    snr_db: float | None = None
    effective_bits: float | None = None
    saturating: float = 0.0


def weight_facts(
    weight: Array, output_axis: int, stored: StoredWeight | None, *, pairs: bool = True
) -> WeightFacts:
    """Describe a weight.

    Args:
        weight: in float, rank 2 and more.
        output_axis: axis of the output channels.
        stored: what it was quantized to; of the same shape.
        pairs: whether its kernel adds products in pairs (``adds_pairs``).
    """
    rows = _rows(np.asarray(weight, dtype=np.float64), output_axis)
    magnitudes = np.abs(rows)
    peaks = magnitudes.max(axis=1, initial=0.0)
    peak = float(peaks.max(initial=0.0))
    usual = float(np.quantile(magnitudes, 0.999)) if rows.size else 0.0
    means = np.sqrt(np.square(rows).mean(axis=1)) if rows.size else peaks
    alive = peaks > 0
    return WeightFacts(
        peak=peak,
        outlier_ratio=peak / usual if usual > 0 else 1.0,
        kurtosis=_kurtosis(rows),
        channel_spread=peak / float(np.median(peaks[alive])) if alive.any() else 1.0,
        crest=float((peaks[alive] / means[alive]).max(initial=1.0)),
        snr_db=_stored_snr(weight, stored),
        effective_bits=_entropy(stored),
        saturating=_saturating(stored, output_axis) if pairs else 0.0,
    )


def _rows(weight: Array, axis: int) -> Array:
    moved = np.moveaxis(weight, axis, 0)
    return moved.reshape(moved.shape[0], -1)


def _kurtosis(values: Array) -> float:
    if not values.size:
        return 0.0
    square = np.square(values - values.mean())
    second = square.mean()
    return float(np.square(square).mean() / second**2 - 3.0) if second > 0 else 0.0


def _stored_snr(weight: Array, stored: StoredWeight | None) -> float | None:
    if stored is None:
        return None
    error = weight - stored.values()
    wanted = np.square(weight, dtype=np.float64).sum()
    return decibel(float(wanted), float(np.square(error).sum()))


def _entropy(stored: StoredWeight | None) -> float | None:
    if stored is None:
        return None
    return entropy_bits(np.unique(stored.integers, return_counts=True)[1])


def _saturating(stored: StoredWeight | None, axis: int) -> float:
    """Return the share of channels in which two neighbours could overflow as a pair."""
    if stored is None or stored.integers.dtype != np.int8 or not stored.integers.size:
        return 0.0
    return float(pairs_exceed(reduction_rows(stored.integers, axis)).mean())
