"""Make groups narrower: choose which units stay, take the others out, and check that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.errors import PassError
from graphopt.passes.prune.importance.evidence import evidence_for
from graphopt.passes.prune.importance.selection import choose_units
from graphopt.passes.prune.removal.oracle import TOLERANCE, disagreement, silence_units
from graphopt.passes.prune.removal.remove_units import remove_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from graphopt.analysis.coupling import Coupling, Cut, Group
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.passes.prune.reconstruct.moments import Moments

    Array = np.ndarray[Any, Any]

_PROBES = 2


def consumers_of(groups: Iterable[Group]) -> tuple[Node, ...]:
    """Return the operators that sum over units of some groups, each once."""
    return tuple(dict.fromkeys(c.node for group in groups for c in group.consumers))


def choose(
    groups: Mapping[str, Group],
    widths: Mapping[str, int],
    moments: Mapping[Node, Moments],
    criterion: Importance,
    seed: int,
) -> dict[str, Array]:
    """Return which units of each group stay, bool [units] by name, for the widths wanted."""
    return {
        name: choose_units(
            evidence_for(groups[name], moments, seed), criterion, width, groups[name].cells
        )
        for name, width in widths.items()
    }


def narrowed(graph: Graph, cut: Cut, context: Context) -> Graph:
    """Return a copy of a graph without what a cut removes; weights are sliced, not fitted."""
    made = graph.copy()
    remove_units(made, cut.on(made), context.coupling_rules)
    made.sort()
    return made


def check_removal(
    graph: Graph, coupling: Coupling, keeps: Mapping[str, Array], context: Context
) -> float | None:
    """Compare what is left with the original that nobody listens to the removed units of.

    Only groups whose removal is exact can be compared; see ``removal.oracle``.

    Returns:
        the largest relative difference on the probes; None when there was nothing to compare.

    Raises:
        PassError: G309, the two differ by more than 1e-5, or one of them does not run.
    """
    exact = {group.name for group in coupling.groups if group.is_exact}
    cut = coupling.cut({name: keep for name, keep in keeps.items() if name in exact})
    if not cut or not context.probes:
        return None
    silenced, left = silence_units(graph, coupling, cut), narrowed(graph, cut, context)
    outputs = [value.name for value in graph.outputs]
    worst = 0.0
    for feed in context.probes[:_PROBES]:
        expected, found = (context.run(made, feed, outputs) for made in (silenced, left))
        worst = max(worst, disagreement(expected, found))
    if not worst <= TOLERANCE:
        raise PassError(
            f"what is left differs by {worst:.1e} from the original without the units",
            code="G309",
            hint="name the layer in `exclude`, and report the model's operators",
        )
    return worst
