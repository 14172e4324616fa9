"""Put a smaller model together: narrower groups, other branches, and layers fitted in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.analysis.branches import residual_branches
from graphopt.errors import RecipeError
from graphopt.passes.prune.branches.fit import fit_branches
from graphopt.passes.prune.branches.linear import Kind
from graphopt.passes.prune.branches.options import BranchOption, branch_options
from graphopt.passes.prune.effort import EFFORTS, THOROUGH
from graphopt.passes.prune.narrow import narrowed
from graphopt.passes.prune.outputs import output_divergence
from graphopt.passes.prune.reconstruct.layer_norm import is_touched, match_layer_norms
from graphopt.passes.prune.reconstruct.rows import PRODUCTS
from graphopt.passes.prune.reconstruct.sequential import rebuild, walk_both
from graphopt.passes.prune.samples import is_fitted, is_scored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np

    from graphopt.analysis.branches import Branch
    from graphopt.analysis.coupling import Coupling, Cut
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.passes.prune.branches.fit import Fitted
    from graphopt.passes.prune.effort import Thoroughness

    Array = np.ndarray[Any, Any]


def cut_out(
    original: Graph,
    cut: Cut,
    kinds: Mapping[str, Kind],
    context: Context,
    samples: Callable[[int], bool] = is_fitted,
    fitted: Mapping[str, Fitted] | None = None,
) -> Graph:
    """Return the smaller model with the weights that it has, to see how large and fast it is.

    Args:
        original: with shapes; not changed.
        cut: what is kept of groups.
        kinds: what becomes of branches, by name.
        context: runs the data where branches have to be fitted.
        samples: which samples, by number, are fitted to.
        fitted: what was fitted for the branches, with as many channels as are left; None to fit
            them here.
    """
    made = narrowed(original, cut, context)
    chosen = _named(made, kinds)
    if fitted is None:
        fitted = fit_branches(made, list(chosen.values()), context, samples)
    for name, branch in chosen.items():
        _replace(made, branch, kinds[name], fitted[name])
    return made


def assemble(
    original: Graph,
    coupling: Coupling,
    keeps: Mapping[str, Array],
    kinds: Mapping[str, Kind],
    context: Context,
    samples: Callable[[int], bool] = is_fitted,
    how: Thoroughness = EFFORTS[THOROUGH],
) -> tuple[Graph, dict[str, str]]:
    """Return the smaller model, fitted to the original from its inputs to its outputs.

    What replaces a branch is fitted after all layers that data reaches before it, to what the
    branch and the skip gave together, so that it makes up for what the skip has lost.

    Args:
        original: with shapes; not changed.
        coupling: of the original.
        keeps: which units stay, by group.
        kinds: what becomes of branches, by name.
        context: runs the data.
        samples: which samples, by number, are fitted to.
        how: what a fit is worth.

    Returns:
        the model, and how each layer was fitted, by name of its node.
    """
    cut = coupling.cut(keeps)
    if not context.has_data:
        return cut_out(original, cut, kinds, context, samples), {}
    made = narrowed(original, cut, context)
    matched = made.copy()
    methods = _rebuilt(original, made, cut, kinds, context, samples, how)
    if not any(is_touched(node, cut) for node in original.nodes()):
        return made, methods
    match_layer_norms(original, matched, cut, context, samples)
    others = _rebuilt(original, matched, cut, kinds, context, samples, how)
    apart = [output_divergence(original, each, context, is_scored) for each in (made, matched)]
    return (matched, others) if (apart[1] or 0.0) < (apart[0] or 0.0) else (made, methods)


def _rebuilt(
    original: Graph,
    made: Graph,
    cut: Cut,
    kinds: Mapping[str, Kind],
    context: Context,
    samples: Callable[[int], bool],
    how: Thoroughness,
) -> dict[str, str]:
    """Replace branches of a narrower graph and fit its layers, from inputs to outputs."""
    methods: dict[str, str] = {}
    waiting = _behind_changes(original, cut, kinds)
    branches = [branch for branch in residual_branches(original) if branch.name in kinds]
    through = walk_both(original, made, waiting, context, samples, branches)
    names = _in_order(original, kinds)
    for done, name in enumerate(names):
        branch = _named(made, [name])[name]
        before = [n for n in waiting if not _is_behind(n, made, branch)]
        waiting = [n for n in waiting if n not in set(before)]
        later = _made_by(waiting, _named(made, names[done:]).values())
        methods |= rebuild(
            original, made, cut, before, context, samples, how=how, later=later, through=through
        )
        whole = not cut.touches(original.value(branch.name))
        fitted = fit_branches(made, [branch], context, samples, through if whole else None)
        _replace(made, branch, kinds[name], fitted[name])
        methods[name] = f"{kinds[name]}"
    return methods | rebuild(
        original, made, cut, waiting, context, samples, how=how, through=through
    )


def _made_by(nodes: Iterable[Node], branches: Iterable[Branch]) -> set[str]:
    inside = [node for branch in branches for node in branch.nodes]
    return {value.name for node in (*nodes, *inside) for value in node.outputs}


def _named(graph: Graph, names: Iterable[str]) -> dict[str, Branch]:
    ir.infer_shapes(graph)
    found = {branch.name: branch for branch in residual_branches(graph)}
    for name in names:
        if name not in found:
            raise RecipeError(
                f"there is no residual branch `{name}`",
                code="G103",
                hint="`graphopt analyze --pruning MODEL` lists them",
            )
    return {name: found[name] for name in names}


def _in_order(graph: Graph, names: Iterable[str]) -> list[str]:
    """Return names of branches in the order in which data reaches them."""
    wanted = set(names)
    return [branch.name for branch in residual_branches(graph) if branch.name in wanted] + sorted(
        wanted - {branch.name for branch in residual_branches(graph)}
    )


def _replace(graph: Graph, branch: Branch, kind: Kind, fitted: Fitted) -> None:
    possible = {option.kind for option in branch_options(branch, fitted)}
    if kind not in possible:
        names = ", ".join(f'"{k}"' for k in Kind if k in possible)
        raise RecipeError(
            f'`{branch.name}` cannot become "{kind}"', code="G103", hint=f"choose one of {names}"
        )
    BranchOption(kind, branch).apply(graph, fitted)
    ir.infer_shapes(graph)


def _behind_changes(graph: Graph, cut: Cut, kinds: Mapping[str, Kind]) -> list[Node]:
    """Return the matrix products that are given other inputs than before, or have fewer."""
    changed = {value for value in graph.values() if value.name in kinds or cut.touches(value)}
    found = []
    for node in graph.nodes():
        if any(value in changed for value in node.inputs if value is not None):
            changed.update(node.outputs)
            if node.op in PRODUCTS:
                found.append(node)
    return found


def _is_behind(node: Node, graph: Graph, branch: Branch) -> bool:
    """Whether a node of the original stands behind, or in, a branch of the smaller graph."""
    inside = {n.outputs[0].name for n in branch.nodes}
    if node.outputs[0].name in inside:
        return True
    reached = {branch.join.outputs[0]}
    for each in graph.nodes():
        if any(value in reached for value in each.inputs if value is not None):
            reached.update(each.outputs)
    value = graph.find(node.outputs[0].name)
    return value is None or value in reached
