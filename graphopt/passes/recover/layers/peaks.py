"""How far each channel of a tensor reaches, and its mean square, from the calibration data.

The largest magnitude of all samples is that of the strangest one; ranges are clipped below it. The
mean over samples of each sample's largest magnitude is what channels are compared by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_SAMPLES = 32
"""Samples that are looked at; how channels compare shows early."""


@dataclass(frozen=True)
class ChannelPeaks:
    """What was seen of each channel.

    Args:
        peak: mean over samples of the largest magnitude; float64 [channels].
        power: mean of the squares; float64 [channels].
        top: the largest magnitude of all; float64 [channels].
    """

    peak: Array
    power: Array
    top: Array


def channel_peaks(
    graph: Graph, context: Context, axes: Mapping[str, int], *, samples: int = _SAMPLES
) -> dict[str, ChannelPeaks]:
    """Return peaks and power of the named tensors, each along its axis, in the first ``samples``.

    A tensor is absent where there is no data, where the data never reached it, where its number of
    channels varies, or where it is not finite.
    """
    sums: dict[str, _Sums] = {name: _Sums(axis) for name, axis in axes.items()}
    if not sums or not context.has_data:
        return {}
    for sample, name, values in context.stream(graph, list(sums)):
        if sample >= samples:
            break
        sums[name].update(values)
    found = {name: s.result() for name, s in sums.items()}
    return {name: result for name, result in found.items() if result is not None}


class _Sums:
    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.peak: Array | None = None
        self.square: Array | None = None
        self.top: Array = np.zeros(0)
        self.count = 0
        self.samples = 0
        self.broken = False

    def update(self, values: Array) -> None:
        if self.broken or not values.size:
            return
        if values.dtype.kind != "f" or not -values.ndim <= self.axis < values.ndim:
            self.broken = True
            return
        rows = np.moveaxis(values, self.axis, 0).reshape(values.shape[self.axis], -1)
        peak = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)
        square = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        if self.peak is None or self.square is None:
            self.peak, self.square = np.zeros_like(peak), np.zeros_like(square)
            self.top = np.zeros_like(peak)
        if peak.shape != self.peak.shape or not np.isfinite(square).all():
            self.broken = True
            return
        self.peak += peak
        self.top = np.maximum(self.top, peak)
        self.samples += 1
        self.square = self.square + square
        self.count += rows.shape[1]

    def result(self) -> ChannelPeaks | None:
        if self.broken or self.peak is None or self.square is None:
            return None
        return ChannelPeaks(self.peak / self.samples, self.square / self.count, self.top)
