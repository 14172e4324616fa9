"""What widths cost on the target, by graphopt's own cost model: tables to choose by, and the truth.

A choice is made by the tables of kernels, and what it comes to is then asked of the cost model on a
model with the right shapes, as the core's own pruning does.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling import Axis
from graphopt.errors import RecipeError
from graphopt.passes.prune.narrow import narrowed
from graphopt.planner.pruning.clock import Ledger
from graphopt.types import DType
from graphopt_torch.pruning.sites import kept_units
from graphopt_torch.pruning.terms import Side, Term, Terms, fitted_term, full_widths
from graphopt_torch.pruning.trial_widths import trial_widths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.analysis.coupling import Coupling
    from graphopt.cost import Estimate
    from graphopt.ir import Graph, Value
    from graphopt.passes.base import Context
    from graphopt.passes.prune.goal import Metric
    from graphopt_torch.pruning.sites import Site

    Array = np.ndarray[Any, Any]

_REST = ""
"""Name of what no kernel has: copies between layouts, and what every run costs."""
_SIDES = 2


class Prices:
    """The figures of a graph with narrower groups.

    Args:
        graph: as it is, with shapes; not changed.
        coupling: of the graph.
        sites: the groups that may be narrower.
        context: has the cost model and the target.
    """

    def __init__(
        self, graph: Graph, coupling: Coupling, sites: Sequence[Site], context: Context
    ) -> None:
        self.graph = graph
        self.sites = tuple(sites)
        self._coupling = coupling
        self._context = context
        self._counted: dict[tuple[int, ...], dict[str, float]] = {}

    def figure(self, metric: Metric, widths: Mapping[str, int]) -> float:
        """Return a figure as the cost model has it for a model of these widths."""
        key = tuple(widths[site.name] for site in self.sites)
        if key not in self._counted:
            ledger = Ledger(self._context, metric)
            self._counted[key] = ledger.totals(self._shaped(widths))
        return self._counted[key][metric]

    def terms(self, metric: Metric) -> Terms:
        """Return a figure as a sum over tables.

        Raises:
            RecipeError: G103, memory is not a sum.
        """
        if metric == "ram":
            raise RecipeError(
                "`ram` is no sum over layers, which training needs",
                code="G103",
                hint="ask for latency, macs, params or size, or use `prune-channels`",
            )
        if metric in {"params", "size"}:
            return self._stored(metric)
        return self._executed(metric)

    def _shaped(self, widths: Mapping[str, int]) -> Graph:
        keeps = {
            site.name: kept_units(site, np.zeros(site.size), widths[site.name])
            for site in self.sites
        }
        return narrowed(self.graph, self._coupling.cut(keeps), self._context)

    # -- what is stored ------------------------------------------------------------------

    def _stored(self, metric: Metric) -> Terms:
        """Return parameters, or bytes, as a sum over constants: products of sizes."""
        full, terms = full_widths(self.sites), []
        for value in self.graph.initializers:
            sides = [side for side in map(self._side, _axes(value)) if side is not None][:_SIDES]
            tensor = value.tensor
            # Bits may be chosen for a weight whose sizes stay.
            if tensor is not None and (sides or tensor.dtype is DType.INT8):
                each = 1.0 if metric == "params" else tensor.dtype.bits / 8.0
                term = _product_term(sides, each * float(np.prod(tensor.shape)), full)
                terms.append(dataclasses.replace(term, owner=value.name))
        whole = self.figure(metric, full)
        return Terms(whole - sum(term.value(full) for term in terms), tuple(terms))

    # -- what is executed ----------------------------------------------------------------

    def _executed(self, metric: Metric) -> Terms:
        whole = self._estimate(full_widths(self.sites))
        sides = {names[0]: self._kernel_sides(names) for names in _kernels(whole)}
        meetings = {frozenset(n for side in each for n in side.groups) for each in sides.values()}
        points: dict[str, list[tuple[Mapping[str, int], float]]] = defaultdict(list)
        trials = [full_widths(self.sites), *trial_widths(self.sites, meetings)]
        for widths in self._context.progress(trials, len(trials), "asking the cost model"):
            parts = _parts(self._estimate(widths), metric)
            rest = sum(v for name, v in parts.items() if name not in sides)
            for name in sides:
                points[name].append((widths, parts.get(name, 0.0)))
            points[_REST].append((widths, rest))
        terms = [fitted_term(sides[name], points[name]) for name in sides if sides[name]]
        fixed = sum(points[name][0][1] for name in sides if not sides[name])
        return Terms(fixed + self._rest(points[_REST], terms), tuple(terms))

    def _rest(self, points: Sequence[tuple[Mapping[str, int], float]], terms: list[Term]) -> float:
        """Add the rest as a sum over groups to the terms; return what is always there."""
        sizes = [[widths[site.name] / site.size for site in self.sites] for widths, _ in points]
        design = np.column_stack([np.ones(len(points)), np.array(sizes)])
        values = np.array([value for _, value in points])
        found = np.linalg.lstsq(design, values, rcond=None)[0]
        for site, slope in zip(self.sites, found[1:], strict=True):
            side = Side(0.0, ((site.name, 1.0),))
            knots = (0.0, float(site.size))
            terms.append(Term((side,), (knots,), np.array([0.0, float(slope)])))
        return float(found[0])

    def _estimate(self, widths: Mapping[str, int]) -> Estimate:
        return self._context.cost.estimate(self._shaped(widths), self._context.target)

    def _kernel_sides(self, labels: Sequence[str]) -> tuple[Side, ...]:
        wanted = set(labels)
        nodes = [node for node in self.graph.nodes() if node.label in wanted]
        values = dict.fromkeys(v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None)
        return self._sides(list(values))

    def _sides(self, values: Sequence[Value]) -> tuple[Side, ...]:
        """Return the different ways in which axes of some tensors follow widths; two at most."""
        axes = (axis for value in values for axis in _axes(value))
        found = dict.fromkeys(side for side in map(self._side, axes) if side is not None)
        ranked = sorted(found, key=lambda side: (-len(side.groups), side.per_unit, side.base))
        kept: list[Side] = []
        for side in ranked:
            if not any(set(side.groups) <= set(other.groups) for other in kept):
                kept.append(side)
        return tuple(kept[:_SIDES])

    def _side(self, axis: Axis) -> Side | None:
        """Return how the size of an axis follows widths; None where it does not."""
        found = {s: s.group.units[axis] for s in self.sites if axis in s.group.units}
        if not found:
            return None
        counts = {site: float((units >= 0).sum()) for site, units in found.items()}
        base = float(axis.size or 0) - sum(counts.values())
        return Side(base, tuple((site.name, own / site.size) for site, own in counts.items()))


def _axes(value: Value) -> list[Axis]:
    return [Axis(value, position) for position in range(len(value.shape or ()))]


def _product_term(sides: Sequence[Side], whole: float, full: Mapping[str, int]) -> Term:
    """Return a part that is proportional to the sizes of its sides; ``whole`` at the full sizes."""
    table = np.zeros((2,) * len(sides))
    table[(1,) * len(sides)] = whole
    return Term(tuple(sides), tuple((0.0, float(side.size(full))) for side in sides), table)


def _kernels(estimate: Estimate) -> list[tuple[str, ...]]:
    return [kernel.nodes for kernel in estimate.kernels if kernel.nodes]


def _parts(estimate: Estimate, metric: Metric) -> dict[str, float]:
    """Return what each kernel costs, by its first node, in milliseconds or products."""
    found: dict[str, float] = defaultdict(float)
    for kernel in estimate.kernels:
        own = kernel.latency_us / 1e3 if metric == "latency" else float(kernel.macs)
        found[kernel.nodes[0] if kernel.nodes else _REST] += own
    whole = estimate.latency_ms.value if metric == "latency" else float(estimate.macs)
    found[_REST] += whole - sum(found.values())
    return found
