"""A training with gates: what it needs, and what its units are scored on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from graphopt_torch.distill_weights import DistillWeights
from graphopt_torch.training.school import School

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from torch import Tensor

    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt_torch.pruning.sites import Site
    from graphopt_torch.teaching import Objective

SLOW = {"weight scales": 0.1, "activation scales": 0.1}
"""Factors of the rate: the gradient of a scale is a sum over a whole tensor."""


class Options(Protocol):
    """The options that passes which train and prune have in common."""

    @property
    def minutes(self) -> float:
        """To spend, all together."""

    @property
    def steps(self) -> int:
        """To take, all together; 0 where ``minutes`` says it."""

    @property
    def share(self) -> float:
        """Share of the steps in which it is decided what goes."""

    @property
    def augment(self) -> str:
        """How samples are altered."""

    @property
    def learn_scales(self) -> bool:
        """Whether scales of quantizers are trained."""

    @property
    def batch(self) -> int:
        """Samples of a step; 0 for what memory allows."""

    @property
    def threads(self) -> int:
        """Of the processor; 0 for all."""


def lesson_for(
    graph: Graph, context: Context, sites: Sequence[Site], options: Options, device: str
) -> School:
    """Return what the training of a graph needs, the original being the teacher.

    What is inside a group that will lose units is not compared with the teacher.

    Args:
        graph: that is trained; with shapes.
        context: has the original and the data.
        sites: groups that will lose units.
        options: of the pass.
        device: "cpu" or "cuda".
    """
    school = School.of(graph, context, distilling(options), device)
    school.objective = _without(school.objective, sites)
    return school


def distilling(options: Options, *, minutes: float = 0.0, steps: int = 0) -> DistillWeights:
    """Return the pass that trains without pruning, with the same options and its own budget."""
    return DistillWeights(
        minutes=minutes,
        steps=steps,
        augment=options.augment,
        learn_scales=options.learn_scales,
        batch=options.batch,
        threads=options.threads,
    )


def probes(school: School, count: int, seed: int) -> Iterator[Mapping[str, Tensor]]:
    """Yield what is run at once of so many batches, unaltered."""
    batches = school.samples.batches(school.batch, seed)
    for _ in range(count):
        for feed in school.samples.feeds(next(batches)):
            yield {name: values.to(school.device) for name, values in feed.items()}


def _without(objective: Objective, sites: Collection[Site]) -> Objective:
    """Return an objective that does not compare tensors of which units go."""
    inside = {axis.value.name for site in sites for axis in site.group.axes}
    left = tuple(each for each in objective.features if each.found not in inside)
    weight = objective.feature_weight if left else 0.0
    return dataclasses.replace(objective, features=left, feature_weight=weight)
