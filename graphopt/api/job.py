"""One compile: run the passes, plan what is open, check, measure, report."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.budget import (
    Stated,
    planning_failed,
)
from graphopt.api.compiled import Compiled
from graphopt.api.layers import Reasons, told_by_layer
from graphopt.api.noise import noise_of
from graphopt.api.outcome import (
    calibration_record,
    check_notices,
    figures,
    machine,
    operators,
    repeating,
)
from graphopt.api.recovery import quantized_together, trainings, untrained, with_cause
from graphopt.api.requested import write_dump
from graphopt.api.settled import (
    float_chosen,
    original_kept,
    settled,
    taken_back,
    with_settled,
)
from graphopt.api.setup import (
    SEED,
    make_context,
    make_passes,
    make_stand_in,
)
from graphopt.api.source import facts
from graphopt.api.timing import NEVER_SLOWER, NO_GAIN, Timed, confirmed, time_against
from graphopt.errors import DataError
from graphopt.passes.elsewhere import PACKAGES
from graphopt.pipeline import Runner, Verifier, probe_feeds
from graphopt.planner import Plan, is_open
from graphopt.recipe import write_recipe
from graphopt.report import Notice, Report
from graphopt.runtime import versions
from graphopt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from graphopt.api.division import Samples
    from graphopt.calibration.synthetic import SyntheticDataset
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext
    from graphopt.planner import Decision
    from graphopt.recipe import Recipe
    from graphopt.registry import Registry
    from graphopt.report import CandidateRecord, Observe, PrecisionRecord, PruningRecord
    from graphopt.targets.base import Target

RACE_SECONDS = 1.0
"""How long candidates are timed on the host, all together."""


@dataclass
class Job:
    """The state of one compile; ``run`` does all of it."""

    name: str
    original: Graph
    recipe: Recipe
    target: Target
    registry: Registry
    samples: Samples | None
    strict: bool
    observe: Observe | None
    dump: tuple[str, Path] | None
    measure: bool = False
    sensitivity: bool = False
    metric: str | Callable[..., float] | None = None
    started: float = field(default_factory=time.perf_counter)
    notices: list[Notice] = field(default_factory=list)
    candidates: tuple[CandidateRecord, ...] = ()
    stand_in: SyntheticDataset | None = None
    """What layers are fitted to after pruning where the user gave no data."""
    precision: PrecisionRecord | None = None
    pruning: PruningRecord | None = None
    planned: tuple[Pass, ...] = ()
    """The passes that the recipe left open."""
    before_plan: Graph | None = None
    """The graph before what was planned, to go back to."""
    section: int = 0
    """How many passes were run before those that were planned."""
    behind: tuple[Pass, ...] = ()
    """The passes behind those that were planned."""

    def run(self) -> Compiled:
        """Run the recipe's passes and put the report together."""
        calibration = self.samples.calibration if self.samples else None
        context = make_context(
            self.recipe,
            self.target,
            self.registry,
            calibration,
            source=self.original,
            fitted=self.samples.fitting if self.samples else None,
            extra=self.samples.extra if self.samples else None,
            observe=self.observe,
        )
        verifier = self._verifier()
        context.probes = verifier.probes.feeds
        runner = Runner(
            context,
            verifier,
            self.recipe.limits,
            strict=self.strict,
            provider_of=lambda name: self.registry.provider_of("passes", name),
            after_pass=self._dump if self.dump else None,
        )
        graph, bare = self._passed(context, verifier, runner)
        self.recipe = with_settled(self.recipe, runner.records)
        graph, measured = self._never_slower(graph, verifier, runner)
        self.notices += runner.notices
        self.notices += check_notices(verifier, self.samples, self.target, runner, self.stand_in)
        graph.metadata["graphopt.version"] = VERSION
        graph.metadata["graphopt.target"] = self.target.name
        report = self._report(graph, bare, context, verifier, runner, measured)
        report = dataclasses.replace(report, seconds=time.perf_counter() - self.started)
        verifier.close()
        return Compiled(graph, report, ir.source_files(self.original))

    def _passed(
        self, context: PipelineContext, verifier: Verifier, runner: Runner
    ) -> tuple[Graph, Graph | None]:
        """Run all passes; return the result, and the graph before the section that quantizes."""
        graph = self.original.copy()
        whole = make_passes(self.recipe, self.registry)
        quantized_together(whole)  # what does not fit is told before any work
        steps = self._pruned(whole, graph, context, runner)
        start, end = quantized_together(steps)
        runner.run(graph, steps[:start])
        self.section = len(runner.records)
        bare = graph.copy() if self.sensitivity else None
        decided = self._decided(steps[start:end], graph, context, verifier)
        runner.run(graph, self._kept_accurate(decided, graph, context, verifier))
        self.behind = tuple(steps[end:])
        runner.run(graph, with_cause(self.behind, runner.records))
        return graph, bare

    def _report(
        self,
        graph: Graph,
        bare: Graph | None,
        context: PipelineContext,
        verifier: Verifier,
        runner: Runner,
        measured: Timed | None,
    ) -> Report:
        """Put together what there is to say."""
        executed = operators(verifier.open(graph)[1], context)
        noise = noise_of(bare, graph, self.samples, self.target)
        reasons = Reasons(executed, self.precision, self.pruning, noise)
        told = told_by_layer(self.original, graph, context, reasons)
        return Report(
            graphopt=VERSION,
            versions=versions(),
            machine=machine(),
            target=self.target.name,
            source=facts(self.original, self.name),
            result=facts(graph, ""),
            recipe=write_recipe(repeating(self.recipe, self.samples)),
            passes=tuple(runner.records),
            operators=executed,
            figures=figures(*told.costs, measured),
            candidates=self.candidates,
            explanations=tuple(context.explanations.values()),
            notices=tuple(self.notices),
            calibration=calibration_record(
                self.samples, self.recipe, context.find_observer, self.stand_in
            ),
            precision=self.precision,
            pruning=self.pruning,
            layers=told.layers,
            kernels=told.kernels,
            sensitivity=noise,
            validation=self.stated.judged(graph, verifier),
            recovery=trainings(runner.records),
        )

    def _pruned(
        self, steps: Sequence[Pass], graph: Graph, context: PipelineContext, runner: Runner
    ) -> Sequence[Pass]:
        """Run the passes up to the one that removes units; return the rest."""
        if not any(step.name == "prune-channels" for step in steps):
            return steps
        from graphopt.api.pruning import run_pruning
        from graphopt.passes.prune.prune_channels import prunes

        if self.samples is None and prunes(steps):
            self.stand_in = make_stand_in(self.recipe.calibration, self.original)
        fitting = self.samples.fitting if self.samples is not None else self.stand_in
        done = run_pruning(
            graph,
            steps,
            context,
            runner,
            fitting,
            measure=self.measure,
            original=self.original,
        )
        if done.step is not None:
            self.pruning = done.record
            self._settle([done.step])
        return done.rest

    @cached_property
    def stated(self) -> Stated:
        """The accuracy that was stated, and what judges it."""
        own = self.metric if callable(self.metric) else None
        return Stated(self.recipe.limits, self.samples, self.registry, self.measure, own)

    def _verifier(self) -> Verifier:
        real = []
        if self.samples is not None:
            calibration = self.samples.calibration
            real = [feed for _, feed in zip(range(2), calibration, strict=False)]
        held_out = list(self.samples.held_out) if self.samples is not None else []
        return Verifier(
            self.original,
            self.target,
            probe_feeds(self.original, real, SEED),
            held_out,
            timed=self.measure,
        )

    def _decided(
        self, steps: Sequence[Pass], graph: Graph, context: PipelineContext, verifier: Verifier
    ) -> Sequence[Pass]:
        """Settle what the recipe leaves open, and write the decision into the recipe."""
        if not any(map(is_open, steps)):
            return steps
        from graphopt.planner import Decision

        try:
            decision = self._choose(steps, graph, context, verifier)
        except DataError:
            raise
        except Exception as error:
            # The pass will meet the same fault where it is named, rolled back, or strict.
            self.notices.append(planning_failed(error))
            context.log.debug("planning failed", exc_info=error)
            decision = Decision(Plan.closed(steps).placed("integer").steps)
        self.candidates = decision.candidates
        self.planned = tuple(s for s in steps if is_open(s))
        self._settle(decision.steps)
        self.before_plan = graph.copy() if decision.steps != Plan.closed(steps).steps else None
        return decision.steps

    def _kept_accurate(
        self, steps: Sequence[Pass], graph: Graph, context: PipelineContext, verifier: Verifier
    ) -> Sequence[Pass]:
        """Leave operators in float where the stated accuracy needs it; write it into the recipe."""
        kept = self.stated.keep(steps, graph, context, verifier, self.candidates)
        # What failed twice for one reason is told once.
        self.notices += [n for n in kept.notices if n not in self.notices]
        if kept.record is not None:
            self.precision = kept.record
            self._settle(kept.steps)
            self.before_plan = graph.copy() if self.planned else None
        return kept.steps

    def _choose(
        self, steps: Sequence[Pass], graph: Graph, context: PipelineContext, verifier: Verifier
    ) -> Decision:
        from graphopt.planner.choice import choose_plan

        if self.observe is not None:
            self.observe.pass_started("(placement)")
        return choose_plan(
            graph,
            steps,
            context,
            verifier,
            self.recipe.limits,
            measure=self.measure,
            seconds=RACE_SECONDS,
        )

    def _never_slower(
        self, graph: Graph, verifier: Verifier, runner: Runner
    ) -> tuple[Graph, Timed | None]:
        """On the host, time the result against the original; what lost is taken back."""
        if not self.measure or not verifier.has_probes:
            return graph, None
        if not verifier.counts:
            self.notices.append(Notice("W503", "the model is too large to be timed in memory"))
            return graph, None
        feeds = [feed for feed, _ in verifier.held_out[:4]] or list(verifier.probes.feeds[:1])
        lost = NO_GAIN if self.before_plan is not None else NEVER_SLOWER
        timed = confirmed(verifier.original, verifier.open(graph)[0], feeds, lost)
        if timed.is_below(NO_GAIN) and self.before_plan is not None:
            graph = self.before_plan
            self._take_back_plan(graph, runner, timed)
            timed = confirmed(verifier.original, verifier.open(graph)[0], feeds)
        if not timed.is_below(NEVER_SLOWER) or not self.recipe.limits.never_slower:
            return graph, timed
        self.notices.append(original_kept(timed.ratio))
        # What repeats this result is to leave the model alone.
        self.recipe = dataclasses.replace(self.recipe, passes=())
        kept = self.original.copy()
        return kept, time_against(verifier.original, verifier.open(kept)[0], feeds)

    def _take_back_plan(self, graph: Graph, runner: Runner, timed: Timed) -> None:
        """Record that the plan that won its race lost against the original.

        Args:
            graph: from before the plan; the passes behind it are run on this one instead, but for
                those that train, which have nothing to recover there.
            runner: of the compile.
            timed: the race.
        """
        why = f"{timed.ratio:.2f} x the speed of the original when timed against it"
        self.candidates = float_chosen(self.candidates, why)
        first = len(runner.records) - len(self.behind)
        lost = taken_back(runner.records, self.section, why)
        runner.records = lost[:first]
        for step, record in zip(self.behind, lost[first:], strict=True):
            if step.name in PACKAGES:
                runner.records.append(record)
            else:
                runner.run_one(graph, step)
        self.recipe = untrained(self.recipe, self.section, PACKAGES)
        self._settle(Plan.closed(self.planned).steps)

    def _settle(self, steps: Sequence[Pass]) -> None:
        """Write the options of passes that were left open into the recipe."""
        self.recipe = settled(self.recipe, steps)

    def _dump(self, name: str, graph: Graph) -> None:
        if self.dump is not None and name == self.dump[0]:
            write_dump(self.dump[1], name, graph)
