"""What a model would cost if it were compressed: its shape in int8, or with fewer channels.

Nothing is calibrated or fitted: the graphs are for a cost model, and compute nothing useful.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.coupling import couple
from graphopt.api.setup import make_context, make_passes, resolve_recipe
from graphopt.calibration.base import RangeStatistics
from graphopt.errors import GraphOptError
from graphopt.ir import infer_shapes, tensor_bytes
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.pipeline import PipelineContext
from graphopt.planner.plan import Plan
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from graphopt.analysis.coupling import Group
    from graphopt.ir import Graph
    from graphopt.registry import Registry
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]

MOST_BYTES = 256 << 20
"""Weights of a model that is still rounded and sliced for a question that asks for no result."""


class _Assumed(PipelineContext):
    """A context in which every tensor lies in the same range: where integers go, not what they are.

    Ranges decide scales; which operators become integer does not depend on them.
    """

    @property
    def has_data(self) -> bool:
        """Ranges are known, as far as passes can tell."""
        return True

    def ranges(self, graph: Graph, names: Sequence[str]) -> Mapping[str, RangeStatistics]:
        """Return [-1, 1] for every tensor, [0, 1] behind a Relu."""
        found = {}
        for name in names:
            value = graph.find(name)
            positive = value is not None and value.producer and value.producer.op == "Relu"
            found[name] = RangeStatistics(0.0 if positive else -1.0, 1.0, 1, "assumed")
        return found


def in_integers(graph: Graph, target: Target, registry: Registry) -> Graph | None:
    """Return ``graph`` with every operator in int8 that ``target`` has an integer kernel for.

    None where nothing of it can be, where its weights are too large for a mere question, or where
    a pass cannot do without real statistics.
    """
    if tensor_bytes(graph) > MOST_BYTES:
        return None
    made = graph.copy()
    _run(made, "integer", Effect.APPROXIMATE, target, registry)
    infer_shapes(made)
    return made if made.nodes("QuantizeLinear", "DequantizeLinear") else None


def _run(graph: Graph, preset: str, most: Effect, target: Target, registry: Registry) -> None:
    """Run the passes of a preset that promise at least ``most``; what fails changes nothing."""
    recipe = resolve_recipe(target=None, recipe=preset, registry=registry).recipe
    drawn = make_context(recipe, target, registry, None)
    context = _Assumed(
        target, drawn.cost, None, drawn.find_observer, find_rules=registry.coupling_rules
    )
    allowed = {Effect.EXACT, most}
    for step in Plan.closed(make_passes(recipe, registry)).placed("integer").steps:
        if step.effect not in allowed:
            continue
        before = graph.copy()
        try:
            step.run(graph, context)
        except (GraphOptError, ArithmeticError, LookupError, TypeError, ValueError):
            graph.assign(before)


def with_fewer_channels(
    graph: Graph, share: float, target: Target, registry: Registry
) -> Graph | None:
    """Return ``graph`` without ``share`` (0 to 1) of the units of every group that can lose some.

    None where nothing can be pruned, or the weights are too large for a mere question. The graph is
    simplified first, as ``compile`` does before it prunes.
    """
    if tensor_bytes(graph) > MOST_BYTES:
        return None
    made = graph.copy()
    _run(made, "lossless", Effect.EXACT, target, registry)
    infer_shapes(made)
    rules = registry.coupling_rules()
    coupling = couple(made, rules)
    keeps = {group.name: _kept(group, share) for group in coupling.groups}
    keeps = {name: keep for name, keep in keeps.items() if not keep.all()}
    if not keeps:
        return None
    remove_units(made, coupling.cut(keeps), rules)
    infer_shapes(made)
    return made


def _kept(group: Group, share: float) -> Array:
    """Return which units stay: of every cell the first ones, one at least."""
    keep = np.zeros(group.size, dtype=bool)
    for cell in np.unique(group.cells):
        inside = np.flatnonzero(group.cells == cell)
        keep[inside[: max(1, inside.size - int(share * inside.size))]] = True
    return keep
