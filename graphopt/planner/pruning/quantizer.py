"""Quantizes candidates of a search as the compile would, with decisions taken once.

Where operators run in integers is decided for the model from which nothing was removed. Every
candidate is then quantized in the same way, with ranges of its own: what it is worth in integers is
asked of it, not of its float form.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.calibration.collect import collect
from graphopt.calibration.dataset import take
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.pipeline import PipelineContext
from graphopt.planner.choice import choose_plan
from graphopt.planner.plan import is_open, open_section
from graphopt.runtime import IntermediateTensors
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.calibration.collect import Collected
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import Verifier
    from graphopt.recipe import Limits

SAMPLES = 32
"""Calibration samples that the ranges of a candidate are measured on."""
_FEW = 2
"""The same for a candidate that is only timed: integers take as long whatever they stand for."""
_SECONDS = 1.0


class _Trying(PipelineContext):
    """A context whose ranges are of one candidate, and are kept for nobody."""

    def _collect(self, graph: Graph, model_hash: str, names: Sequence[str]) -> Collected:
        assert self.dataset is not None
        return collect(IntermediateTensors(graph, names), self.dataset, self.observer, names)


@dataclass(frozen=True)
class Quantizer:
    """Makes the quantized form of a graph.

    Args:
        steps: what the recipe runs behind pruning, every option settled.
        context: of the compile.
        samples: how many the ranges of a candidate are measured on, at most.
    """

    steps: tuple[Pass, ...]
    context: PipelineContext
    samples: int = SAMPLES

    @property
    def roughly(self) -> Quantizer:
        """The same for candidates whose outputs do not matter."""
        return dataclasses.replace(self, samples=_FEW)

    @property
    def identity(self) -> str:
        """Hash of everything that a quantized form depends on beside the graph."""
        told = f"{self.context.identity} {self.samples} {self.context.observer!r} {self.steps!r}"
        return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()

    def __call__(self, graph: Graph) -> Graph:
        """Return a graph as the steps leave it; ``graph`` is not changed."""
        return self._ran(graph)[0]

    def quantizes(self, graph: Graph) -> bool:
        """Whether any approximate step changes a graph: otherwise it stays in float."""
        return self._ran(graph)[1]

    def _ran(self, graph: Graph) -> tuple[Graph, bool]:
        made = graph.copy()
        context = _trying(self.context, self.samples)
        changed = False
        for step in self.steps:
            context.running = step.name
            result = step.run(made, context)
            made.sort()
            changed |= result.modified and step.effect is Effect.APPROXIMATE
        return made, changed


def settle_quantization(
    graph: Graph,
    steps: Sequence[Pass],
    context: PipelineContext,
    verifier: Verifier,
    limits: Limits,
    *,
    measure: bool,
) -> Quantizer | None:
    """Return what quantizes as the compile would; None where it would leave the model in float.

    Args:
        graph: before anything is removed; not changed.
        steps: what the recipe runs behind pruning.
        context: of the compile.
        verifier: compares with the original.
        limits: of the recipe.
        measure: whether integer and float operators are timed against each other on this machine.
    """
    if not context.has_data:
        return None
    start, end = open_section(steps)
    made = Quantizer(tuple(steps[:start]), context)(graph)
    planned = tuple(steps[start:end])
    if any(map(is_open, planned)):
        trying = _trying(context, SAMPLES)
        planned = choose_plan(
            made, planned, trying, verifier, limits, measure=measure, seconds=_SECONDS
        ).steps
    settled = (*steps[:start], *planned, *steps[end:])
    quantizer = Quantizer(tuple(map(_quick, settled)), context)
    return quantizer if quantizer.quantizes(graph) else None


def _trying(context: PipelineContext, samples: int) -> PipelineContext:
    assert context.dataset is not None
    fields = {f.name: getattr(context, f.name) for f in dataclasses.fields(context)}
    few = take(context.dataset, samples)
    kept: dict[str, Any] = {name: {} for name in ("explanations", "_collected", "_remembered")}
    return _Trying(**fields | kept | {"dataset": few, "observe": None})


def _quick(step: Pass) -> Pass:
    """Return a pass that rounds weights the simple way: which candidate is better stays so."""
    if isinstance(step, InsertQdq) and step.rounding != "balanced":
        return dataclasses.replace(step, rounding="balanced")
    return step
