"""Runs passes one after the other; every change is verified before the next pass sees it."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.errors import GraphOptError, PassError
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
        """Run ``passes`` in order."""
        for step in passes:
            self.run_one(graph, step)

    def run_one(self, graph: Graph, step: Pass) -> None:
        """Run one pass: verify what it did, keep it or roll it back."""
        if self.observe is not None:
            self.observe.pass_started(step.name)
        started = time.perf_counter()
        backup, before = graph.copy(), ir.structural_hash(graph)
        self.context.running = step.name
        try:
            record = self._attempt(graph, step, before)
        except Exception as raised:
            error = as_pass_error(raised, step.name, self.provider_of(step.name))
            if self.strict:
                raise error from raised
            graph.assign(backup)
            record = self._rolled_back(step, error)
        record = dataclasses.replace(record, seconds=time.perf_counter() - started)
        self.records.append(record)
        if record.status == "changed" and self.after_pass is not None:
            self.after_pass(step.name, graph)
        if self.observe is not None:
            self.observe.pass_finished(record)

    def _attempt(self, graph: Graph, step: Pass, before: str) -> PassRecord:
        result = step.run(graph, self.context)
        try:
            graph.sort()
        except GraphOptError as error:
            raise _illegal(step, error) from error
        changed = ir.structural_hash(graph) != before
        if changed and not result.modified:
            raise PassError(
                f"`{step.name}` changed the graph but reported that it had not", code="G305"
            )
        record = PassRecord(
            step.name,
            step.effect.value,
            _options(step),
            "changed" if changed else "unchanged",
            0.0,
            tuple(result.notes),
            dict(result.metrics),
        )
        return self._verified(graph, step, record, before) if changed else record

    def _verified(self, graph: Graph, step: Pass, record: PassRecord, before: str) -> PassRecord:
        try:
            ir.verify(graph)
        except GraphOptError as error:
            raise _illegal(step, error) from error
        if step.effect is Effect.EXACT:
            check = self.verifier.check_exact(graph)
            self.verifier.demand_exact(check, self.limits.max_relative_error, step.name)
            self.verifier.census = check.census
            self.context.carry_ranges(before, ir.structural_hash(graph))
            return dataclasses.replace(record, max_error=check.max_error)
        session, _ = self.verifier.open(graph)
        found = self.verifier.snr(session)
        if step.effect is Effect.REDUCED:
            check_divergence(record.metrics.get("divergence"), self.limits, step.name)
            self.verifier.take_as_reference(graph)
        else:
            self.verifier.demand_snr(found, self.limits.min_snr_db, step.name)
        return dataclasses.replace(record, snr_db=found)

    def _rolled_back(self, step: Pass, error: GraphOptError) -> PassRecord:
        notice = Notice(error.code, f"{error.message}; it was rolled back", error.hint)
        self.notices.append(notice)
        return PassRecord(
            step.name,
            step.effect.value,
            _options(step),
            "rolled back",
            0.0,
            reason=error.message,
        )


def check_divergence(found: float | None, limits: Limits, name: str) -> None:
    """Raise PassError G307 when a pass that removes units went too far.

    Args:
        found: divergence on samples that nothing was fitted to; None without data.
        limits: the largest that is allowed.
        name: of the pass.
    """
    if found is not None and not found <= limits.max_divergence:
        raise PassError(
            f"`{name}` left outputs that diverge by {found:.2f}, limit {limits.max_divergence:g}",
            code="G307",
            hint="ask for less, give more data, or --set limits.max-divergence=… to have it anyway",
        )


def _illegal(step: Pass, error: GraphOptError) -> PassError:
    return PassError(f"`{step.name}` left an illegal graph: {error.message}", code="G302")


def _options(step: Pass) -> dict[str, Any]:
    return dataclasses.asdict(step) if dataclasses.is_dataclass(step) else {}
