"""The accuracy guard: how much of its accuracy a model may lose, and how much it did."""

from __future__ import annotations

import dataclasses
import itertools
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.metrics import Metric, WholeMetric, as_metric
from graphopt.calibration.dataset import Subset
from graphopt.errors import DataError, GraphOptError
from graphopt.pipeline.validation.choice import chosen_metric, name_of, with_what_it_needs
from graphopt.pipeline.validation.expected import Expected
from graphopt.pipeline.validation.guarantee import guarantee
from graphopt.pipeline.validation.originals import OriginalOutputs
from graphopt.pipeline.validation.samples import shuffled
from graphopt.pipeline.validation.scoring import (
    Score,
    record_of,
    summed_score,
    whole_numbers,
    whole_score,
)
from graphopt.recipe.drop import Drop, parse_drop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from graphopt.analysis.metrics import AnyMetric
    from graphopt.calibration.base import Dataset
    from graphopt.pipeline.validation.samples import Validation
    from graphopt.recipe import Limits
    from graphopt.registry import Registry
    from graphopt.report import ScoreRecord
    from graphopt.runtime import Session

    Array = np.ndarray[Any, Any]
    Lookup = Callable[[str], Callable[..., float]]

_LOOKED_AT = 8
"""Samples that the metric is chosen by."""


@dataclass(frozen=True, eq=False)
class GuardState:
    """A guard as data, for another process: which samples, which metric, what the original has.

    A dataset of files is a path; arrays in memory travel as they are. ``metric`` is the name, or
    the metric itself where it has none that could be looked up.
    """

    dataset: Dataset
    order: Array
    metric: str | AnyMetric
    drop: Drop | None
    seed: int
    calibration_samples: int
    dropped: int
    kept: dict[int, Array]
    numbers: dict[int, Array]

    def open(self, registry: Registry, original: Callable[[], Session] | None = None) -> Guard:
        """Return the guard; no model is run.

        Args:
            registry: finds the metric by name.
            original: opens the original, once: needed only for metrics that compare with whole
                outputs of it (kl, cosine, spearman), and for those that take all samples at once
                when they are asked for another number of samples.
        """
        given = self.metric
        metric = as_metric(given, registry.metric(given)) if isinstance(given, str) else given
        opened = None if original is None else cache(original)
        expected = Expected(metric, self.dataset.labels(), OriginalOutputs(opened), dict(self.kept))
        return Guard(self, metric, expected, opened)


@dataclass(eq=False)
class Guard:
    """Judges models on validation samples against the original; ``open_guard`` makes one.

    Args:
        about: the samples, their order, and what the original has.
        metric: larger is better.
        expected: what outputs are compared with.
        original: gives the original, open.
    """

    about: GuardState
    metric: AnyMetric
    expected: Expected
    _original: Callable[[], Session] | None = field(default=None, repr=False)

    @property
    def total(self) -> int:
        """How many validation samples there are."""
        return len(self.about.order)

    @property
    def calibration_samples(self) -> int:
        """How many other samples were calibrated on or fitted to."""
        return self.about.calibration_samples

    @property
    def original(self) -> Score:
        """The score of the original on all samples."""
        found = self.judge(self.about.numbers[self.total])
        same = dataclasses.replace(found.record, drop=0.0, drop_low=0.0, drop_high=0.0)
        return Score(same, found.numbers)

    @property
    def allowed(self) -> float:
        """Largest drop, in the unit of the metric; infinite where none was stated."""
        if self.about.drop is None:
            return math.inf
        value = self._value(self.about.numbers[self.total])
        return self.about.drop.allowed(self.metric.unit, value, self.metric.name)

    @property
    def resolution(self) -> float | None:
        """What one sample more or less is worth in points; None where that is not the same."""
        numbers = self.about.numbers[self.total]
        if not isinstance(self.metric, Metric) or not self.metric.share:
            return None
        return 100.0 / self.total if (numbers[:, 1] == 1).all() else None

    def score(
        self, session: Session, count: int | None = None, after: Score | None = None
    ) -> Score:
        """Run an open model on validation samples; only the first output of each is looked at.

        Args:
            session: the model.
            count: how many samples, from the first of the shuffled order on, so that fewer are
                always among more; all when None.
            after: the score of the same model on fewer samples: only the others are run.
        """
        wanted = self.total if count is None else max(1, min(count, self.total))
        if isinstance(self.metric, WholeMetric):
            return self.judge(self._whole(session, wanted))
        done = after.numbers[:wanted] if after is not None else None
        if done is None:
            return self.judge(self._numbers(session, 0, wanted))
        if len(done) == wanted:
            return self.judge(done)
        return self.judge(np.concatenate([done, self._numbers(session, len(done), wanted)]))

    def judge(self, numbers: Array) -> Score:
        """Return the score that stored numbers make: the same as when they were taken."""
        if isinstance(self.metric, WholeMetric):
            original = self._whole_of_original(int(numbers[0]))
            return Score(whole_score(self.metric, numbers, original), numbers)
        original = self.about.numbers[self.total][: len(numbers)]
        return Score(summed_score(self.metric, numbers, original, self.about.seed), numbers)

    def holds(self, score: Score | ScoreRecord) -> bool:
        """Whether the drop that was measured is allowed."""
        drop = record_of(score).drop
        return math.isfinite(drop) and drop <= self.allowed + _rounding(self.allowed)

    def certain(self, score: Score | ScoreRecord) -> bool:
        """Whether the whole 95 % interval of the drop is allowed."""
        return self.holds(score) and record_of(score).drop_high <= self.allowed

    def hopeless(self, score: Score | ScoreRecord) -> bool:
        """Whether the whole 95 % interval of the drop is beyond what is allowed."""
        found = record_of(score)
        return not math.isfinite(found.drop) or found.drop_low > self.allowed

    def guarantee(self, score: Score | ScoreRecord | None = None) -> str:
        """Return one sentence that says what is guaranteed, and what is not.

        Args:
            score: of the model that was chosen; None before there is one.
        """
        return guarantee(self, None if score is None else record_of(score))

    def state(self) -> GuardState:
        """Return what another process needs to judge as this one does."""
        return self.about

    # -- numbers ---------------------------------------------------------------------------

    def _value(self, numbers: Array) -> float:
        if isinstance(self.metric, WholeMetric):
            return float(numbers[1])
        return float(self.metric.value(numbers.sum(axis=0)))

    def _numbers(
        self, session: Session, start: int, stop: int, *, is_original: bool = False
    ) -> Array:
        """Return what samples ``start`` to ``stop`` of the order add, [stop - start, k]."""
        assert isinstance(self.metric, Metric)
        found: dict[int, Sequence[float]] = {}
        with _told(self.metric.name):
            for place, expected, output in self._run(session, start, stop, is_original):
                found[place] = self.metric.numbers(output, expected)
        return np.asarray([found[i] for i in range(start, stop)], np.float64)

    def _whole(self, session: Session, count: int, *, is_original: bool = False) -> Array:
        assert isinstance(self.metric, WholeMetric)
        with _told(self.metric.name):
            taken = sorted(self._run(session, 0, count, is_original), key=lambda item: item[0])
            outputs, expected = [item[2] for item in taken], [item[1] for item in taken]
            return whole_numbers(self.metric, outputs, expected)

    def _run(
        self, session: Session, start: int, stop: int, is_original: bool
    ) -> Iterator[tuple[int, Any, Array]]:
        """Yield (place in the order, what is expected, output), as the data comes."""
        place = {int(i): n for n, i in enumerate(self.about.order[start:stop], start)}
        indices, first = sorted(place), session.outputs[:1]
        for index, feed in zip(indices, Subset(self.about.dataset, indices), strict=True):
            output = np.asarray(session.run(feed, first)[0])
            if is_original:
                self.expected.learn(index, output)
            yield place[index], self.expected.of(index, feed, output), output

    def _whole_of_original(self, count: int) -> Array:
        if count not in self.about.numbers:
            if self._original is None:
                raise DataError(
                    f"the metric `{self.metric.name}` takes all samples at once, and the original "
                    "is not open here",
                    code="G216",
                    hint="open the guard with the original",
                )
            self.about.numbers[count] = self._whole(self._original(), count, is_original=True)
        return self.about.numbers[count]


def open_guard(
    limits: Limits,
    lookup: Lookup,
    validation: Validation | None,
    original: Session,
    seed: int = 0,
    own: Callable[..., float] | None = None,
) -> Guard:
    """Run the original on the validation samples, and return what judges other models by it.

    Args:
        limits: the largest drop, which may be absent, and the metric, which may be left open.
        lookup: finds a metric by name; raises RecipeError G103.
        validation: the samples to judge on.
        original: the model, open.
        seed: of the order of the samples and of the resampling.
        own: a metric that the caller brings: one of ``graphopt.analysis.metrics``, or
            function(outputs, labels) -> float. ``limits.metric`` is what it is called then.

    Raises:
        DataError: G216, there is no data, no metric fits it, or the metric cannot be taken.
        RecipeError: G103, the metric is unknown or has to be named, or the drop cannot be taken of
            the original's value.
    """
    if validation is None:
        raise _no_data()
    dataset = validation.dataset
    labels = dataset.labels()
    seen = _seen(dataset, original)
    if own is not None:
        found = as_metric(limits.metric or name_of(own), own)
        metric = with_what_it_needs(found, labels, seen, dataset.origin)
    else:
        stated = limits.max_drop is not None
        metric = chosen_metric(limits.metric, lookup, labels, seen, dataset.origin, stated=stated)
    state = GuardState(
        dataset,
        shuffled(len(dataset), labels, seed),
        metric.name if own is None else metric,
        parse_drop(limits.max_drop) if limits.max_drop is not None else None,
        seed,
        validation.used,
        validation.dropped,
        {},
        {},
    )
    expected = Expected(metric, labels, OriginalOutputs(lambda: original), state.kept)
    guard = Guard(state, metric, expected, lambda: original)
    state.numbers[guard.total] = _of_original(guard, original)
    _ = guard.allowed
    return guard


def _seen(dataset: Dataset, original: Session) -> list[tuple[Any, Array]]:
    first = original.outputs[:1]
    feeds = itertools.islice(dataset, _LOOKED_AT)
    return [(feed, np.asarray(original.run(feed, first)[0])) for feed in feeds]


def _of_original(guard: Guard, original: Session) -> Array:
    """Return the numbers of the original; raises DataError G216 where they are not usable."""
    if isinstance(guard.metric, WholeMetric):
        found = guard._whole(original, guard.total, is_original=True)
    else:
        found = guard._numbers(original, 0, guard.total, is_original=True)
    value = guard._value(found)
    if not math.isfinite(value):
        raise unusable(guard.metric.name, f"it gave {value}")
    return found


@contextmanager
def _told(name: str) -> Generator[None]:
    """Tell what a metric raises as an error of the data."""
    try:
        yield
    except GraphOptError:
        raise
    except Exception as error:
        raise unusable(name, f"{type(error).__name__}: {error}") from error


def _rounding(allowed: float) -> float:
    return 1e-9 * max(1.0, abs(allowed)) if math.isfinite(allowed) else 0.0


def unusable(name: str, why: str) -> DataError:
    """Return the error for a metric that cannot be taken of outputs and labels."""
    return DataError(
        f"the metric `{name}` cannot be taken of the first output and the labels: {why}",
        code="G216",
        hint="check the shape of the labels, or choose another metric with limits.metric",
    )


def _no_data() -> DataError:
    return DataError(
        "a largest drop is stated, and there is no data to judge it on",
        code="G216",
        hint="give --data FILE; samples that are not calibrated on are judged on",
    )
