"""How good a model's outputs are, by a metric on labelled data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.analysis.metrics import are_classes
from graphopt.errors import DataError, GraphOptError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from graphopt.calibration.base import Dataset
    from graphopt.runtime import Session

    Array = np.ndarray[Any, Any]
    Metric = Callable[..., float]

TOP1 = "top1"
_UNITS = {TOP1: "points", "psnr": "dB"}


@dataclass(frozen=True)
class Accuracy:
    """A metric, and the samples that it is taken on.

    Args:
        name: of the metric.
        metric: function(outputs, labels) -> float; larger is better.
        dataset: labelled samples.
        reference: what the original model reaches.
    """

    name: str
    metric: Metric
    dataset: Dataset
    reference: float

    @property
    def unit(self) -> str:
        """What one of it is called; empty where that is not known."""
        return _UNITS.get(self.name, "")

    @property
    def resolution(self) -> float | None:
        """What one sample more or less is worth; None where it is not the same for all."""
        return 100.0 / len(self.dataset) if self.name == TOP1 else None

    def of(self, session: Session) -> float:
        """Return the accuracy of an open model on all samples; keeps its first output of each."""
        return _applied(
            self.name, self.metric, _outputs(session, self.dataset), _labels(self.dataset)
        )


def judged_by(
    name: str | None, metric_of: Callable[[str], Metric], dataset: Dataset | None, original: Session
) -> Accuracy:
    """Return the accuracy of the original, ready to be asked of other models.

    Args:
        name: of the metric; by default top-1 where the labels are class numbers.
        metric_of: looks a metric up by name; raises RecipeError G103.
        dataset: labelled samples.
        original: the model, open.

    Raises:
        DataError: G216, there are no labels, or the metric cannot be taken.
        RecipeError: G103, the metric is unknown, or has to be named.
    """
    if dataset is None or dataset.labels() is None:
        raise DataError(
            "a largest drop is stated, and the data has no labels",
            code="G216",
            where=dataset.origin if dataset is not None else None,
            hint="add an array `labels` to the data, or state --min-snr, which needs none",
        )
    outputs, labels = _outputs(original, dataset), _labels(dataset)
    if name is None and not are_classes(outputs, labels):
        raise RecipeError(
            "a largest drop is stated, and the labels are not the class numbers of the output",
            code="G103",
            hint="name a metric: --set limits.metric=psnr, or that of a plugin",
        )
    metric = metric_of(name or TOP1)
    reference = _applied(name or TOP1, metric, outputs, labels)
    return Accuracy(name or TOP1, metric, dataset, reference)


def _labels(dataset: Dataset) -> Array:
    labels = dataset.labels()
    assert labels is not None
    return labels


def _outputs(session: Session, dataset: Dataset) -> list[Array]:
    first = session.outputs[:1]
    return [session.run(feed, first)[0] for feed in dataset]


def _applied(name: str, metric: Metric, outputs: Sequence[Array], labels: Array) -> float:
    try:
        found = float(metric(outputs, labels))
    except GraphOptError:
        raise
    except Exception as error:
        raise _unusable(name, f"{type(error).__name__}: {error}") from error
    if not math.isfinite(found):
        raise _unusable(name, f"it gave {found}")
    return found


def _unusable(name: str, why: str) -> DataError:
    return DataError(
        f"the metric `{name}` cannot be taken of the first output and the labels: {why}",
        code="G216",
        hint="check the shape of the labels, or choose another metric with limits.metric",
    )
