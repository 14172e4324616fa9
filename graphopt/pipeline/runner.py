"""Runs passes one after the other; nothing that they do is kept before it has been verified."""

from __future__ import annotations

import dataclasses
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.errors import PassError
from graphopt.pipeline.batch import ExactBatch, Trial, notice_of
from graphopt.pipeline.state import State, apply, options_of
from graphopt.pipeline.verifier import as_pass_error
from graphopt.report import Notice, PassRecord
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline.context import PipelineContext
    from graphopt.pipeline.verifier import Verifier
    from graphopt.recipe import Limits
    from graphopt.report import Observe


@dataclass
class Runner:
    """Applies passes to a graph in place and records what became of each.

    Exact passes that follow each other are checked together, and one by one where that fails; all
    others, and all where ``strict``, are checked one by one.

    Args:
        context: what the passes are given.
        verifier: holds the original to compare with.
        limits: tolerances and budgets.
        strict: stop at the first pass that fails, instead of rolling it back.
        provider_of: names who ships a pass.
        after_pass: called with the pass's name and the graph after each accepted pass.
    """

    context: PipelineContext
    verifier: Verifier
    limits: Limits
    strict: bool = False
    provider_of: Callable[[str], str] = lambda _: "graphopt"
    after_pass: Callable[[str, Graph], None] | None = None
    records: list[PassRecord] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    @property
    def observe(self) -> Observe | None:
        """Who is told about progress."""
        return self.context.observe

    def run(self, graph: Graph, passes: Sequence[Pass]) -> None:
        """Run ``passes`` in order.

        Raises:
            GraphOptError: the first fault where ``strict``; always G310, what a pass did cannot be
                undone.
        """
        for together, group in itertools.groupby(passes, key=self._is_batched):
            if together:
                self._run_batch(graph, list(group))
            else:
                for step in group:
                    self._run_alone(graph, step)

    def run_one(self, graph: Graph, step: Pass) -> None:
        """Run one pass: verify what it did, keep it or roll it back."""
        self.run(graph, [step])

    def _is_batched(self, step: Pass) -> bool:
        return step.effect is Effect.EXACT and not self.strict

    def _run_batch(self, graph: Graph, steps: Sequence[Pass]) -> None:
        batch = ExactBatch(
            self.context,
            self.verifier,
            self.limits.max_relative_error,
            self.provider_of,
            self._started,
            self._settled,
        )
        batch.run(graph, steps)

    def _run_alone(self, graph: Graph, step: Pass) -> None:
        self._started(step.name)
        started = time.perf_counter()
        before = State.of(graph)
        settled: dict[str, Any] = {}
        try:
            record, after = apply(graph, step, self._context_of(step), before.digest)
            settled = record.settled
            state: State | None = None
            if record.status == "changed":
                record = self._verified(graph, step, record)
                state = State.of(graph, after) if self.after_pass is not None else None
            trial = Trial(step, record, state)
        except Exception as raised:
            error = as_pass_error(raised, step.name, self.provider_of(step.name))
            if self.strict:
                raise error from raised
            before.restore(graph, step.name)
            record = PassRecord(
                step.name,
                step.effect.value,
                options_of(step),
                "rolled back",
                0.0,
                reason=error.message,
                settled=settled,
            )
            trial = Trial(step, record, None, error)
        record = dataclasses.replace(trial.record, seconds=time.perf_counter() - started)
        self._settled(dataclasses.replace(trial, record=record))

    def _context_of(self, step: Pass) -> PipelineContext:
        """Return what a pass is given: what changes the function is fitted to more samples."""
        return self.context.fitting if step.effect is Effect.REDUCED else self.context

    def _verified(self, graph: Graph, step: Pass, record: PassRecord) -> PassRecord:
        if step.effect is Effect.EXACT:
            limit = self.limits.max_relative_error
            check = self.verifier.check_exact(graph, limit)
            self.verifier.demand_exact(check, limit, step.name)
            self.verifier.census = check.census
            return dataclasses.replace(record, max_error=check.max_error)
        session, _ = self.verifier.open(graph)
        found = self.verifier.snr(session)
        if step.effect is Effect.REDUCED:
            if not _brought_nearer(record):
                check_divergence(record.metrics.get("divergence"), self.limits, step.name)
            self.verifier.take_as_reference(graph)
        else:
            self.verifier.demand_snr(found, self.limits.min_snr_db, step.name)
        return dataclasses.replace(record, snr_db=found)

    def _started(self, name: str) -> None:
        if self.observe is not None:
            self.observe.pass_started(name)

    def _settled(self, trial: Trial) -> None:
        notice = notice_of(trial)
        if notice is not None:
            self.notices.append(notice)
        self.records.append(trial.record)
        if trial.state is not None and self.after_pass is not None:
            self.after_pass(trial.step.name, trial.state.graph)
        if self.observe is not None:
            self.observe.pass_finished(trial.record)


def _brought_nearer(record: PassRecord) -> bool:
    """Whether a pass left outputs nearer to the original's: how far they are is not its fault."""
    before, after = (record.metrics.get(f"divergence{when}") for when in (" before", ""))
    return before is not None and after is not None and after <= before


def check_divergence(found: float | None, limits: Limits, name: str, when: str = "") -> None:
    """Raise PassError G307 when a pass that removes units went too far.

    Args:
        found: divergence on samples that nothing was fitted to; None without data.
        limits: the largest that is allowed.
        name: of the pass.
        when: that was measured, with a space before it, for the message.
    """
    if found is not None and not found <= limits.max_divergence:
        raise PassError(
            f"`{name}` left outputs that diverge by {found:.2f}{when}, "
            f"limit {limits.max_divergence:g}",
            code="G307",
            hint="ask for less, give more data, or --set limits.max-divergence=… to have it anyway",
        )
