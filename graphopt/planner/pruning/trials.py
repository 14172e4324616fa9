"""What each option loses and gains: every one is made on its own, scored and timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from graphopt.analysis.branches import Branch, residual_branches
from graphopt.passes.prune.branches.fit import Fitted, fit_branches
from graphopt.passes.prune.branches.linear import Kind
from graphopt.passes.prune.branches.options import branch_options
from graphopt.passes.prune.importance.evidence import evidence_for
from graphopt.passes.prune.importance.selection import nested_choices
from graphopt.passes.prune.narrow import consumers_of, narrowed
from graphopt.passes.prune.reconstruct.moments import moments_of
from graphopt.passes.prune.reconstruct.products import refit_consumers
from graphopt.passes.prune.samples import is_fitted
from graphopt.planner.pruning.knapsack import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.analysis.coupling import Coupling
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.passes.prune.branches.options import BranchOption
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.passes.prune.reconstruct.moments import Moments
    from graphopt.planner.pruning.sites import WidthSite

    Array = np.ndarray[Any, Any]


class Meter(Protocol):
    """Says what a figure of a graph is, and what a change of some nodes takes off it."""

    def total(self, graph: Graph) -> float:
        """Return the figure of a graph."""
        ...

    def saving(self, graph: Graph, changed: Graph, nodes: Iterable[Node]) -> float:
        """Return what a changed graph saves."""
        ...


class Judge(Protocol):
    """Says how far a changed graph is from the original."""

    def divergence(self, site: str, label: str, graph: Graph) -> float:
        """Return the divergence of the outputs with one option applied."""
        ...


@dataclass(frozen=True)
class Trials:
    """Everything that options are made from.

    Args:
        graph: the original, with shapes.
        coupling: of the graph.
        widths: groups that can shrink.
        branches: that can be replaced.
        moments: of the inputs of the consumers of all groups.
        fitted: what can stand in the place of each branch.
        context: runs the data.
        criteria: that say which units go, by name; the best of them counts.
    """

    graph: Graph
    coupling: Coupling
    widths: tuple[WidthSite, ...]
    branches: tuple[Branch, ...]
    moments: Mapping[Node, Moments]
    fitted: Mapping[str, Fitted]
    context: Context
    criteria: Mapping[str, Importance]

    @classmethod
    def prepare(
        cls,
        graph: Graph,
        coupling: Coupling,
        widths: Sequence[WidthSite],
        context: Context,
        criteria: Mapping[str, Importance],
        samples: Callable[[int], bool] = is_fitted,
    ) -> Trials:
        """Take from the data what all options need: two streaming runs."""
        nodes = consumers_of(site.group for site in widths)
        branches = residual_branches(graph)
        return cls(
            graph,
            coupling,
            tuple(widths),
            branches,
            moments_of(graph, nodes, context, samples),
            fit_branches(graph, branches, context, samples),
            context,
            criteria,
        )

    def count(self) -> int:
        """Return how many options there are."""
        narrow = sum(len(site.widths) for site in self.widths)
        return narrow + sum(len(self.options_of(branch)) for branch in self.branches)

    def options_of(self, branch: Branch) -> tuple[BranchOption, ...]:
        """Return what can be done with a branch; to drop it with its mean is never worse."""
        options = branch_options(branch, self.fitted[branch.name])
        return tuple(o for o in options if o.kind is not Kind.REMOVE)

    def width_options(self, site: WidthSite, meter: Meter, judge: Judge) -> Iterator[Option]:
        """Yield the widths of a group that save something, from the widest."""
        wanted = sorted(site.widths, reverse=True)
        evidence = evidence_for(site.group, self.moments, self.context.seed)
        choices = [
            nested_choices(evidence, criterion, wanted, site.group.cells)
            for criterion in self.criteria.values()
        ]
        for width, *masks in zip(wanted, *choices, strict=True):
            cut = self.coupling.cut({site.name: masks[0]})
            gain = meter.saving(self.graph, narrowed(self.graph, cut, self.context), site.nodes)
            if gain > 0:
                yield self._best(
                    site, width, dict(zip(self.criteria, masks, strict=True)), gain, judge
                )

    def _best(
        self,
        site: WidthSite,
        width: int,
        masks: Mapping[str, Array],
        gain: float,
        judge: Judge,
    ) -> Option:
        """Return the width with the units that the outputs depend on least."""
        losses: dict[str, float] = {}
        seen: dict[bytes, str] = {}
        for name, keep in masks.items():
            if keep.tobytes() not in seen:
                seen[keep.tobytes()] = name
                cut = self.coupling.cut({site.name: keep})
                made = narrowed(self.graph, cut, self.context)
                refit_consumers(self.graph, made, cut, self.moments)
                losses[name] = judge.divergence(site.name, f"{width}@{name}", made)
        best = min(losses, key=lambda name: losses[name])
        return Option(site.name, f"{width}@{best}", losses[best], gain)

    def branch_options(self, branch: Branch, meter: Meter, judge: Judge) -> Iterator[Option]:
        """Yield what can be done with a branch and saves something."""
        nodes = (*branch.nodes, branch.join, *(branch.shortcut or ()))
        for option in self.options_of(branch):
            made = self.graph.copy()
            option.apply(made, self.fitted[branch.name])
            gain = meter.saving(self.graph, made, nodes)
            if gain > 0:
                loss = judge.divergence(branch.name, option.kind.value, made)
                yield Option(branch.name, option.kind.value, loss, gain)
