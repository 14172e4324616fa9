"""Makes models of one graph by settled passes, and says what they cost and how noisy they are."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.planner.assignment.precisions import gives_precision
from graphopt.runtime import open_session
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.base import Estimate
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Verifier

_HELD = 2
"""Models that are kept to be asked about again."""


class Workbench:
    """Runs passes on copies of one graph; estimates of the same passes are not made again.

    Args:
        graph: ready for the first of ``steps``; not changed.
        steps: settled; those before the first that gives a precision are run once.
        context: has the calibrated ranges and the cost model.
        verifier: compares with the original.
    """

    def __init__(
        self, graph: Graph, steps: Sequence[Pass], context: PipelineContext, verifier: Verifier
    ) -> None:
        self.context = context
        self.verifier = verifier
        self.steps = tuple(steps)
        self.models = 0
        self._made: dict[tuple[Pass, ...], Graph] = {}
        self._costs: dict[tuple[Pass, ...], Estimate] = {}
        # What comes before says how channels are scaled and padded, whatever their precision.
        self._first = next((i for i, s in enumerate(steps) if gives_precision(s)), len(self.steps))
        self.float = self._run(graph.copy(), self.steps[: self._first])
        ir.infer_shapes(self.float)

    def made(self, steps: Sequence[Pass]) -> Graph:
        """Return the model that these passes make, weights rounded the quick way."""
        key = tuple(_quick(s) for s in steps[self._first :])
        if key not in self._made:
            self.models += 1
            while len(self._made) >= _HELD:
                del self._made[next(iter(self._made))]
            self._made[key] = self._run(self.float.copy(), key)
        return self._made[key]

    def cost(self, steps: Sequence[Pass]) -> Estimate:
        """Return what the cost model says of that model."""
        key = tuple(_quick(s) for s in steps[self._first :])
        if key not in self._costs:
            self._costs[key] = self.estimate(self.made(steps))
        return self._costs[key]

    def estimate(self, graph: Graph) -> Estimate:
        """Return what the cost model says of any graph."""
        return self.context.cost.estimate(graph, self.context.target)

    def latency_ms(self, steps: Sequence[Pass]) -> float:
        """Return the predicted latency of that model."""
        return self.cost(steps).latency_ms.value

    def snr_db(self, steps: Sequence[Pass]) -> float:
        """Return how far that model's outputs are from the original's on held-out samples."""
        found = self.verifier.snr(open_session(self.made(steps), target=self.verifier.target))
        return math.inf if found is None else found

    def _run(self, graph: Graph, steps: Sequence[Pass]) -> Graph:
        for step in steps:
            self.context.running = step.name
            before = ir.structural_hash(graph)
            with self.context.without_explanations():
                step.run(graph, self.context)
            if step.effect is Effect.EXACT:
                self.context.carry_ranges(before, ir.structural_hash(graph))
        graph.sort()
        return graph


def _quick(step: Pass) -> Pass:
    """Return a pass that rounds weights the simple way, which is no more accurate."""
    if not isinstance(step, InsertQdq):
        return step
    return dataclasses.replace(step, rounding="balanced")
