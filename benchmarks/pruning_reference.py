"""What a pruned model should compute where norms and means run over what is left.

A mean over fewer elements is another mean, so taking a residual stream's features away is not
exact. It is well defined all the same: every mean and every variance is that of the features that
stay. Here the original is rewritten to take its statistics so, with all its features, and the
pruned model has to agree with that as closely as with exact couplings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling import Cut
    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

LAYER_NORMS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"})


def take_statistics_of_the_rest(whole: Graph, silenced: Graph, cut: Cut) -> list[str]:
    """Let means and norms of the silenced original run over what a cut keeps.

    Args:
        whole: the graph that the cut was made for.
        silenced: that graph, with what goes silenced; changed in place.
        cut: what is kept.

    Returns:
        Operators that change with what is left, and that there is no such rewrite for.
    """
    unknown = []
    for node in whole.nodes():
        source = node.inputs[0] if node.inputs else None
        if source is None or not cut.touches(source):
            continue
        twin = silenced.value(node.outputs[0].name).producer
        axes = _statistic_axes(node)
        if twin is None or not any(cut.keep(source, axis) is not None for axis in axes):
            continue
        if node.op == "ReduceMean":
            _scale_mean(silenced, twin, _share(source, axes, cut))
        elif node.op in LAYER_NORMS:
            _spell_out(silenced, twin, axes, _mask(source, axes, cut))
        else:
            unknown.append(node.op)
    silenced.sort()
    return sorted(set(unknown))


def _statistic_axes(node: Node) -> Sequence[int]:
    """Return the axes that an operator takes statistics over; none for all other operators."""
    source = node.inputs[0]
    rank = len(source.shape or ()) if source is not None else 0
    if node.op in LAYER_NORMS:
        return range(node.attribute("axis", -1) % max(rank, 1), rank)
    if node.op in {"ReduceMax", "ReduceMin", "ReduceLogSumExp", "ReduceMean"}:
        axes = node.attribute("axes")
        given = node.inputs[1] if len(node.inputs) > 1 else None
        if axes is None and given is not None and given.is_constant:
            axes = given.array().tolist()
        return range(rank) if axes is None else [axis % rank for axis in axes]
    if node.op == "GroupNormalization":
        return [1]
    if node.op == "LpNormalization":
        return [node.attribute("axis", -1) % max(rank, 1)]
    return []


def _share(source: Value, axes: Sequence[int], cut: Cut) -> float:
    share = 1.0
    for axis in axes:
        keep = cut.keep(source, axis)
        share *= 1.0 if keep is None else float(keep.mean())
    return share


def _mask(source: Value, axes: Sequence[int], cut: Cut) -> Array:
    """Return 1 where an element stays, broadcast against the source; float32."""
    mask = np.ones([1] * len(source.shape or ()), dtype=np.float32)
    for axis in axes:
        keep = cut.keep(source, axis)
        size = (source.shape or ())[axis]
        shape = [1] * mask.ndim
        shape[axis] = -1
        flags = np.ones(int(size or 1), bool) if keep is None else keep
        mask = mask * flags.reshape(shape).astype(np.float32)
    return mask


def _scale_mean(graph: Graph, node: Node, share: float) -> None:
    """What was zeroed still counts in a mean: divide by the number that stays."""
    factor = _constant(graph, np.float32(1 / share))
    node.set_input(0, graph.add_node("Mul", [node.inputs[0], factor]).outputs[0])


def _spell_out(graph: Graph, node: Node, axes: Sequence[int], mask: Array) -> None:
    """Replace a norm by one that looks at masked elements only."""
    source = node.inputs[0]
    count = _constant(graph, np.float32(mask.sum()))
    kept = _constant(graph, mask)
    places = _constant(graph, np.array(list(axes), dtype=np.int64))

    def mean(value: Value) -> Value:
        masked = graph.add_node("Mul", [value, kept]).outputs[0]
        total = graph.add_node("ReduceSum", [masked, places], attributes={"keepdims": 1})
        return graph.add_node("Div", [total.outputs[0], count]).outputs[0]

    assert source is not None
    if node.op == "LayerNormalization":
        source = graph.add_node("Sub", [source, mean(source)]).outputs[0]
    power = mean(graph.add_node("Mul", [source, source]).outputs[0])
    epsilon = _constant(graph, np.float32(node.attribute("epsilon", 1e-5)))
    root = graph.add_node("Sqrt", [graph.add_node("Add", [power, epsilon]).outputs[0]])
    made = graph.add_node("Div", [source, root.outputs[0]]).outputs[0]
    for op, operand in zip(("Mul", "Add"), node.inputs[1:3], strict=False):
        if operand is not None:
            made = graph.add_node(op, [made, operand]).outputs[0]
    graph.replace_uses(node.outputs[0], made)


def _constant(graph: Graph, array: Any) -> Value:
    return graph.add_constant(graph.unique_name("reference_constant"), np.asarray(array))
