"""The accuracy that the user stated: whether the planned model keeps it, and what to do if not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.errors import DataError, LimitError, PassError, RecipeError
from graphopt.planner.plan import Plan
from graphopt.report import Notice
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.api.compiled import Compiled
    from graphopt.api.division import Samples
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.pipeline.validation import Guard
    from graphopt.planner.precision import Budget
    from graphopt.recipe import Limits
    from graphopt.registry import Registry
    from graphopt.report import CandidateRecord, PrecisionRecord, ValidationRecord

_MARGIN_DB = 3.0
"""A candidate that was this much above the limit on a few samples is not checked on all."""


@dataclass(frozen=True)
class Kept:
    """The passes that keep the stated accuracy, and what there is to say about them."""

    steps: Sequence[Pass]
    record: PrecisionRecord | None = None
    notices: tuple[Notice, ...] = ()


@dataclass
class Stated:
    """What the user stated, and what it is judged by.

    ``metric`` is a metric of the caller's own, which goes before those that have a name.
    """

    limits: Limits
    samples: Samples | None
    registry: Registry
    measure: bool = False
    metric: Callable[..., float] | None = None
    _guard: Guard | None = field(default=None, init=False, repr=False)

    def guard(self, verifier: Verifier) -> Guard | None:
        """Return what judges models; None where no drop is stated.

        Raises:
            DataError: G216, a drop is stated and cannot be judged.
            RecipeError: G103, the metric must be named.
        """
        if self.limits.max_drop is None:
            return None
        if self._guard is None:
            from graphopt.pipeline.validation import open_guard

            samples = self.samples.validation if self.samples is not None else None
            self._guard = open_guard(
                self.limits, self.registry.metric, samples, verifier.original, own=self.metric
            )
        return self._guard

    def judged(self, graph: Graph, verifier: Verifier) -> ValidationRecord | None:
        """Return how accurate the result is; None where no drop is stated."""
        guard = self.guard(verifier)
        if guard is None:
            return None
        from graphopt.pipeline.validation import validation_record

        return validation_record(guard, guard.score(verifier.open(graph)[0]))

    def keep(
        self,
        steps: Sequence[Pass],
        graph: Graph,
        context: PipelineContext,
        verifier: Verifier,
        candidates: Sequence[CandidateRecord] = (),
    ) -> Kept:
        """Return ``steps``, with operators excluded where the model would be too far off.

        Args:
            steps: consecutive passes with all options settled.
            graph: ready for the first of them; not changed.
            context: has the calibrated ranges.
            verifier: compares with the original.
            candidates: the plans that were considered for them.

        Raises:
            DataError: G216, a drop is stated and cannot be judged.
            PassError: G301, a drop is stated and planning for it failed.
            RecipeError: G103, the metric must be named.
        """
        given, steps = steps, _most_integer(steps, candidates)
        if not context.has_data or not _quantizes(steps) or self._is_clear(candidates):
            return Kept(steps)
        from graphopt.planner.precision import keep_accuracy

        budget = self._budget(verifier)
        try:
            decision = keep_accuracy(
                graph,
                steps,
                context,
                verifier,
                budget,
                measure=self.measure,
                rival=None if steps is given else given,
            )
        except (DataError, RecipeError):
            raise
        except Exception as error:
            if self.limits.max_drop is not None:
                raise PassError(
                    f"the stated drop could not be kept: {type(error).__name__}: {error}",
                    where="limits.max-drop",
                    hint="report this with the model; `--min-snr` states a limit without labels",
                ) from error
            # The limit in dB is checked once more where the pass is.
            context.log.debug("accuracy could not be planned", exc_info=error)
            return Kept(steps, None, (planning_failed(error),))
        notices = (*_resolution(budget), *_given_up(decision.record))
        return Kept(decision.steps, decision.record, notices)

    def _budget(self, verifier: Verifier) -> Budget:
        from graphopt.planner.precision import Budget

        return Budget(self.limits.min_snr_db, self.guard(verifier))

    def _is_clear(self, candidates: Sequence[CandidateRecord]) -> bool:
        """Whether the plan that was chosen is known to be well above the limit."""
        if self.limits.max_drop is not None:
            return False
        found = next((c.snr_db for c in candidates if c.chosen), None)
        return found is not None and found >= self.limits.min_snr_db + _MARGIN_DB


def assignments(prune_to: str | None, metric: object) -> list[str]:
    """Return what changes a recipe as it was asked for: how far to prune, what counts as a drop."""
    found = [f"prune-channels.to={prune_to}"] if prune_to else []
    if metric is None:
        return found
    from graphopt.pipeline.validation import name_of

    name = metric if isinstance(metric, str) else name_of(metric)
    return [*found, f'limits.metric="{name}"']


def planning_failed(error: Exception) -> Notice:
    """Return what the report says when the planner itself went wrong."""
    return Notice(
        "W504",
        f"the choice of integer operators failed: {type(error).__name__}: {error}",
        "say a placement with `--set insert-qdq.placement=...`, and report this with the model",
    )


def quantizing_section(steps: Sequence[Pass]) -> tuple[int, int]:
    """Return the range of passes that quantize, as positions; empty when there are none."""
    found = [i for i, step in enumerate(steps) if _can_leave_out(step)]
    return (found[0], found[-1] + 1) if found else (len(steps), len(steps))


def _can_leave_out(step: Pass) -> bool:
    return step.effect is Effect.APPROXIMATE and hasattr(step, "exclude")


def _most_integer(steps: Sequence[Pass], candidates: Sequence[CandidateRecord]) -> Sequence[Pass]:
    """Return all-integer steps where every plan with integers was too noisy; else the steps."""
    too_noisy = any(c.snr_db is not None and c.speedup is None for c in candidates)
    tried = any(c.speedup is not None and c.snr_db is not None for c in candidates)
    plan = Plan(tuple(steps))
    if too_noisy and not tried and plan.is_exact and plan.insert is not None:
        return plan.placed("integer").steps
    return steps


def _quantizes(steps: Sequence[Pass]) -> bool:
    return any(_can_leave_out(s) for s in steps) and not Plan(tuple(steps)).is_exact


def check_kept(compiled: Compiled) -> None:
    """Raise LimitError G311, which carries the model, when the stated drop was not kept."""
    record = compiled.report.validation
    if record is None or record.kept:
        return
    from graphopt.pipeline.validation import amount

    score, unit = record.score, record.score.unit
    error = LimitError(
        f"the model loses {amount(score.drop, unit)} of {score.metric} on {score.samples} "
        f"validation samples, and {amount(record.allowed, unit)} may be lost",
        code="G311",
        where="limits.max-drop",
        hint="prune less, or allow more; --keep writes the model all the same",
    )
    error.compiled = compiled
    raise error


def _resolution(budget: Budget) -> tuple[Notice, ...]:
    from graphopt.analysis.intervals import paired_interval

    guard = budget.guard
    if guard is None or guard.resolution is None:
        return ()
    unseen = 100.0 * paired_interval(0, 0, guard.total)[1]
    if unseen <= guard.allowed:
        return ()
    notice = Notice(
        "W212",
        f"{guard.total} validation samples cannot tell a drop of {guard.allowed:.2g} points: even "
        f"without any difference on them up to {unseen:.2g} points are possible",
        "give more samples: those that are not calibrated on are judged on",
    )
    return (notice,)


def _given_up(record: PrecisionRecord | None) -> tuple[Notice, ...]:
    if record is None or record.kept:
        return ()
    notice = Notice(
        "W306",
        f"everything stays in float: quantized, the model has {record.before:.4g} {record.unit} "
        f"{record.measure}, and {record.limit:.4g} were asked for".replace("  ", " "),
        "`graphopt analyze --quantization` shows which operators lose it, and why",
    )
    return (notice,)
