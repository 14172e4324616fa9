"""The part of a compile that removes units, when a goal is stated."""

from __future__ import annotations

import dataclasses
import math
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.api.budget import planning_failed
from graphopt.api.recovery import is_training, without_training
from graphopt.errors import DataError, PassError, RecipeError
from graphopt.passes.prune.goal import COUNTED, Goal
from graphopt.passes.prune.prune_channels import (
    PRUNE_FIRST,
    QUANTIZE_FIRST,
    PruneChannels,
    prunes,
)
from graphopt.passes.prune.unquantized import unquantized
from graphopt.pipeline.runner import check_divergence
from graphopt.planner.pruning import Quantizer, choose_pruning, settle_quantization

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from graphopt.calibration.base import Dataset
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Runner
    from graphopt.report import PruningRecord


@dataclass(frozen=True)
class Pruned:
    """What became of the passes up to the one that prunes.

    Args:
        rest: the passes that are still to be run.
        step: the pass with every option settled; None where nothing was to be pruned.
        record: what its options rest on; None where they were stated.
    """

    rest: Sequence[Pass]
    step: PruneChannels | None = None
    record: PruningRecord | None = None


def run_pruning(
    graph: Graph,
    steps: Sequence[Pass],
    context: PipelineContext,
    runner: Runner,
    samples: Dataset | None,
    *,
    measure: bool,
    original: Graph,
) -> Pruned:
    """Run the passes up to the one that prunes, with that, in place.

    Args:
        graph: what the passes work on.
        steps: of the whole recipe.
        context: of the compile.
        runner: runs, checks and records passes.
        samples: what layers are fitted to; None without data and without a stand-in for them.
        measure: whether time is measured on this machine.
        original: the model as it was given, which shares are of.

    Raises:
        PassError: G307 to G309, the stated goal was not reached: nothing was removed.
        RecipeError: G103, another pass behind the first that prunes states a goal.
    """
    position = next((i for i, step in enumerate(steps) if prunes([step])), None)
    if position is None:
        return Pruned(steps)
    runner.run(graph, steps[:position])
    step, rest = steps[position], steps[position + 1 :]
    assert isinstance(step, PruneChannels)
    _demand_one_goal(rest)
    fitting = dataclasses.replace(context, dataset=samples)
    record = None
    if not step.widths and not step.branches:
        if context.observe is not None:
            context.observe.pass_started("(pruning)")
        bare = unquantized(graph, fitting)
        if bare is not None and step.order == PRUNE_FIRST:
            # It is quantized already: that order is the one that is left.
            step = dataclasses.replace(step, order=QUANTIZE_FIRST)
        searched = graph if bare is None else bare
        quantize = _quantizer(searched, step, rest, context, runner, measure=measure)
        decision = choose_pruning(
            searched, step, fitting, measure=measure, original=original, quantize=quantize
        )
        step, record = decision.step, decision.record
    trained = [s for s in rest[:1] if is_training(s)]
    runner.context = fitting
    with _no_limit(runner) if trained else nullcontext():
        runner.run_one(graph, step)
    runner.context = context
    done = runner.records[-1]
    if done.status == "rolled back":
        notice = runner.notices[-1]
        reason = done.reason or notice.message
        raise PassError(reason, code=notice.code, where="`prune-channels`", hint=notice.hint)
    if record is not None:
        record = dataclasses.replace(record, divergence=done.metrics.get("divergence"))
    if trained:
        _recover(graph, trained[0], runner, done.metrics.get("divergence"))
    return Pruned(rest[len(trained) :], step, record)


@contextmanager
def _no_limit(runner: Runner) -> Iterator[None]:
    """Let outputs diverge inside the block: what they do in the end is what counts."""
    stated = runner.limits
    runner.limits = dataclasses.replace(stated, max_divergence=math.inf)
    try:
        yield
    finally:
        runner.limits = stated


def _recover(graph: Graph, step: Pass, runner: Runner, before: float | None) -> None:
    """Train what is left, in place; raises PassError G307 when the outputs still diverge too far.

    Args:
        graph: was pruned.
        step: trains it.
        runner: runs, checks and records passes.
        before: divergence of the outputs as they are.
    """
    with _no_limit(runner):
        runner.run_one(graph, step)
    done = runner.records[-1]
    after = done.metrics.get("divergence", before) if done.status == "changed" else before
    check_divergence(after, runner.limits, "prune-channels", " even after training")


def _demand_one_goal(rest: Sequence[Pass]) -> None:
    """Raise RecipeError G103 when a goal is stated behind the pass that prunes."""
    if any(isinstance(step, PruneChannels) and step.to for step in rest):
        raise RecipeError(
            "the recipe prunes twice, and the second time to a goal",
            code="G103",
            where="`prune-channels`",
            hint="state one goal, in the first `prune-channels`",
        )


def _quantizer(
    graph: Graph,
    step: PruneChannels,
    rest: Sequence[Pass],
    context: PipelineContext,
    runner: Runner,
    *,
    measure: bool,
) -> Quantizer | None:
    """Return what quantizes candidates where the order asks for it, and the recipe does it."""
    if step.order == PRUNE_FIRST or Goal.parse(step.to).metric in COUNTED:
        return None
    try:
        return settle_quantization(
            graph, without_training(rest), context, runner.verifier, runner.limits, measure=measure
        )
    except DataError:
        raise
    except Exception as error:
        # The pass will meet the same fault where it is named, rolled back, or strict.
        runner.notices.append(planning_failed(error))
        context.log.debug("quantizing candidates failed", exc_info=error)
        return None
