"""What calibration produces, and the protocols of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from graphopt.calibration.histogram import StreamingHistogram
    from graphopt.calibration.preprocessing import Preprocessing

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]
    InputSpecs = Mapping[str, "InputSpec"]


@dataclass(frozen=True)
class InputSpec:
    """What a model expects of one input: ``shape`` as declared, ``dtype`` as a numpy name.

    ``bounds`` holds the smallest and the largest size of symbols that have any.
    """

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: str
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class RangeStatistics:
    """The calibrated range of one tensor.

    Args:
        low: smallest value to represent, in the tensor's own unit; ``low <= high``.
        high: largest value to represent.
        samples: how many samples the tensor was seen on.
        observer: name of the observer that chose the range.
    """

    low: float
    high: float
    samples: int
    observer: str


class Accumulator(Protocol):
    """The running statistics of one tensor; memory does not grow with the number of updates."""

    def update(self, values: Array) -> None:
        """Take in one batch of values, any shape, float."""
        ...

    def result(self) -> tuple[float, float]:
        """Return (low, high); raises DataError G213 when nothing was seen."""
        ...


@runtime_checkable
class Observer(Protocol):
    """A way to choose ranges; a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def start(self) -> Accumulator:
        """Return the empty statistics of one tensor."""
        ...


@runtime_checkable
class HistogramObserver(Observer, Protocol):
    """An observer that needs nothing but a histogram, so one run serves all of the same ``bins``.

    ``start`` returns ``graphopt.calibration.observers.HistogramAccumulator(self)``.
    """

    @property
    def bins(self) -> int:
        """Bins of the histogram, a power of two."""
        ...

    def choose(self, histogram: StreamingHistogram) -> tuple[float, float]:
        """Return (low, high) for a histogram that is not empty."""
        ...


class Dataset(Protocol):
    """Samples to run a model on; may be iterated more than once, streams, holds one feed at a time.

    Each feed maps every model input to an array of the input's rank (batch axis included).
    """

    @property
    def digest(self) -> str:
        """Hash of the content, for caches and reports."""
        ...

    @property
    def origin(self) -> str:
        """Where the data comes from, as the user wrote it."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __iter__(self) -> Iterator[Feed]:
        """Yield one feed per sample."""
        ...

    def labels(self) -> Array | None:
        """Return the label of each sample when the data has them."""
        ...


@runtime_checkable
class Reader(Protocol):
    """Turns what the user gave into a dataset, when it recognises it."""

    name: ClassVar[str]

    def accepts(self, source: Path) -> bool:
        """Whether this reader understands the path."""
        ...

    def open(
        self, source: Path, inputs: InputSpecs, preprocessing: Preprocessing | None
    ) -> Dataset:
        """Open the data; raises DataError G211 to G214 naming file, input and sample."""
        ...
