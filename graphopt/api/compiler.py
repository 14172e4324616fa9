"""The compile: read, plan, run the passes, check, measure, report."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.budget import Stated, planning_failed, quantizing_section
from graphopt.api.compiled import Compiled
from graphopt.api.outcome import (
    calibration_record,
    check_fits,
    check_notices,
    figures,
    machine,
    operators,
)
from graphopt.api.requested import check_dumped, check_explained
from graphopt.api.setup import (
    SEED,
    Samples,
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
from graphopt.planner import FLOAT, Plan, is_open, open_section, settled_options
from graphopt.recipe import PassEntry, write_recipe
from graphopt.registry import Registry
from graphopt.report import Notice, Report
from graphopt.runtime import versions
from graphopt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.calibration.synthetic import SyntheticDataset
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext
    from graphopt.planner import Decision
    from graphopt.recipe import Recipe
    from graphopt.report import CandidateRecord, Observe, PrecisionRecord, PruningRecord
    from graphopt.targets.base import Target

RACE_SECONDS = 1.0
"""How long candidates are timed on the host, all together."""


def compile_model(
    model: ModelSource,
    *,
    target: str | None = None,
    data: Source | None = None,
    recipe: Recipe | Path | str | None = None,
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
) -> Compiled:
    """Compile a model for a target; nothing is written, and the input is not touched.

    Args:
        model: a file, its bytes, or a graph.
        target: name, alias or TOML file; the recipe's own ("host") when None.
        data: unlabelled samples: a file or folder, arrays by input name, or an iterable of feeds.
        recipe: preset name, file, or a recipe.
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
        recipe=recipe,
        shapes=shapes,
        dims=dims,
        overrides=[*overrides, *([f"prune-channels.to={prune_to}"] if prune_to else [])],
        registry=registry,
    )
    job = _Job(
        name=name,
        original=graph,
        recipe=_with_sizes(resolved.recipe, graph, name),
        target=find_target(resolved.recipe.target, registry),
        registry=registry,
        samples=open_samples(data, resolved.recipe, graph, registry),
        strict=strict,
        observe=observe,
        dump=(dump_after, Path(dump_dir or ".")) if dump_after else None,
    )
    check_dumped(dump_after, job.recipe)
    job.measure = job.target.is_host if measure is None else measure and job.target.is_host
    with naming(name, graph):
        compiled = job.run(started)
    check_explained(compiled.report, explain, graph)
    check_fits(compiled, job.target)
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
        decided = self._decided(steps[start:end], graph, context, verifier)
        runner.run(graph, self._kept_accurate(decided, graph, context, verifier))
        runner.run(graph, steps[end:])
        graph, measured = self._never_slower(graph, verifier, runner)
        self.notices += runner.notices
        self.notices += check_notices(verifier, self.samples, self.target, runner, self.stand_in)
        self._stamp(graph)
        report = Report(
            graphopt=VERSION,
            versions=versions(),
            machine=machine(),
            target=self.target.name,
            source=facts(self.original, self.name),
            result=facts(graph, ""),
            recipe=write_recipe(self._written_recipe()),
            passes=tuple(runner.records),
            operators=operators(verifier.open(graph)[1], context),
            figures=figures(self.original, graph, context, measured),
            candidates=self.candidates,
            explanations=tuple(context.explanations.values()),
            notices=tuple(self.notices),
            calibration=calibration_record(
                self.samples, self.recipe, context.find_observer, self.stand_in
            ),
            precision=self.precision,
            pruning=self.pruning,
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
        stated = Stated(self.recipe.limits, self.samples, self.registry, self.measure)
        kept = stated.keep(steps, graph, context, verifier, self.candidates)
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
        self.notices.append(
            Notice(
                "W501",
                f"the compiled model ran at {timed.ratio:.2f} times the speed of the original; "
                "the original was kept",
                "run again on an idle machine, or compile for a named target",
            )
        )
        # What repeats this result is to leave the model alone.
        self.recipe = dataclasses.replace(self.recipe, passes=())
        kept = self.original.copy()
        return kept, time_against(verifier.original, verifier.open(kept)[0], feeds)

    def _take_back_plan(self, runner: Runner, timed: Timed) -> None:
        """Record that the plan that won its race lost against the original."""
        why = f"{timed.ratio:.2f} x the speed of the original when timed against it"
        self.candidates = tuple(
            dataclasses.replace(c, chosen=c.placement == FLOAT, why=why if c.chosen else c.why)
            for c in self.candidates
        )
        names = {step.name for step in self.planned}
        runner.records = [
            dataclasses.replace(r, status="rolled back", reason=why)
            if r.name in names and r.status == "changed"
            else r
            for r in runner.records
        ]
        self._settle(Plan.closed(self.planned).steps)

    def _settle(self, steps: Sequence[Pass]) -> None:
        """Write the options of passes that were left open into the recipe."""
        settled = {s.name: settled_options(s) for s in steps}
        entries = tuple(
            PassEntry(e.use, {**e.options, **settled.get(e.use, {})}) for e in self.recipe.passes
        )
        self.recipe = dataclasses.replace(self.recipe, passes=entries)

    def _written_recipe(self) -> Recipe:
        """Return the recipe that repeats this compile."""
        calibration = self.recipe.calibration
        if self.samples is not None and calibration.data is None:
            origin = self.samples.calibration.origin
            if Path(origin).exists():
                calibration = dataclasses.replace(calibration, data=origin)
        return dataclasses.replace(self.recipe, calibration=calibration)

    def _stamp(self, graph: Graph) -> None:
        graph.metadata["graphopt.version"] = VERSION
        graph.metadata["graphopt.target"] = self.target.name

    def _dump(self, name: str, graph: Graph) -> None:
        assert self.dump is not None
        after, folder = self.dump
        if name == after:
            folder.mkdir(parents=True, exist_ok=True)
            ir.write_whole(folder / f"{after}.txt", ir.to_text(graph).encode())
