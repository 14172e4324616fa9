"""Cut about half of everything that the built-in rules set free, and ask the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.analysis.coupling import Coupling, Cut, couple
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.passes.prune.removal.oracle import disagreement, silence_units
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.testing import graph as parse
from graphopt.testing import random_feeds, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.analysis.coupling import Group

    Array = np.ndarray[Any, Any]

RULES = {rule.name: rule for rule in BUILTIN_RULES}


def coupled(
    text: str | ir.Graph, *, opset: int = 17, **constants: Any
) -> tuple[ir.Graph, Coupling]:
    """Return a graph (from text, or as given) with shapes, and its coupling by built-in rules."""
    made = parse(text, opset=opset, **constants) if isinstance(text, str) else text
    ir.infer_shapes(made)
    return made, couple(made, RULES)


def prune_at_random(
    graph: str | ir.Graph, fraction: float = 0.5, seed: int = 0, *, only_exact: bool = False
) -> tuple[ir.Graph, ir.Graph, Cut, Coupling]:
    """Return (pruned, silenced, cut, coupling); the given graph only gets its shapes.

    Of every group about ``fraction`` goes, at least one unit where that leaves one, as many of each
    cell. ``cut`` and ``coupling`` speak of the given graph; the other two graphs are copies.

    Args:
        graph: a graph, or ONNX text.
        fraction: of the units of each cell.
        seed: of the choice.
        only_exact: leave groups whole that say that they are not exact.
    """
    given, coupling = coupled(graph)
    random = np.random.default_rng(seed)
    keeps = {
        group.name: random_keep(group, fraction, random)
        for group in coupling.groups
        if group.is_exact or not only_exact
    }
    cut = coupling.cut(keeps)
    silenced = silence_units(given, coupling, cut)
    pruned = given.copy()
    remove_units(pruned, cut.on(pruned), RULES)
    return pruned, silenced, cut, coupling


def random_keep(group: Group, fraction: float, random: np.random.Generator) -> Array:
    """Return which units of a group stay, bool [size]: the same number goes of each cell."""
    keep = np.ones(group.size, dtype=bool)
    cells = [np.flatnonzero(group.cells == cell) for cell in np.unique(group.cells)]
    smallest = min(len(cell) for cell in cells)
    lost = min(max(1, round(fraction * smallest)), smallest - 1)
    for cell in cells:
        keep[random.permutation(cell)[:lost]] = False
    return keep


def assert_oracle(
    graph: str | ir.Graph,
    fraction: float = 0.5,
    seed: int = 0,
    tolerance: float = 1e-5,
    *,
    feeds: Sequence[Mapping[str, Array]] | None = None,
) -> Coupling:
    """Fail unless the pruned graph computes what the silenced one does; return the coupling.

    Groups that are not exact stay whole. Something must have been cut, the smaller graph must be
    legal, and the shapes it is left with must be those that are inferred for it.

    Args:
        graph: a graph, or ONNX text.
        fraction: of the units of each cell.
        seed: of the choice and of the data.
        tolerance: largest difference, as a share of the largest output.
        feeds: data; two random feeds by default.
    """
    pruned, silenced, cut, coupling = prune_at_random(graph, fraction, seed, only_exact=True)
    assert cut, f"nothing could be cut: {reasons(coupling)}"
    ir.verify(pruned)
    _assert_shapes(pruned)
    for feed in feeds or random_feeds(pruned, count=2, seed=seed):
        gap = disagreement(run(silenced, feed, optimize=False), run(pruned, feed, optimize=False))
        assert gap <= tolerance, f"outputs differ by {gap:.3g} of the largest"
    return coupling


def reasons(coupling: Coupling) -> dict[str, list[str]]:
    """Return why axes stay, by label."""
    return {axis.label: [why for _, why in parts] for axis, parts in coupling.reasons.items()}


def _assert_shapes(pruned: ir.Graph) -> None:
    fresh = pruned.copy()
    made = [v for node in fresh.nodes() for v in node.outputs if v.name and not v.is_output]
    for value in made:
        value.shape = None
    ir.infer_shapes(fresh)
    for value in made:
        known = pruned.value(value.name).shape
        if value.shape is not None and known is not None:
            assert _compatible(value.shape, known), f"`{value.name}`: {known}, not {value.shape}"


def _compatible(one: Sequence[Any], other: Sequence[Any]) -> bool:
    pairs = zip(one, other, strict=False)
    agree = (a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in pairs)
    return len(one) == len(other) and all(agree)
