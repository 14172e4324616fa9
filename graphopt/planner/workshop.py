"""Makes candidates: runs a plan on a copy of the graph and compares it with the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.report import CandidateRecord
from graphopt.runtime import open_session
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.planner.plan import Plan
    from graphopt.recipe import Limits
    from graphopt.runtime import Session

_SNR_SAMPLES = 8


@dataclass(frozen=True)
class Candidate:
    """One plan, made: its graph, and how far its outputs are from the original's."""

    plan: Plan
    graph: Graph
    session: Session
    snr_db: float | None

    @property
    def label(self) -> str:
        """How reports call it."""
        return self.plan.label


class Workshop:
    """Makes candidates of one graph; what was made before, or is too noisy, is not made."""

    def __init__(
        self, graph: Graph, context: PipelineContext, verifier: Verifier, limits: Limits
    ) -> None:
        self.graph = graph
        self.context = context
        self.verifier = verifier
        self.limits = limits
        self.rejected: list[CandidateRecord] = []
        self._seen = {ir.structural_hash(graph)}

    def make(self, plan: Plan, *, rounding: str = "balanced") -> Candidate | None:
        """Return the candidate of a plan; None when it is nothing new, or too noisy.

        Weights are rounded the quick way unless told otherwise: it changes neither speed nor, by
        much, which candidate is nearer to the original.
        """
        made = self.graph.copy()
        # What a trial says about nodes is not what will be done to them.
        with self.context.without_explanations():
            for step in plan.having(InsertQdq.name, rounding=rounding).steps:
                self._run(step, made)
        made.sort()
        digest = ir.structural_hash(made)
        if digest in self._seen:
            return None
        self._seen.add(digest)
        session = open_session(made, target=self.verifier.target)
        snr = None if plan.is_exact else self.verifier.snr(session, _SNR_SAMPLES)
        limit = self.limits.min_snr_db
        if snr is not None and not snr >= limit:
            why = f"below the limit of {limit:g} dB"
            self.rejected.append(CandidateRecord(plan.label, None, "measured", snr, False, why))
            return None
        return Candidate(plan, made, session, snr)

    def snr(self, candidate: Candidate) -> float:
        """Return the signal-to-noise ratio of a candidate on all held-out samples, in dB."""
        found = self.verifier.snr(candidate.session)
        return found if found is not None else 0.0

    def prepared(self, plan: Plan) -> Graph:
        """Return the graph as InsertQdq finds it under a plan, with shapes."""
        made = self.graph.copy()
        with self.context.without_explanations():
            for step in plan.steps:
                if isinstance(step, InsertQdq):
                    break
                self._run(step, made)
        made.sort()
        ir.infer_shapes(made)
        return made

    def _run(self, step: Pass, made: Graph) -> None:
        self.context.running = step.name
        before = ir.structural_hash(made)
        step.run(made, self.context)
        if step.effect is Effect.EXACT:
            self.context.carry_ranges(before, ir.structural_hash(made))
