"""What the outputs lose when half of a group goes: a first look at every group, before a search."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from graphopt.passes.prune.importance.evidence import evidence_for
from graphopt.passes.prune.importance.selection import nested_choices
from graphopt.passes.prune.narrow import consumers_of, narrowed
from graphopt.passes.prune.reconstruct.moments import moments_of
from graphopt.passes.prune.reconstruct.products import refit_consumers
from graphopt.passes.prune.samples import is_fitted, is_scored
from graphopt.planner.pruning.scores import Scorer
from graphopt.planner.pruning.sites import widths_of

if TYPE_CHECKING:
    from graphopt.analysis.coupling import Coupling
    from graphopt.ir import Graph
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.pipeline import PipelineContext

_SAMPLES = 32
"""Samples that divergences are measured on, at most."""


@dataclass(frozen=True)
class Half:
    """A group with about half of its units.

    Args:
        width: how many are left.
        divergence: of the outputs, on samples that nothing was fitted to.
        samples: how many those were.
    """

    width: int
    divergence: float
    samples: int


def divergence_of_halves(
    graph: Graph, coupling: Coupling, context: PipelineContext, criterion: Importance
) -> dict[str, Half]:
    """Return what each group loses at the width nearest to half, by name; {} without samples.

    The units that matter least are removed from one group at a time, and what reads the others is
    fitted to the original.

    Args:
        graph: with its shapes; not changed.
        coupling: of the graph.
        context: runs the data.
        criterion: says which units matter least.
    """
    chosen = {group.name: _half(widths_of(group), group.size) for group in coupling.groups}
    groups = [group for group in coupling.groups if chosen[group.name]]
    dataset = context.dataset
    if dataset is None or not groups:
        return {}
    scored = (feed for sample, feed in enumerate(dataset) if is_scored(sample))
    feeds = list(islice(scored, _SAMPLES))
    if not feeds:
        return {}
    scorer = Scorer(graph, feeds)
    moments = moments_of(graph, consumers_of(groups), context, is_fitted)
    found: dict[str, Half] = {}
    for group in context.progress(groups, len(groups), "halving groups"):
        width = chosen[group.name]
        evidence = evidence_for(group, moments, context.seed)
        (keep,) = nested_choices(evidence, criterion, [width], group.cells)
        cut = coupling.cut({group.name: keep})
        made = narrowed(graph, cut, context)
        refit_consumers(graph, made, cut, moments)
        found[group.name] = Half(width, scorer.divergence(made), scorer.samples)
    return found


def _half(widths: tuple[int, ...], size: int) -> int:
    """Return the width nearest to half of the units, the smaller of two; 0 where there is none."""
    return min(widths, key=lambda width: (abs(2 * width - size), width), default=0)
