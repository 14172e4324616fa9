"""Mixed precision: return operators to float until the model is as accurate as was asked for.

The operators are ranked by noise for the time that they save; which prefix of the ranking is
enough is found by bisection with the real model, so that few models are made. An operator beside
one that is in float already costs no further change of precision, and so the ranking grows
regions: precision that alternates loses.

Beside the ranking, minimum cuts of time, noise and borders are asked for the fastest model that
keeps the limit, with the precisions that the passes can give; the fastest of all is taken.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.calibration.dataset import take
from graphopt.errors import GraphOptError
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.pipeline.sensitivity import Sensitivity
from graphopt.planner.assignment.precisions import gives_precision
from graphopt.planner.exclusion import leaves_out, without
from graphopt.planner.ranking import gains_of, neighbours, ordered
from graphopt.report import PrecisionRecord, ReturnedOperator
from graphopt.runtime import open_session, race
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.pipeline.validation import Guard, Score
    from graphopt.planner.assignment.assigner import Choice
    from graphopt.report import LayerSensitivity
    from graphopt.runtime import Session

SAMPLES = 16
"""Calibration samples that the noise of each operator is measured on."""
_SHRINKING_TRIES = 6
_FIRST = 500
"""Validation samples after which a model that is clearly too far off is given up."""
_EQUAL = 0.03
"""Relative difference in time below which models are equally fast."""
_RACE_SECONDS = 0.4


@dataclass(frozen=True)
class Budget:
    """The least accuracy that the user wants.

    Args:
        min_snr_db: lowest signal-to-noise ratio of the outputs on held-out samples, in dB.
        guard: judges models by a metric on validation samples; None where no drop is stated.
    """

    min_snr_db: float
    guard: Guard | None = None

    @property
    def lowest(self) -> float:
        """Lowest accuracy by the metric."""
        if self.guard is None:
            return -math.inf
        return self.guard.original.record.value - self.guard.allowed


@dataclass(frozen=True)
class Decision:
    """The passes with what they must leave in float, and how that was found; None if nothing."""

    steps: tuple[Pass, ...]
    record: PrecisionRecord | None = None


@dataclass(frozen=True)
class _Trial:
    """One model, made and checked."""

    excluded: frozenset[str]
    graph: Graph
    snr_db: float
    score: Score | None
    holds: bool
    steps: tuple[Pass, ...] = ()


def keep_accuracy(
    graph: Graph,
    steps: Sequence[Pass],
    context: PipelineContext,
    verifier: Verifier,
    budget: Budget,
    *,
    measure: bool = False,
    rival: Sequence[Pass] | None = None,
    by: Sequence[str] = ("ranking", "cut"),
) -> Decision:
    """Return the passes, with as few operators excluded from them as the budget needs.

    Args:
        graph: ready for the first of ``steps``; not changed.
        steps: consecutive passes with all options settled, insert-qdq among them.
        context: has the calibrated ranges and the cost model.
        verifier: compares with the original.
        budget: what must be kept.
        measure: time the models that keep it on this machine; otherwise ask the cost model.
        rival: the same passes with options that quantize nothing, which are taken where nothing
            that keeps the budget is faster.
        by: what proposes models.
    """
    bench = _Bench(graph, steps, context, verifier, budget)
    whole = bench.check(frozenset())
    if whole.holds or bench.is_float(whole):
        return Decision(tuple(steps))
    ranked = bench.ranked(whole)
    found = _by_ranking(bench, ranked) if "ranking" in by else []
    found += cut_trials(graph, bench, measure=measure) if "cut" in by else []
    exact = bench.exact(rival, ranked) if rival is not None else None
    if exact is not None:
        found.append(exact)
    fastest = bench.fastest(found, measure=measure) if found else None
    if fastest is None or fastest is exact:
        kept = bench.steps_without(None) if exact is None else exact.steps
        return Decision(kept, bench.record(whole, None, ranked))
    best = bench.confirmed(fastest)
    return Decision(best.steps, bench.record(whole, best, ranked))


def _by_ranking(bench: _Bench, ranked: Sequence[LayerSensitivity]) -> list[_Trial]:
    """Return models with those operators in float that make most noise for their time."""
    best = _bisected(bench, [layer.node for layer in ranked])
    if best is None:
        return []
    best = _shrunk(bench, best, ranked)
    # Scattered operators cost a border each; a float head or tail costs one in all.
    ends = (_bisected(bench, order) for order in (bench.order, bench.order[::-1]))
    found = [best, bench.without_lone(best), *ends]
    return [t for t in found if t is not None]


def cut_trials(graph: Graph, bench: _Bench, *, measure: bool) -> list[_Trial]:
    """Return models of minimum cuts that keep the budget, none of them known to lose to float."""
    from graphopt.planner.assignment.assigner import Assigner
    from graphopt.planner.assignment.limit import LimitSearch

    try:
        assigner = Assigner(graph, bench.steps, bench.context, bench.verifier)
        if not assigner.is_possible:
            return []
        limit_db = bench.budget.min_snr_db if bench.budget.guard is None else None
        found = LimitSearch(assigner, bench.check_choice, limit_db).run()
        most = math.inf if measure else bench.latency_ms(bench.float)
        made = (t for t in found if not bench.is_float(t))
        return [t for t in made if bench.latency_ms(t.graph) <= most]
    except GraphOptError as error:
        bench.context.log.debug("no minimum cut", exc_info=error)
        return []


def _bisected(bench: _Bench, names: Sequence[str]) -> _Trial | None:
    """Return the model with the shortest prefix of ``names`` in float that keeps the budget."""
    low, high, best = 0, len(names) + 1, None
    while high - low > 1:
        middle = (low + high) // 2
        trial = bench.check(frozenset(names[:middle]))
        if trial.holds and not bench.is_float(trial):
            high, best = middle, trial
        elif trial.holds:
            high = middle
        else:
            low = middle
    return best


def _shrunk(bench: _Bench, best: _Trial, ranked: Sequence[LayerSensitivity]) -> _Trial:
    """Put operators back that turn out not to matter: first half of them, then fewer."""
    order = [n.node for n in ranked if n.node in best.excluded]
    size = len(order) // 2
    position = len(order)
    for _ in range(_SHRINKING_TRIES):
        position -= size
        if position < 0:
            size = min(size // 2, len(order) - 1)
            position = len(order) - size
        if size < 1:
            break
        rest = order[:position] + order[position + size :]
        trial = bench.check(frozenset(rest))
        if trial.holds and rest:
            order, best = rest, trial
    return best


class _Bench:
    """Makes models with some operators in float, and checks them."""

    def __init__(
        self,
        graph: Graph,
        steps: Sequence[Pass],
        context: PipelineContext,
        verifier: Verifier,
        budget: Budget,
    ) -> None:
        self.steps = tuple(steps)
        self.context = context
        self.verifier = verifier
        self.budget = budget
        self.models = 0
        self.float, self._rest = self._prepared(graph)
        self._float_digest = ir.structural_hash(self.float)
        self.order: list[str] = []
        self._near: dict[str, set[str]] = {}
        self._checked: dict[frozenset[str], _Trial] = {}

    def _prepared(self, graph: Graph) -> tuple[Graph, tuple[Pass, ...]]:
        """Run the passes before the first that quantizes: what is compared starts after them."""
        made = graph.copy()
        rest = list(self.steps)
        while rest and not (gives_precision(rest[0]) or leaves_out(rest[0])):
            self._run(rest.pop(0), made)
        made.sort()
        return made, tuple(rest)

    def _run(self, step: Pass, made: Graph) -> None:
        self.context.running = step.name
        before = ir.structural_hash(made)
        with self.context.without_explanations():
            step.run(made, self.context)
        if step.effect is Effect.EXACT:
            self.context.carry_ranges(before, ir.structural_hash(made))

    def check(self, excluded: frozenset[str]) -> _Trial:
        """Make the model with these operators in float; say whether it keeps the budget."""
        if excluded not in self._checked:
            steps = self.steps_without(excluded)
            self._checked[excluded] = self._tried(steps, excluded, quickly=bool(excluded))
        return self._checked[excluded]

    def check_choice(self, choice: Choice) -> _Trial:
        """Make the model of a minimum cut; say whether it keeps the budget."""
        return self._tried(choice.steps, choice.floats, quickly=True)

    def exact(self, steps: Sequence[Pass], ranked: Sequence[LayerSensitivity]) -> _Trial:
        """Make the model of passes that quantize nothing."""
        return self._tried(steps, frozenset(layer.node for layer in ranked), quickly=True)

    def confirmed(self, best: _Trial) -> _Trial:
        """Check once more with weights rounded as they will be; if need be, round them simply."""
        if all(_quick(step) == step for step in best.steps):
            return best
        final = self._tried(best.steps, best.excluded, quickly=False)
        if not final.holds:
            simply = tuple(_quick(step) for step in best.steps)
            return dataclasses.replace(best, steps=simply)
        return final

    def _tried(self, steps: Sequence[Pass], excluded: frozenset[str], *, quickly: bool) -> _Trial:
        made = self.float.copy()
        for step in steps[len(self.steps) - len(self._rest) :]:
            self._run(_quick(step) if quickly else step, made)
        made.sort()
        self.models += 1
        self.context.tell("keeping accuracy", self.models, 0)
        return dataclasses.replace(self._judged(excluded, made), steps=tuple(steps))

    def _judged(self, excluded: frozenset[str], made: Graph) -> _Trial:
        session = open_session(made, target=self.verifier.target)
        found = self.verifier.snr(session)
        snr = math.inf if found is None else found
        holds = snr >= self.budget.min_snr_db
        score, guard = None, self.budget.guard
        if guard is not None:
            # What all integers reach is reported, so they are judged on all samples.
            score = _scored(guard, session, in_full=not excluded)
            holds = holds and guard.holds(score)
        return _Trial(excluded, made, snr, score, holds)

    def is_float(self, trial: _Trial) -> bool:
        """Whether nothing was quantized."""
        return ir.structural_hash(trial.graph) == self._float_digest

    def steps_without(self, excluded: frozenset[str] | None) -> tuple[Pass, ...]:
        """Return the passes with these operators excluded; None for all."""
        return tuple(without(s, excluded) for s in self.steps)

    # -- ranking ---------------------------------------------------------------------------

    def ranked(self, whole: _Trial) -> list[LayerSensitivity]:
        """Return the integer operators, those first that make most noise for what they save."""
        assert self.context.dataset is not None
        rules = self.context.target.quantization
        found = Sensitivity(self.float, whole.graph, saturates=rules.saturates)
        with_samples = take(self.context.dataset, SAMPLES)
        total = len(with_samples)
        found.measure(with_samples, lambda done: self.context.tell("sensitivity", done, total))
        self.order = [layer.name for layer in found.layers]
        self._near = neighbours(self.float, found.layers)
        cost, target = self.context.cost, self.context.target
        gains, border = gains_of(
            cost.estimate(self.float, target), cost.estimate(whole.graph, target)
        )
        return ordered(found.results(), gains, border, self._near)

    def without_lone(self, best: _Trial) -> _Trial | None:
        """Return the model without integer operators all of whose neighbours are in float."""
        floats = best.excluded
        lone = {n for n in self.order if n not in floats and self._near.get(n, {""}) <= floats}
        filled = self.check(floats | lone)
        return filled if filled.holds and not self.is_float(filled) else None

    def fastest(self, trials: Sequence[_Trial], *, measure: bool) -> _Trial:
        """Return the fastest model; of equal ones that with most operators in integers.

        Timings that are as good as equal are equal; estimates do not vary.
        """
        distinct = list({t.steps: t for t in trials}.values())
        if len(distinct) == 1:
            return distinct[0]
        times = self._timed(distinct) if measure else [self.latency_ms(t.graph) for t in distinct]
        limit = min(times) * (1 + (_EQUAL if measure else 0.0))
        near = [t for t, ms in zip(distinct, times, strict=True) if ms <= limit]
        return min(near, key=lambda t: len(t.excluded))

    def latency_ms(self, graph: Graph) -> float:
        """Return the estimated latency of a model."""
        return self.context.cost.estimate(graph, self.context.target).latency_ms.value

    def _timed(self, trials: Sequence[_Trial]) -> list[float]:
        verifier = self.verifier
        feeds = [feed for feed, _ in verifier.held_out[:4]] or list(verifier.probes.feeds[:1])
        opened = {
            str(i): open_session(t.graph, target=verifier.target) for i, t in enumerate(trials)
        }
        result = race(opened, feeds, seconds=_RACE_SECONDS)
        return [1.0 / result.speedup_of_quartiles(name, "0") for name in opened]

    # -- the record ------------------------------------------------------------------------

    def record(
        self, whole: _Trial, best: _Trial | None, ranked: Sequence[LayerSensitivity]
    ) -> PrecisionRecord:
        """Return what was decided, by the limit that was missed."""
        guard, budget = self.budget.guard, self.budget
        excluded = best.excluded if best is not None else {layer.node for layer in ranked}
        returned = tuple(
            ReturnedOperator(n.node, n.isolated_db, n.why) for n in ranked if n.node in excluded
        )
        if guard is None or whole.score is None or guard.holds(whole.score):
            after = best.snr_db if best is not None else math.inf
            facts: tuple[str, str, float, float, float] = (
                "SNR", "dB", budget.min_snr_db, whole.snr_db, after,
            )  # fmt: skip
            basis = f"{len(self.verifier.held_out) or len(self.verifier.probes.feeds)} samples"
        else:
            reference = guard.original.record.value
            kept = best.score if best is not None else None
            after = reference if kept is None else kept.record.value
            name, unit = guard.metric.name, guard.metric.unit
            facts = (name, unit, budget.lowest, whole.score.record.value, after)
            basis = f"{guard.total} validation samples, the original has {reference:.4g}"
        return PrecisionRecord(*facts, returned, self.models, best is not None, basis)


def _scored(guard: Guard, session: Session, *, in_full: bool) -> Score:
    """Judge a model; on part of the samples where that is enough to say that it is too far off."""
    if in_full:
        return guard.score(session)
    first = guard.score(session, _FIRST)
    return first if guard.hopeless(first) else guard.score(session, after=first)


def _quick(step: Pass) -> Pass:
    """Return a pass that rounds weights the simple way, which is no more accurate."""
    if not isinstance(step, InsertQdq):
        return step
    return dataclasses.replace(step, rounding="balanced")
