"""What a metric is: numbers that each sample adds, and a value made of their sums."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Array = np.ndarray[Any, Any]

POINTS = "points"
"""Unit of shares, in percent."""
CAP_DB = 100.0
"""What a sample without any error counts, in dB."""


class Expects(Enum):
    """What outputs are compared with."""

    LABELS = "labels"
    """The label of the sample."""
    NEXT = "next tokens"
    """The label of the sample where there are labels, or else the input ids moved by one."""
    ORIGINAL = "the original's output"
    """What the original model gives; no labels are needed."""


@dataclass(frozen=True)
class Metric:
    """A metric that is made of sums over the samples.

    Args:
        name: as recipes spell it.
        unit: "points" for shares in percent, "dB", "nats"; empty without one.
        numbers: function(output, expected) of one sample; returns k numbers that are added up.
        value: function(sums [..., k]) -> [...]; larger is better.
        expects: what ``expected`` is.
        share: the numbers are (right, all), and the value is 100 * right / all.
        keep: what of an output of the original is kept to compare with, as small as can be; None
            for all of it. Only where the original's output is expected.
    """

    name: str
    unit: str
    numbers: Callable[[Array, Any], Sequence[float]]
    value: Callable[[Array], Array]
    expects: Expects = Expects.LABELS
    share: bool = False
    keep: Callable[[Array], Array] | None = None

    def __call__(self, outputs: Sequence[Array], expected: Sequence[Any] | Array) -> float:
        """Return the value over all samples.

        Args:
            outputs: the first output of the model for each sample, with its batch axis.
            expected: one entry per sample: its label, or the original's output.
        """
        rows = [self.numbers(o, self.kept(e)) for o, e in zip(outputs, expected, strict=True)]
        return float(self.value(np.sum(np.asarray(rows, np.float64), axis=0)))

    def kept(self, expected: Any) -> Any:
        """Return what is kept of an output of the original; labels are kept as they are."""
        return expected if self.keep is None else self.keep(np.asarray(expected))


@dataclass(frozen=True)
class WholeMetric:
    """A metric that can only be taken of all samples at once, so that all outputs are held.

    Args:
        name: as recipes spell it.
        function: function(outputs, expected) -> float; larger is better. ``outputs`` is a list of
            the first output of each sample with its batch axis, ``expected`` one entry for each.
        unit: what one of it is called; empty where that is not known.
        expects: what ``expected`` is.
    """

    name: str
    function: Callable[..., float]
    unit: str = ""
    expects: Expects = Expects.LABELS

    def __call__(self, outputs: Sequence[Array], expected: Sequence[Any] | Array) -> float:
        """Return the value over all samples."""
        return float(self.function(outputs, expected))


AnyMetric = Metric | WholeMetric


def as_metric(name: str, given: Callable[..., float]) -> AnyMetric:
    """Return a metric as it is; a plain function(outputs, labels) -> float is taken as a whole."""
    return given if isinstance(given, Metric | WholeMetric) else WholeMetric(name, given)


def per_sample(
    name: str,
    function: Callable[[Array, Any], float],
    unit: str = "",
    expects: Expects = Expects.LABELS,
) -> Metric:
    """Return the metric that is the mean of function(output, expected) over the samples."""
    return Metric(name, unit, partial(_one, function), mean, expects)


def _one(
    function: Callable[[Array, Any], float], output: Array, expected: Any
) -> tuple[float, float]:
    return float(function(output, expected)), 1.0


def mean(sums: Array) -> Array:
    """Return sums[0] / sums[1] along the last axis; NaN of nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def percent(sums: Array) -> Array:
    """Return 100 sums[0] / sums[1] along the last axis; NaN of nothing."""
    return 100.0 * mean(sums)


def negative_mean(sums: Array) -> Array:
    """Return minus sums[0] / sums[1] along the last axis; NaN of nothing."""
    return -mean(sums)
