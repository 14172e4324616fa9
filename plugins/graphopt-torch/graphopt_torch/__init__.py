"""Training without labels for graphopt: what was compressed learns from the original model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from graphopt.passes.base import Pass


@hookimpl
def graphopt_register_passes() -> list[type[Pass]]:
    """Return the passes that train; none of their modules imports torch before it is run."""
    from graphopt_torch.distill_weights import DistillWeights
    from graphopt_torch.learn_widths import LearnWidths
    from graphopt_torch.prune_while_training import PruneWhileTraining

    return [DistillWeights, LearnWidths, PruneWhileTraining]
