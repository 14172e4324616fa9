"""One streaming run over the data: the range of every tensor, in memory that does not grow."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graphopt.calibration.base import RangeStatistics
from graphopt.calibration.conform import is_float
from graphopt.calibration.observers import HistogramAccumulator
from graphopt.calibration.together import run_together
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from graphopt.calibration.base import (
        Accumulator,
        Array,
        Dataset,
        HistogramObserver,
        Observer,
    )
    from graphopt.calibration.histogram import StreamingHistogram
    from graphopt.calibration.together import TensorSource

    Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Collected:
    """What one run over the data found.

    Args:
        ranges: the range of each tensor that has one.
        skipped: why a tensor that was asked for has none.
        histograms: the histogram of each tensor that has a range, where the observer used one.
    """

    ranges: dict[str, RangeStatistics]
    skipped: dict[str, str]
    histograms: Mapping[str, StreamingHistogram] = field(
        default_factory=dict, repr=False, compare=False
    )

    def chosen_by(self, observer: HistogramObserver) -> Collected:
        """Return what ``observer`` would have found on the same run.

        Raises:
            ValueError: there are no histograms, or they have another number of bins.
        """
        ranges = {}
        for name, stats in self.ranges.items():
            histogram = self.histograms.get(name)
            if histogram is None or histogram.bins != observer.bins:
                raise ValueError(f"no histogram of {observer.bins} bins for `{name}`")
            low, high = observer.choose(histogram)
            ranges[name] = RangeStatistics(low, high, stats.samples, observer.name)
        return Collected(ranges, self.skipped, self.histograms)


@dataclass
class _Running:
    """The state of one run: an accumulator per tensor."""

    observer: Observer
    accumulators: dict[str, Accumulator] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, values: Array, sample: int) -> None:
        numbers = as_numbers(values)
        if numbers is None:
            self._skip(name, f"holds {values.dtype}, not numbers")
        elif numbers.size:
            accumulator = self.accumulators.get(name)
            if accumulator is None:
                accumulator = self.accumulators[name] = self.observer.start()
            if _takes_in(accumulator, numbers):
                self.samples[name] = self.samples.get(name, 0) + 1
            else:
                kind = "NaN" if np.isnan(numbers).any() else "infinity"
                self._skip(name, f"holds {kind} on sample {sample}")

    def _skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason
        self.accumulators.pop(name, None)
        self.samples.pop(name, None)

    def finish(self, names: Iterable[str]) -> Collected:
        ranges = {}
        for name, accumulator in self.accumulators.items():
            low, high = accumulator.result()
            ranges[name] = RangeStatistics(low, high, self.samples[name], self.observer.name)
        for name in names:
            if name not in ranges and name not in self.skipped:
                self.skipped[name] = "the data never reached it"
        histograms = {
            name: accumulator.histogram
            for name, accumulator in self.accumulators.items()
            if isinstance(accumulator, HistogramAccumulator)
        }
        return Collected(ranges, self.skipped, histograms)


def collect(
    source: TensorSource,
    dataset: Dataset,
    observer: Observer,
    names: Iterable[str],
    *,
    progress: Progress | None = None,
) -> Collected:
    """Run every sample once and return the range of each named tensor.

    Memory is one accumulator per tensor plus what the source holds for one sample, or for two where
    it is ``concurrent``. Shapes may differ from sample to sample. Integers and half floats are
    widened; bool, text and complex tensors have no range. A tensor that takes NaN or infinity on
    some sample (a mask of -inf, say) has no range either: clipping it would change what the model
    computes. Interrupting leaves nothing behind.

    Args:
        source: runs the model; tensors that nobody asked for are ignored.
        dataset: the samples.
        observer: chooses the ranges.
        names: the tensors.
        progress: called with (samples done, samples in all) after each sample.

    Raises:
        DataError: G213, the dataset has no samples; G211 to G214 from reading it.
    """
    wanted = dict.fromkeys(names)
    running = _Running(observer)
    done, total = 0, len(dataset)

    def take(name: str, values: Array, sample: int) -> None:
        if name in wanted and name not in running.skipped:
            running.add(name, values, sample)

    with closing(run_together(source, dataset, take)) as samples:
        for done in samples:
            if progress is not None:
                progress(done, total)
    if done == 0:
        raise DataError(
            "the data has no samples",
            code="G213",
            where=dataset.origin,
            hint="calibration needs at least one sample",
        )
    return running.finish(wanted)


def _takes_in(accumulator: Accumulator, numbers: Array) -> bool:
    """Update with finite numbers; False, with nothing promised, when there is NaN or infinity.

    Accumulators that look at the extremes anyway say so, which spares a pass over the values.
    """
    refuses = getattr(accumulator, "refuses_infinity", False)
    if not refuses and not np.isfinite(numbers).all():
        return False
    try:
        accumulator.update(numbers)
    except ValueError:
        if np.isfinite(numbers).all():
            raise
        return False
    return True


def as_numbers(values: Array) -> Array | None:
    """Return values as float32, or float64 where they need it; None if they are no numbers."""
    dtype = values.dtype
    if dtype == np.float32 or dtype == np.float64:
        return values
    if dtype.kind in "iu":
        return values.astype(np.float32 if dtype.itemsize <= 2 else np.float64)
    if is_float(dtype) and dtype.itemsize <= 2:
        return values.astype(np.float32)
    return None
