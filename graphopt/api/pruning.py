"""The part of a compile that removes units, when a goal is stated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.errors import PassError
from graphopt.passes.prune.prune_channels import PruneChannels, prunes
from graphopt.planner.pruning import choose_pruning

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """
    position = next((i for i, step in enumerate(steps) if prunes([step])), None)
    if position is None:
        return Pruned(steps)
    runner.run(graph, steps[:position])
    step, rest = steps[position], steps[position + 1 :]
    assert isinstance(step, PruneChannels)
    fitting = dataclasses.replace(context, dataset=samples)
    record = None
    if not step.widths and not step.branches:
        if context.observe is not None:
            context.observe.pass_started("(pruning)")
        decision = choose_pruning(graph, step, fitting, measure=measure, original=original)
        step, record = decision.step, decision.record
    runner.context = fitting
    runner.run_one(graph, step)
    runner.context = context
    done = runner.records[-1]
    if done.status == "rolled back":
        notice = runner.notices[-1]
        reason = done.reason or notice.message
        raise PassError(reason, code=notice.code, where="`prune-channels`", hint=notice.hint)
    if record is not None:
        record = dataclasses.replace(record, divergence=done.metrics.get("divergence"))
    return Pruned(rest, step, record)
