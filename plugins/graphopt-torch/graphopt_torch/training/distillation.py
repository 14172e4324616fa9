"""Distillation of one graph: what is needed is put together, settled, trained and written back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.passes.prune.result_cache import Result, content_key, kept_result
from graphopt_torch.training.checkpoint import Checkpoint
from graphopt_torch.training.reproducible import best_device, reproducible
from graphopt_torch.training.school import School
from graphopt_torch.training.settlement import Settlement, settle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt_torch.distill_weights import DistillWeights
    from graphopt_torch.training.loop import Trained

_SAME = 1e-9
"""Divergence of models that are the same but for rounding: there is nothing to learn."""


def distill(graph: Graph, context: Context, asked: DistillWeights) -> PassResult:
    """Train ``graph`` as a pass asks, or take what the same training gave before.

    Args:
        graph: gets other values for what it stores; nothing else changes.
        context: of the pass.
        asked: its options; a budget is among them.
    """
    device = best_device()
    options = dataclasses.replace(asked, threads=asked.threads or torch.get_num_threads())
    lesson = _Lesson(graph, context, device)
    made = kept_result(lesson.key(options), context, lambda: lesson.made(options))
    found = made.metrics
    changed = bool(found["tensors changed"])
    if changed:
        _take_over(made.graph, graph)
    settled = _settled(options, found) if found["steps"] else {}
    return PassResult(changed, _notes(found), dict(found), settled)


@dataclass(frozen=True)
class _Lesson:
    """What is trained, and where; the options are not settled yet."""

    graph: Graph
    context: Context
    device: str

    def key(self, options: DistillWeights) -> str:
        """Return what results and checkpoints are kept under."""
        teacher = ir.structural_hash(self.context.original)
        facts = ("distill-weights", options, teacher, torch.__version__, self.device)
        return content_key(self.graph, self.context, *facts)

    def made(self, options: DistillWeights) -> Result:
        """Settle what the options leave open, and return what comes of that."""
        with reproducible(options.threads, self.device):
            graph = self.graph.copy()
            school = School.of(graph, self.context, options, self.device)
            before = school.judge()
            if before <= _SAME:
                return Result(graph, {}, _facts(before, before, Settlement(0, 0.0, 0), 0))
            decision = Checkpoint.of(f"{self.key(options)}-settled")
            plan = settle(school, options, decision, self.context)
            settled = dataclasses.replace(
                options, minutes=0.0, steps=plan.steps, rate=plan.rate, batch=plan.batch
            )
            key = self.key(settled)
            if settled == options:
                made = self._trained(graph, school, plan, key)
            else:  # The recipe that repeats this asks for it in other words.
                made = kept_result(
                    key, self.context, lambda: self._trained(graph, school, plan, key)
                )
            decision.discard()
            return made

    def _trained(self, graph: Graph, school: School, plan: Settlement, key: str) -> Result:
        checkpoint = Checkpoint.of(key)
        trained = school.train(plan, checkpoint, self.context)
        written = school.weights.write(graph) if trained.is_better else 0
        checkpoint.discard()
        return Result(graph, {}, _facts(trained.before, trained.after, plan, written, trained))


def _settled(options: DistillWeights, found: Mapping[str, float]) -> dict[str, Any]:
    """Return the options that repeat a training exactly."""
    return {
        "minutes": 0.0,
        "steps": int(found["steps"]),
        "rate": found["rate"],
        "batch": int(found["batch"]),
        "threads": options.threads,
    }


def _facts(
    before: float, after: float, plan: Settlement, written: int, trained: Trained | None = None
) -> dict[str, float]:
    return {
        "divergence": after,
        "divergence before": before,
        "steps": float(plan.steps),
        "steps taken": float(trained.steps) if trained is not None else 0.0,
        "rate": plan.rate,
        "batch": float(plan.batch),
        "tensors changed": float(written),
    }


def _notes(found: Mapping[str, float]) -> tuple[str, ...]:
    before, after = found["divergence before"], found["divergence"]
    if not found["steps"]:
        return ("the outputs are those of the original: there is nothing to learn",)
    made = found.get("synthetic samples", 0.0)
    told = (f"no data: {made:.0f} synthetic samples, from BatchNormalization",) if made else ()
    if not found["tensors changed"]:
        return (
            f"left as it was: {found['steps taken']:.0f} steps made nothing better than "
            f"a divergence of {before:.3g}",
            *told,
        )
    return (
        counted(int(found["steps taken"]), "step", f"at a rate of {found['rate']:g}"),
        f"outputs diverge by {after:.3g} instead of {before:.3g} on samples not trained on",
        *told,
    )


def _take_over(made: Graph, graph: Graph) -> None:
    """Put the values that a copy stores into the graph, where they are others."""
    for value in graph.initializers:
        stored = made.value(value.name).stored
        if stored is None or value.stored is None or stored.digest() == value.stored.digest():
            continue
        graph.set_tensor(value, stored)
