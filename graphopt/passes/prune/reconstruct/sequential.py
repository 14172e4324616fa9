"""Rebuild a pruned graph layer by layer, each on what the layers before it now give.

Layers are fitted in the order in which data reaches them: the inputs are those of the pruned graph,
with all that was fitted before, the outputs those of the original. So no layer adds to the errors
of another; each makes up for as much of them as it can. Where the output of a layer is only added
to a skip connection, the sum is fitted instead: Y_total - skip', which also makes up for what the
skip lost (He et al. 2017, "Channel pruning for accelerating very deep neural networks", section
3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.least_squares import RIDGE, Fit, Method, fit, fit_bias
from graphopt.passes.prune.reconstruct.moments import (
    LARGEST_BYTES,
    LARGEST_FEATURES,
    MomentSums,
    pick,
    prefix,
    stream_samples,
    sums_bytes,
)
from graphopt.passes.prune.reconstruct.products import (
    counterpart,
    kept_columns,
    owned_product,
    write,
)
from graphopt.passes.prune.reconstruct.rows import product_of
from graphopt.passes.prune.reconstruct.statistics import fit_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from graphopt.analysis.coupling import Cut
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.passes.prune.reconstruct.moments import Moments
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Layer:
    """One product to fit: in both graphs, and which tensors the target is made of.

    Args:
        before: of the original.
        after: of the pruned graph.
        columns: outputs of the original that are left.
        total: name of the tensor to match, the same in both graphs.
        skip: name of what the pruned graph adds to it; None where nothing is.
    """

    before: MatrixProduct
    after: MatrixProduct
    columns: Array
    total: str
    skip: str | None


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

    Returns:
        how each layer was fitted, by label of its node. Layers are absent that are no matrix
        products, share weights with others, lose different numbers in their groups, or that the
        data never reached.
    """
    todo = _pairs(original, pruned, cut, nodes)
    done: dict[str, Method] = {}
    while todo:
        behind = _reached(pruned, {after.node for _, after, _ in todo})
        ready = [p for p in todo if not behind(p[1].source) and not behind(p[1].node.inputs[1])]
        wave = _affordable(ready)
        layers = [_layer(pair, behind if compensate else None) for pair in wave]
        found = _measure(original, pruned, layers, context, samples)
        for layer, moments in zip(layers, found, strict=True):
            if moments is not None:
                done[layer.after.node.label] = _fit(pruned, layer.after, moments, method, ridge)
        todo = [pair for pair in todo if pair not in wave]
    return done


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


def _reached(graph: Graph, sources: set[Node]) -> Callable[[Value | None], bool]:
    """Return a function that says whether a tensor depends on one of some nodes."""
    seen: set[Value] = set()
    for node in graph.nodes():
        if node in sources or any(v in seen for v in node.inputs if v is not None):
            seen.update(node.outputs)
    return lambda value: value in seen


def _affordable(ready: Sequence[_Pair]) -> list[_Pair]:
    """Return as many layers as can be measured in one run; at least one."""
    wave: list[_Pair] = []
    room = LARGEST_BYTES
    for pair in ready:
        room -= sums_bytes(pair[1], pair[1].outputs)
        if wave and room < 0:
            break
        wave.append(pair)
    return wave


def _layer(pair: _Pair, behind: Callable[[Value | None], bool] | None) -> _Layer:
    before, after, columns = pair
    output = after.output
    plain = _Layer(before, after, columns, output.name, None)
    if behind is None or len(output.uses) != 1 or output.is_output:
        return plain
    adding, index = output.uses[0]
    if adding.op != "Add" or adding.domain or adding.graph is not after.node.graph:
        return plain
    skip, total = adding.inputs[1 - index], adding.outputs[0]
    # What the skip will be is not known while a layer that it depends on is still to be fitted.
    if skip is None or skip is output or skip.is_constant or behind(skip):
        return plain
    if skip.shape != output.shape or total.shape != output.shape:
        return plain
    return _Layer(before, after, columns, total.name, skip.name)


def _measure(
    original: Graph,
    pruned: Graph,
    layers: Sequence[_Layer],
    context: Context,
    samples: Callable[[int], bool],
) -> list[Moments | None]:
    """Return the moments of inputs after and outputs before, from one run of both graphs."""
    sums = [MomentSums(la.after.groups, la.after.features, la.after.outputs) for la in layers]
    wanted = [layer.total for layer in layers]
    read = [layer.after.source.name for layer in layers]
    read += [layer.skip for layer in layers if layer.skip is not None]
    for sample, targets, given in _lockstep(original, wanted, pruned, read, context):
        if not samples(sample):
            continue
        for layer, total in zip(layers, sums, strict=True):
            _take(layer, total, targets, given, (context.seed, sample))
    return [total.result() for total in sums]


def _lockstep(
    original: Graph, wanted: Sequence[str], pruned: Graph, read: Sequence[str], context: Context
) -> Iterator[tuple[int, dict[str, Array], dict[str, Array]]]:
    first = stream_samples(*prefix(original, wanted), context)
    second = stream_samples(*prefix(pruned, read), context)
    for (sample, targets), (_, given) in zip(first, second, strict=True):
        yield sample, targets, given


def _take(
    layer: _Layer,
    total: MomentSums,
    targets: dict[str, Array],
    given: dict[str, Array],
    seeds: tuple[int, int],
) -> None:
    product = layer.after
    target = targets[layer.total]
    picked = pick(layer.before.count(target), product, *seeds)
    inputs = product.inputs(given[product.source.name], target.shape[2:], picked)
    outputs = layer.before.outputs_at(target, picked)[:, layer.columns]
    if layer.skip is not None:
        outputs = outputs - product.outputs_at(given[layer.skip], picked)
    split = outputs.reshape(len(picked), product.groups, product.outputs)
    total.update(inputs, np.ascontiguousarray(split.transpose(1, 0, 2)))


def _fit(
    graph: Graph, product: MatrixProduct, moments: Moments, method: Method, ridge: float
) -> Method:
    intercept = product.bias_of is not None
    weight = product.matrix()
    found: Fit
    if method == "least-squares":
        found = fit(moments, weight, intercept=intercept, ridge=ridge)
    elif method == "statistics":
        found = fit_statistics(moments, weight, intercept=intercept)
    else:
        found = fit_bias(moments, weight, intercept=intercept)
    write(graph, product, found.weight, found.bias if intercept else None)
    return found.method
