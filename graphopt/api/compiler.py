"""The compile: read, plan, run the passes, check, measure, report."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.budget import (
    Stated,
    assignments,
    check_kept,
    planning_failed,
    quantizing_section,
)
from graphopt.api.compiled import Compiled
from graphopt.api.layers import Reasons, told_by_layer
from graphopt.api.noise import noise_of
from graphopt.api.outcome import (
    calibration_record,
    check_fits,
    check_notices,
    figures,
    machine,
    operators,
    repeating,
)
from graphopt.api.requested import check_dumped, check_explained, write_dump
from graphopt.api.settled import float_chosen, original_kept, settled, taken_back
from graphopt.api.setup import (
    SEED,
    find_target,
    make_context,
    make_passes,
    make_stand_in,
    open_samples,
    resolve_recipe,
)
from graphopt.api.sizes import set_sizes
from graphopt.api.source import facts, naming, read_model
from graphopt.api.timing import NEVER_SLOWER, NO_GAIN, Timed, confirmed, time_against
from graphopt.errors import DataError
from graphopt.pipeline import Runner, Verifier, probe_feeds
from graphopt.planner import Plan, is_open, open_section
from graphopt.recipe import write_recipe
from graphopt.registry import Registry
from graphopt.report import Notice, Report
from graphopt.runtime import versions
from graphopt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.api.division import Samples
    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.calibration.synthetic import SyntheticDataset
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext
    from graphopt.planner import Decision
    from graphopt.recipe import Recipe, ResolvedRecipe
    from graphopt.report import CandidateRecord, Observe, PrecisionRecord, PruningRecord
    from graphopt.targets.base import Target

RACE_SECONDS = 1.0
"""How long candidates are timed on the host, all together."""


def compile_model(
    model: ModelSource,
    *,
    target: str | None = None,
    data: Source | None = None,
    validation: Source | None = None,
    metric: str | Callable[..., float] | None = None,
    recipe: ResolvedRecipe | Recipe | Path | str | None = None,
    shapes: Shapes | None = None,
    dims: OpenDims | None = None,
    overrides: Sequence[str] = (),
    prune_to: str | None = None,
    strict: bool = False,
    measure: bool | None = None,
    registry: Registry | None = None,
    observe: Observe | None = None,
    explain: Sequence[str] = (),
    dump_after: str | None = None,
    dump_dir: Path | None = None,
    sensitivity: bool = False,
    validate: bool = False,
) -> Compiled:
    """Compile a model for a target; nothing is written, and the input is not touched.

    Args:
        model: a file, its bytes, or a graph.
        target: name, alias or TOML file; the recipe's own ("host") when None.
        data: samples: a file or folder, arrays by input name, or an iterable of feeds.
        validation: samples to judge a stated drop on, with labels; by default a part of ``data``
            that nothing is calibrated on.
        metric: what a stated drop is counted in: a name, or function(outputs, labels) -> float,
            larger is better, of the first output and the label of each sample.
        recipe: preset name, file, or a recipe; one that ``resolve_recipe`` returned is taken as it
            is, and target, shapes, dims, overrides and prune_to are not looked at.
        shapes: what the inputs are, by name, or that of the only input: numbers fix a dimension.
        dims: by symbol, a size, or bounds such as (1, 8) or "1..8".
        overrides: "pass.option=value", strongest of all.
        prune_to: what to reach by removing channels and branches, such as "latency=0.6x".
        strict: fail at the first pass that would be rolled back.
        measure: time candidates on this machine; by default when the target is the host.
        registry: passes, targets and so on; built-ins and installed plugins when None.
        observe: is told about progress.
        explain: nodes whose reasons must be in the report; an unknown one is an error.
        dump_after: name of a pass after which the graph is written as text.
        dump_dir: the folder for that text.
        sensitivity: measure the noise of each integer layer for the report; needs data.
        validate: keep samples aside that somebody else will judge the accuracy on.

    Raises:
        GraphOptError: with code, place and hint; LimitError G503 carries the compiled model when
            the target cannot hold it.
    """
    started = time.perf_counter()
    registry = registry or Registry()
    graph, name = read_model(model)
    resolved = resolve_recipe(
        model=model if isinstance(model, str | Path) else None,
        target=target,
        data=data,
        validation=validation,
        recipe=recipe,
        shapes=shapes,
        dims=dims,
        overrides=[*overrides, *assignments(prune_to, metric)],
        registry=registry,
    )
    job = _Job(
        name=name,
        original=graph,
        recipe=_with_sizes(resolved.recipe, graph, name),
        target=find_target(resolved.recipe.target, registry),
        registry=registry,
        samples=open_samples(
            data, resolved.recipe, graph, registry, validate=validate, judged=validation
        ),
        strict=strict,
        observe=observe,
        dump=(dump_after, Path(dump_dir or ".")) if dump_after else None,
        sensitivity=sensitivity,
        metric=metric if callable(metric) else None,
    )
    check_dumped(dump_after, job.recipe)
    job.measure = job.target.is_host if measure is None else measure and job.target.is_host
    with naming(name, graph):
        compiled = job.run(started)
    check_explained(compiled.report, explain, graph)
    check_fits(compiled, job.target)
    check_kept(compiled)
    return compiled


def _with_sizes(recipe: Recipe, graph: Graph, name: str) -> Recipe:
    """Give the graph the sizes of the recipe; return it with every input named."""
    with naming(name, graph):
        return dataclasses.replace(recipe, model=set_sizes(graph, recipe.model))


@dataclass
class _Job:
    """The state of one compile."""

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
    metric: Callable[..., float] | None = None
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

    def run(self, started: float) -> Compiled:
        """Run the recipe's passes and put the report together."""
        calibration = self.samples.calibration if self.samples else None
        context = make_context(
            self.recipe, self.target, self.registry, calibration, observe=self.observe
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
        graph = self.original.copy()
        steps = self._pruned(make_passes(self.recipe, self.registry), graph, context, runner)
        start, end = open_section(steps) if any(map(is_open, steps)) else quantizing_section(steps)
        runner.run(graph, steps[:start])
        bare = graph.copy() if self.sensitivity else None
        decided = self._decided(steps[start:end], graph, context, verifier)
        runner.run(graph, self._kept_accurate(decided, graph, context, verifier))
        runner.run(graph, steps[end:])
        graph, measured = self._never_slower(graph, verifier, runner)
        self.notices += runner.notices
        self.notices += check_notices(verifier, self.samples, self.target, runner, self.stand_in)
        self._stamp(graph)
        executed = operators(verifier.open(graph)[1], context)
        noise = noise_of(bare, graph, self.samples, self.target)
        reasons = Reasons(executed, self.precision, self.pruning, noise)
        told = told_by_layer(self.original, graph, context, reasons)
        report = Report(
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
            seconds=time.perf_counter() - started,
        )
        verifier.close()
        return Compiled(graph, report, ir.source_files(self.original))

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
        limits, registry = self.recipe.limits, self.registry
        return Stated(limits, self.samples, registry, self.measure, self.metric)

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
            self._take_back_plan(runner, timed)
            graph = self.before_plan
            timed = confirmed(verifier.original, verifier.open(graph)[0], feeds)
        if not timed.is_below(NEVER_SLOWER) or not self.recipe.limits.never_slower:
            return graph, timed
        self.notices.append(original_kept(timed.ratio))
        # What repeats this result is to leave the model alone.
        self.recipe = dataclasses.replace(self.recipe, passes=())
        kept = self.original.copy()
        return kept, time_against(verifier.original, verifier.open(kept)[0], feeds)

    def _take_back_plan(self, runner: Runner, timed: Timed) -> None:
        """Record that the plan that won its race lost against the original."""
        why = f"{timed.ratio:.2f} x the speed of the original when timed against it"
        self.candidates = float_chosen(self.candidates, why)
        runner.records = taken_back(runner.records, self.planned, why)
        self._settle(Plan.closed(self.planned).steps)

    def _settle(self, steps: Sequence[Pass]) -> None:
        """Write the options of passes that were left open into the recipe."""
        self.recipe = settled(self.recipe, steps)

    def _stamp(self, graph: Graph) -> None:
        graph.metadata["graphopt.version"] = VERSION
        graph.metadata["graphopt.target"] = self.target.name

    def _dump(self, name: str, graph: Graph) -> None:
        if self.dump is not None and name == self.dump[0]:
            write_dump(self.dump[1], name, graph)
