"""What each option loses and gains: every one is made on its own, scored and timed.

Nothing here depends on the goal. What a book knows is not made again, and moments are taken only
when something is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
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
from graphopt.planner.pruning.fitted_file import kept_fits
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
    from graphopt.planner.pruning.scorebook import ScoreBook
    from graphopt.planner.pruning.sites import WidthSite

    Array = np.ndarray[Any, Any]


class Meter(Protocol):
    """Says what a figure of a graph is, and what a change of some nodes takes off it."""

    @property
    def name(self) -> str:
        """What its prices are kept under; "" where they are measured, and not kept."""
        ...

    @property
    def metric(self) -> str:
        """Which of the figures that it prices options by counts."""
        ...

    def total(self, graph: Graph) -> float:
        """Return the figure of a graph."""
        ...

    def savings(self, graph: Graph, changed: Graph, nodes: Iterable[Node]) -> Mapping[str, float]:
        """Return what a changed graph saves, by metric."""
        ...


@dataclass(frozen=True)
class Trials:
    """Everything that options are made from.

    Args:
        graph: the original, with shapes.
        coupling: of the graph.
        widths: groups that can shrink.
        context: runs the data.
        criteria: that say which units go, by name; the best of them counts.
        samples: which samples, by number, options are fitted to.
        book: what is known of options, and what finds out the rest.
    """

    graph: Graph
    coupling: Coupling
    widths: tuple[WidthSite, ...]
    context: Context
    criteria: Mapping[str, Importance]
    samples: Callable[[int], bool]
    book: ScoreBook

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """Branches that could be replaced."""
        return residual_branches(self.graph)

    @cached_property
    def moments(self) -> Mapping[Node, Moments]:
        """Of the inputs of the consumers of all groups: one streaming run."""
        nodes = consumers_of(site.group for site in self.widths)
        return moments_of(self.graph, nodes, self.context, self.samples)

    @cached_property
    def fitted(self) -> Mapping[str, Fitted]:
        """What can stand in the place of each branch: another run."""
        path = self.book.path.with_suffix(".npz") if self.book.path is not None else None
        make = partial(fit_branches, self.graph, self.branches, self.context, self.samples)
        return kept_fits(path, make) if self.branches else {}

    def options_of(self, branch: Branch) -> tuple[BranchOption, ...]:
        """Return what can be done with a branch; to drop it with its mean is never worse."""
        options = branch_options(branch, self.fitted[branch.name])
        return tuple(o for o in options if o.kind is not Kind.REMOVE)

    def units(self, site: WidthSite) -> dict[tuple[int, str], Array]:
        """Return which units stay, bool [units] by width and criterion; widest first."""
        wanted = sorted(site.widths, reverse=True)
        keys = [(width, name) for name in self.criteria for width in wanted]

        def make() -> Sequence[Array]:
            evidence = evidence_for(site.group, self.moments, self.context.seed)
            cells = site.group.cells
            each = (nested_choices(evidence, c, wanted, cells) for c in self.criteria.values())
            return [keep for choices in each for keep in choices]

        labels = [f"{width}@{name}" for width, name in keys]
        return dict(zip(keys, self.book.units(site.name, labels, make), strict=True))

    def width_options(self, site: WidthSite, meter: Meter) -> Iterator[Option]:
        """Yield the widths of a group that save something, from the widest."""
        units = self.units(site)
        for width in sorted(site.widths, reverse=True):
            masks = {name: units[width, name] for name in self.criteria}
            make = partial(self._cut, site, next(iter(masks.values())))
            gain = self._gain(meter, site.name, str(width), make, site.nodes)
            if gain > 0:
                yield self._best(site, width, masks, gain)

    def _cut(self, site: WidthSite, keep: Array) -> Graph:
        return narrowed(self.graph, self.coupling.cut({site.name: keep}), self.context)

    def _gain(
        self,
        meter: Meter,
        site: str,
        label: str,
        make: Callable[[], Graph],
        nodes: Iterable[Node],
    ) -> float:
        """Return what an option saves, from the book where prices can be kept."""

        def find() -> Mapping[str, float]:
            return meter.savings(self.graph, make(), nodes)

        found = self.book.prices(site, label, meter.name, find) if meter.name else find()
        return float(found[meter.metric])

    def _best(self, site: WidthSite, width: int, masks: Mapping[str, Array], gain: float) -> Option:
        """Return the width with the units that the outputs depend on least."""
        losses: dict[str, float] = {}
        seen: set[bytes] = set()
        for name, keep in masks.items():
            if keep.tobytes() not in seen:
                seen.add(keep.tobytes())
                make = partial(self._refitted, site, keep)
                losses[name] = self.book.divergence(site.name, f"{width}@{name}", make)
        best = min(losses, key=lambda name: losses[name])
        return Option(site.name, f"{width}@{best}", losses[best], gain)

    def _refitted(self, site: WidthSite, keep: Array) -> Graph:
        """Return the graph with one group narrower, and what reads it fitted."""
        cut = self.coupling.cut({site.name: keep})
        made = narrowed(self.graph, cut, self.context)
        refit_consumers(self.graph, made, cut, self.moments)
        return made

    def branch_options(self, branch: Branch, meter: Meter) -> Iterator[Option]:
        """Yield what can be done with a branch and saves something."""
        nodes = (*branch.nodes, branch.join, *(branch.shortcut or ()))
        for option in self.options_of(branch):
            label = option.kind.value
            make = partial(self._without, option)
            gain = self._gain(meter, branch.name, label, make, nodes)
            if gain > 0:
                loss = self.book.divergence(branch.name, label, make)
                yield Option(branch.name, label, loss, gain)

    def _without(self, option: BranchOption) -> Graph:
        """Return the graph with something else in the place of a branch."""
        made = self.graph.copy()
        option.apply(made, self.fitted[option.branch.name])
        return made
