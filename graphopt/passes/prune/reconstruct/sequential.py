"""Rebuild a pruned graph layer by layer, each on what the layers before it now give.

Layers are fitted in the order in which data reaches them: the inputs are those of the pruned graph,
with all that was fitted before, the outputs those of the original. So no layer adds to the errors
of another; each makes up for as much of them as it can. Where the output of a layer is only added
to a skip connection, the sum is fitted instead: Y_total - skip', which also makes up for what the
skip lost (He et al. 2017, "Channel pruning for accelerating very deep neural networks", section
3.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.passes.prune.effort import EFFORTS, THOROUGH
from graphopt.passes.prune.reconstruct.cross_validation import best_ridge, joined
from graphopt.passes.prune.reconstruct.layers import ROWS_BYTES, Gathering, Layer, layer_of
from graphopt.passes.prune.reconstruct.least_squares import (
    RIDGE,
    Fit,
    Method,
    fit_bias,
    ridge_for,
    solve_moments,
)
from graphopt.passes.prune.reconstruct.moments import LARGEST_BYTES, LARGEST_FEATURES, sums_bytes
from graphopt.passes.prune.reconstruct.pair_rows import ROOM, Crops, pair_of
from graphopt.passes.prune.reconstruct.pairs import fit_pair
from graphopt.passes.prune.reconstruct.products import (
    counterpart,
    kept_columns,
    owned_product,
    write,
)
from graphopt.passes.prune.reconstruct.rectified import fit_rectified
from graphopt.passes.prune.reconstruct.rows import product_of
from graphopt.passes.prune.reconstruct.statistics import fit_statistics
from graphopt.passes.prune.reconstruct.walk import Walk, walks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    import numpy as np

    from graphopt.analysis.branches import Chain
    from graphopt.analysis.coupling import Cut
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.passes.prune.effort import Thoroughness
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct

    Array = np.ndarray[Any, Any]

_RIDGES = (100.0, 10.0, 1.0)
"""Ridges that are tried on left-out samples, as multiples of the one for as many rows."""
_SLACK = 0.02
"""Share by which a smaller ridge may do worse: pulls to old weights add up over layers."""


def rebuild(
    original: Graph,
    pruned: Graph,
    cut: Cut,
    nodes: Iterable[Node],
    context: Context,
    samples: Callable[[int], bool],
    *,
    method: Method = "least-squares",
    ridge: float = RIDGE,
    compensate: bool = True,
    how: Thoroughness = EFFORTS[THOROUGH],
    later: Collection[str] = (),
    through: tuple[Walk, Walk] | None = None,
) -> dict[str, Method]:
    """Fit layers of a pruned graph, in topological order, to what the original computes.

    Args:
        original: the graph that ``cut`` is of.
        pruned: what the cut made of it, tensors with their names; weights are changed in place.
        cut: what was kept.
        nodes: nodes of the original to fit: those that lost inputs, and any others.
        context: runs the data.
        samples: which samples, by number, are fitted to; scores belong to the others.
        method: what is fitted; with fewer rows than features "bias" stands in for least squares.
        ridge: for enough rows.
        compensate: whether sums with a skip connection are fitted where there are any.
        how: whether errors that a Relu or Clip takes away are let be, and pairs of layers fitted.
        later: names of tensors that change after this, by another call or a new operator.
        through: walks through both graphs that were begun before; see ``walk_both``.

    Returns:
        how each layer was fitted, by label of its node. Layers are absent that are no matrix
        products, share weights with others, lose different numbers in their groups, or that the
        data never reached.
    """
    todo = _pairs(original, pruned, cut, nodes)
    done: dict[str, Method] = {}
    if not todo:
        return done
    walked = through or walk_both(original, pruned, [p[0].node for p in todo], context, samples)
    while todo:
        behind = _reached(pruned, {after.node for _, after, _ in todo}, later)
        ready = [p for p in todo if not behind(p[1].source) and not behind(p[1].node.inputs[1])]
        wave = _affordable(ready)
        layers = [layer_of(*each, behind if compensate else None) for each in wave]
        for each in _measure(layers, walked, context, how.rectify):
            made = _fitted(each, method, ridge)
            if made is not None:
                product = each.layer.after
                intercept = product.bias_of is not None
                write(pruned, product, made.weight, made.bias if intercept else None)
                done[product.node.label] = made.method
        solved = [p for p in wave if done.get(p[1].node.label) == "least-squares"]
        _fit_pairs(pruned, solved, todo, behind, walked, context, how)
        todo = [each for each in todo if each not in wave]
    return done


def _fit_pairs(
    pruned: Graph,
    solved: Sequence[_Pair],
    todo: Sequence[_Pair],
    behind: Callable[[Value | None], bool],
    through: tuple[Walk, Walk],
    context: Context,
    how: Thoroughness,
) -> None:
    """Fit layers that lost outputs once more, together with the one that reads them."""
    seconds = {after.node: (before, after, columns) for before, after, columns in todo}
    narrowed = [a for b, a, columns in solved if len(columns) < b.groups * b.outputs and how.pairs]
    pairs = [pair for a in narrowed if (pair := pair_of(a, seconds, behind)) is not None]
    if not pairs:
        return
    found = [Crops(pair, ROOM // len(pairs), how.pair_samples) for pair in pairs]
    wanted = through[0].tensors([each.pair.layer.total for each in found])
    given = through[1].tensors([name for each in found for name in each.read])
    for targets, values in zip(wanted, given, strict=True):
        for each in found:
            each.take(values, targets, context.seed)
    for each in found:
        rows = each.rows()
        made = fit_pair(each.pair, rows, how.pairs) if rows is not None else None
        if made is not None:
            write(pruned, each.pair.first, made.first, made.first_bias)
            write(pruned, each.pair.second, made.second, made.second_bias)


_Pair = tuple["MatrixProduct", "MatrixProduct", "Array"]


def _pairs(original: Graph, pruned: Graph, cut: Cut, nodes: Iterable[Node]) -> list[_Pair]:
    chosen = set(nodes)
    found = []
    for node in original.nodes():
        if node not in chosen:
            continue
        before, after = product_of(node), owned_product(counterpart(node, pruned))
        columns = kept_columns(before, cut) if before is not None else None
        if before is None or after is None or columns is None:
            continue
        fits = sums_bytes(after, after.outputs) <= LARGEST_BYTES
        fits = fits and after.features <= LARGEST_FEATURES
        if fits and len(columns) == after.groups * after.outputs:
            found.append((before, after, columns))
    return found


def _reached(
    graph: Graph, sources: set[Node], names: Collection[str]
) -> Callable[[Value | None], bool]:
    """Return a function that says whether a tensor depends on some nodes or named tensors."""
    seen: set[Value] = set()
    for node in graph.nodes():
        if node in sources or any(v in seen for v in node.inputs if v is not None):
            seen.update(node.outputs)
        seen.update(value for value in node.outputs if value.name in names)
    return lambda value: value in seen


def _affordable(ready: Sequence[_Pair]) -> list[_Pair]:
    """Return as many layers as can be measured in one run; at least one."""
    wave: list[_Pair] = []
    room = LARGEST_BYTES
    for pair in ready:
        room -= 2 * sums_bytes(pair[1], pair[1].outputs)
        if wave and room < 0:
            break
        wave.append(pair)
    return wave


def walk_both(
    original: Graph,
    pruned: Graph,
    nodes: Iterable[Node],
    context: Context,
    samples: Callable[[int], bool],
    chains: Iterable[Chain] = (),
) -> tuple[Walk, Walk]:
    """Return walks through both graphs for what ``rebuild`` and ``fit_branches`` read of them.

    Args:
        original: the graph that ``nodes`` and ``chains`` are of.
        pruned: has tensors with the same names; may be changed where nothing was asked of it yet.
        nodes: that will be fitted.
        context: runs the data.
        samples: which samples, by number, are run.
        chains: that will be replaced.
    """
    products = [product for node in nodes if (product := product_of(node)) is not None]
    read = {product.source.name for product in products}
    made = {product.output.name for product in products}
    for chain in chains:
        read.add(chain.entry.name)
        made.add(chain.exit.name)
    read = {name for name in read if pruned.find(name) is not None}
    pair = [(original, sorted(made)), (pruned, sorted(read))]
    first, second = walks(pair, context, samples)
    return first, second


def _measure(
    layers: Sequence[Layer], through: tuple[Walk, Walk], context: Context, rectify: bool
) -> list[Gathering]:
    """Return what both graphs say about some layers."""
    limited = [layer for layer in layers if layer.is_limited and rectify]
    room = ROWS_BYTES // max(1, len(limited))
    found = [Gathering(layer, room if layer in limited else 0) for layer in layers]
    read = [layer.after.source.name for layer in layers]
    read += [layer.skip for layer in layers if layer.skip is not None]
    wanted = through[0].tensors([layer.total for layer in layers])
    for targets, given in zip(wanted, through[1].tensors(read), strict=True):
        for each in found:
            each.take(given, targets, context.seed)
    return found


def _fitted(gathering: Gathering, method: Method, ridge: float) -> Fit | None:
    """Return new weights; None where there were no rows, or some were not finite."""
    parts = gathering.moments()
    if not parts:
        return None
    moments = parts[0] if len(parts) == 1 else joined(*parts)
    product = gathering.layer.after
    intercept, prior = product.bias_of is not None, product.matrix()
    if method == "statistics":
        return fit_statistics(moments, prior, intercept=intercept)
    share = ridge_for(moments.worth, product.features, ridge)
    if method == "bias" or share is None:
        return fit_bias(moments, prior, intercept=intercept)
    made: Fit | None = None
    if len(parts) == 2:
        ridges = [share * factor for factor in _RIDGES]
        pairs = [(parts[0], parts[1])]
        best = best_ridge(pairs, prior, ridges, intercept=intercept, slack=_SLACK)
        share = best[0] if best is not None else share
        rows = gathering.rows() if intercept else None
        if rows is not None:
            limits = gathering.layer.limits
            made = fit_rectified(rows, limits, (moments, parts[0]), prior, share)
    made = made or solve_moments(moments, prior, share, intercept=intercept)
    return made or fit_bias(moments, prior, intercept=intercept)
