"""Running statistics of tensors: noise against a reference, distribution, use of integer codes.

All of them take a stream of arrays, in any order, in memory that does not grow with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_DEAD = 1e-9
"""Share of the mean power below which a channel carries nothing that noise could drown."""
_DB_LIMIT = 100.0
_PER_OCTAVE = 16
_OCTAVES = 60
_SAMPLED = 1 << 16
"""Values of one array that the shape of a distribution is taken from."""


def decibel(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise): infinite without noise, -infinite without signal."""
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0.0 else -math.inf


class Noise:
    """Signal-to-noise ratio of one tensor, over all values and by channel.

    Args:
        axis: the channels' axis; where an array does not have it, there are no channels.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.signal = self.noise = 0.0
        self.axis = axis
        self.broken = False
        self._by_channel: Array | None = None

    def update(self, reference: Array, found: Array) -> None:
        """Take in one pair of arrays; text is left out, another shape makes it -infinite."""
        if reference.dtype.kind in "OSUc":
            return
        if reference.shape != found.shape:
            self.broken = True
            return
        wanted = reference.astype(np.float64)
        usable = np.isfinite(wanted)
        if not usable.all():
            wanted, found = np.where(usable, wanted, 0.0), np.where(usable, found, 0.0)
        error = wanted - found
        self.broken |= not np.isfinite(error).all()
        power = np.stack([_power(wanted, self.axis), _power(error, self.axis)])
        self.signal += float(power[0].sum())
        self.noise += float(power[1].sum())
        self._add(power)

    def _add(self, power: Array) -> None:
        if self._by_channel is None:
            self._by_channel = np.zeros_like(power)
        if self.axis is None or self._by_channel.shape != power.shape:
            self.axis = None
        else:
            self._by_channel += power

    @property
    def snr_db(self) -> float:
        """10 log10(sum reference^2 / sum difference^2) over all values."""
        return -math.inf if self.broken else decibel(self.signal, self.noise)

    @property
    def channel_snr_db(self) -> float:
        """Mean over the channels of their own ratio in dB, each counted as 100 dB at most.

        One loud channel hides in ``snr_db`` that the quiet ones are lost; here it does not.
        """
        if self.broken or self.axis is None or self._by_channel is None:
            return self.snr_db
        signal, noise = self._by_channel
        alive = signal > _DEAD * signal.mean()
        if not alive.any():
            return self.snr_db
        ratios = [decibel(s, n) for s, n in zip(signal[alive], noise[alive], strict=True)]
        return float(np.clip(ratios, -_DB_LIMIT, _DB_LIMIT).mean())


def _power(values: Array, axis: int | None) -> Array:
    """Return the sum of squares, of each channel where there are some."""
    squares = np.square(values)
    if axis is None or not -values.ndim <= axis < values.ndim or values.ndim < 2:
        return np.asarray(squares.sum()).reshape(1)
    channels = axis % values.ndim
    return np.asarray(squares.sum(axis=tuple(i for i in range(values.ndim) if i != channels)))


class Distribution:
    """Range, tails and moments of one tensor.

    The 99.9th percentile of the magnitude comes from a histogram of 16 bins per octave, so it is
    at most 4.4 % too high. Central moments are merged batch by batch.

    Source: Pébay 2008, Sandia report SAND2008-6212, eq. 3.1 (one-pass central moments).
    """

    def __init__(self) -> None:
        self.count = 0
        self.low, self.high = math.inf, -math.inf
        self._moments = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._bins = np.zeros(2 * _OCTAVES * _PER_OCTAVE + 1, dtype=np.int64)

    def update(self, values: Array) -> None:
        """Take in one array; what is not finite is left out."""
        flat = np.asarray(values).ravel()
        flat = flat[np.isfinite(flat)]
        if not flat.size:
            return
        self.count += flat.size
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        some = thinned(flat).astype(np.float64)
        self._moments = _merged(self._moments, _central(some))
        self._bins += _log_histogram(np.abs(some))

    @property
    def peak(self) -> float:
        """Largest magnitude."""
        return max(abs(self.low), abs(self.high)) if self.count else 0.0

    @property
    def kurtosis(self) -> float:
        """Excess kurtosis, m4 / m2^2 - 3: 0 for a normal distribution, large for long tails."""
        count, _, second, _, fourth = self._moments
        return count * fourth / second**2 - 3.0 if second > 0.0 else 0.0

    @property
    def outlier_ratio(self) -> float:
        """Largest magnitude over the 99.9th percentile of magnitudes; 1 without any values."""
        total = int(self._bins.sum())
        if not total or self.peak == 0.0:
            return 1.0
        index = int(np.searchsorted(np.cumsum(self._bins), math.ceil(0.999 * total)))
        edge = 2.0 ** ((index - _OCTAVES * _PER_OCTAVE) / _PER_OCTAVE) if index else 0.0
        return self.peak / min(edge, self.peak) if edge > 0.0 else math.inf


def thinned(flat: Array) -> Array:
    """Return every k-th value, so that no more than 65,536 are left."""
    return flat[:: -(-flat.size // _SAMPLED)] if flat.size > _SAMPLED else flat


def _central(values: Array) -> tuple[float, float, float, float, float]:
    """Return (count, mean, and the sums of the 2nd to 4th power of what differs from it)."""
    mean = float(values.mean())
    off = values - mean
    square = off * off
    return (
        values.size,
        mean,
        float(square.sum()),
        float((square * off).sum()),
        float((square * square).sum()),
    )


def _merged(
    a: tuple[float, float, float, float, float], b: tuple[float, float, float, float, float]
) -> tuple[float, float, float, float, float]:
    if not a[0]:
        return b
    (na, ma, a2, a3, a4), (nb, mb, b2, b3, b4) = a, b
    n, d = na + nb, mb - ma
    second = a2 + b2 + d * d * na * nb / n
    third = a3 + b3 + d**3 * na * nb * (na - nb) / n**2 + 3 * d * (na * b2 - nb * a2) / n
    fourth = (
        a4
        + b4
        + d**4 * na * nb * (na * na - na * nb + nb * nb) / n**3
        + 6 * d * d * (na * na * b2 + nb * nb * a2) / n**2
        + 4 * d * (na * b3 - nb * a3) / n
    )
    return n, ma + d * nb / n, second, third, fourth


def _log_histogram(magnitudes: Array) -> Array:
    """Count magnitudes by sixteenths of an octave; bin 0 takes what is (nearly) zero."""
    half = _OCTAVES * _PER_OCTAVE
    with np.errstate(divide="ignore"):
        bins = np.ceil(np.log2(magnitudes) * _PER_OCTAVE) + half
    return np.bincount(np.clip(bins, 0, 2 * half).astype(np.int64), minlength=2 * half + 1)


@dataclass(frozen=True)
class Codes:
    """The integers of one tensor: real = scale * (code - zero), codes from ``low`` to ``high``."""

    scale: float
    zero: int
    low: int
    high: int

    @property
    def bits(self) -> float:
        """Bits that the codes would need if all were equally likely."""
        return math.log2(self.high - self.low + 1)


class CodeUse:
    """How well the values of one tensor use their integer codes."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes
        self._counts = np.zeros(codes.high - codes.low + 1, dtype=np.int64)
        self._clipped = self._total = 0

    def update(self, values: Array) -> None:
        """Take in one array; what is not finite is left out."""
        some = thinned(np.asarray(values).ravel())
        some = some[np.isfinite(some)].astype(np.float64)
        steps = np.rint(some / self.codes.scale) + self.codes.zero
        low, high = self.codes.low, self.codes.high
        self._clipped += int(((steps < low) | (steps > high)).sum())
        self._total += steps.size
        # Zero is exact, so the many zeros after a Relu waste nothing.
        index = (np.clip(steps[some != 0], low, high) - low).astype(np.int64)
        self._counts += np.bincount(index, minlength=self._counts.size)

    @property
    def clipped(self) -> float:
        """Share of values outside the range that the codes can express, 0 to 1."""
        return self._clipped / self._total if self._total else 0.0

    @property
    def effective_bits(self) -> float:
        """Shannon entropy of the codes of all values but zero: the bits that one carries."""
        return entropy_bits(self._counts)


def entropy_bits(counts: Array) -> float:
    """Return -sum p log2 p of a histogram, in bits."""
    total = counts.sum()
    shares = counts[counts > 0] / total if total else np.ones(1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0
