"""What can be done with a residual branch, as edits of a copy of the graph.

Tensors that other branches name keep their names: the end of the branch where something takes its
place, and the sum always. So options of branches that do not overlap can be applied one after the
other, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.analysis.branches import Branch
from graphopt.errors import ModelError
from graphopt.passes.prune.branches.linear import Kind, Linear

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from graphopt.analysis.branches import Chain
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.prune.branches.fit import Fitted

    Array = np.ndarray[Any, Any]

_MERGED = (Kind.MERGED1, Kind.MERGED3)
_OPENS = 17
"""Opset of the first LayerNormalization."""


@dataclass(frozen=True)
class BranchOption:
    """One way to do without a branch.

    Args:
        kind: which way.
        branch: the branch, or chain, of the graph that it was found in.
    """

    kind: Kind
    branch: Chain

    def apply(self, graph: Graph, fitted: Fitted) -> None:
        """Edit a graph, the one of the branch or a copy of it, in place; it stays legal.

        Args:
            graph: has the branch still; names tell where.
            fitted: what was fitted for the branch.

        Raises:
            ModelError: G205, the graph has no such branch, or nothing was fitted for the option.
        """
        last = graph.value(self.branch.exit.name)
        made = last.producer
        if made is None:
            raise ModelError(f"`{last.name}` is not made by a branch", code="G205")
        if self.kind in {Kind.LIN1, Kind.LIN3}:
            _put(graph, _linear(self, fitted), graph.value(self.branch.entry.name), last)
            _sweep(graph, [made])
        else:
            self._end(graph, last, fitted)
        graph.sort()

    def _end(self, graph: Graph, last: Value, fitted: Fitted) -> None:
        """Do without the addition, or without its operand."""
        join = last.consumers[0]
        position = join.inputs.index(last)
        skip = join.inputs[1 - position]
        assert skip is not None
        if self.kind in _MERGED:
            entry, total = graph.value(self.branch.entry.name), join.outputs[0]
            _put(graph, _linear(self, fitted), entry, total)
            _sweep(graph, [join])
        elif join.op == "SkipLayerNormalization":
            _normalize(graph, join, skip, _mean(self, fitted))
        elif self.kind is Kind.DROP:
            join.set_input(position, _constant(graph, last, _mean(self, fitted), fitted))
            _sweep(graph, [last.producer])
        else:
            graph.add_node("Identity", [skip], [join.outputs[0]])
            _sweep(graph, [join])


def branch_options(branch: Chain, fitted: Fitted) -> tuple[BranchOption, ...]:
    """Return what can be done with a branch, cheapest first; ``obstacles`` has the reasons."""
    against = obstacles(branch, fitted)
    return tuple(BranchOption(kind, branch) for kind in Kind if kind not in against)


def obstacles(branch: Chain, fitted: Fitted) -> Mapping[Kind, str]:
    """Return why some kinds of options are not possible, or not worth a try."""
    found = dict(fitted.declined)
    for kind in Kind:
        reason = _obstacle(branch, kind)
        if reason:
            found[kind] = reason
    return found


def _obstacle(branch: Chain, kind: Kind) -> str:
    if kind in {Kind.LIN1, Kind.LIN3} and _is_linear(branch):
        return "it is one linear operator already"
    if kind in {Kind.LIN1, Kind.LIN3}:
        return ""
    if not isinstance(branch, Branch):
        return "there is nothing that it is added to"
    if branch.skip.shape is None or branch.exit.shape is None:
        return "the shapes of what is added are not known"
    join = branch.join
    if not join.domain:
        return ""
    if kind in _MERGED:
        return f"{join.op} does more than to add"
    if join.op != "SkipLayerNormalization" or join.graph.opset < _OPENS:
        return f"no operator of opset {join.graph.opset} is {join.op} without a second operand"
    used = any(v.uses or v.is_output for v in join.outputs[1:3])
    return "the statistics of its normalization are read" if used else ""


def _is_linear(branch: Chain) -> bool:
    """Whether it is a single product: one of kernel 3 or 1 would save nothing, or no operator."""
    ops = [node.op for node in branch.nodes]
    return len(ops) == 1 and ops[0] in {"Conv", "Gemm", "MatMul"}


def _linear(option: BranchOption, fitted: Fitted) -> Linear:
    found = fitted.linears.get(option.kind)
    if found is None:
        raise _missing(option)
    return found


def _mean(option: BranchOption, fitted: Fitted) -> Array:
    if option.kind is Kind.REMOVE:
        return np.zeros(0)
    if fitted.mean is None:
        raise _missing(option)
    return fitted.mean


def _missing(option: BranchOption) -> ModelError:
    message = f"nothing was fitted for `{option.kind}` of `{option.branch.name}`"
    return ModelError(message, code="G205")


# -- edits ---------------------------------------------------------------------------------


def _put(graph: Graph, linear: Linear, entry: Value, made: Value) -> None:
    """Let a linear operator of ``entry`` make ``made``, which keeps its name and its readers."""
    weight = _stored(graph, f"{made.name}_linear_weight", linear.weight, made)
    bias = _stored(graph, f"{made.name}_linear_bias", linear.bias, made)
    if linear.strides:
        attributes = {
            "kernel_shape": list(linear.weight.shape[2:]),
            "strides": list(linear.strides),
            "pads": list(linear.pads),
        }
        graph.add_node("Conv", [entry, weight, bias], [made], attributes)
        return
    if made.shape is not None and len(made.shape) == 2:
        graph.add_node("Gemm", [entry, weight, bias], [made])
        return
    product = graph.add_node("MatMul", [entry, weight], [f"{made.name}_linear"]).outputs[0]
    product.dtype, product.shape = made.dtype, made.shape
    graph.add_node("Add", [product, bias], [made])


def _stored(graph: Graph, name: str, values: Array, like: Value) -> Value:
    kind = like.dtype.numpy_name if like.dtype is not None else "float32"
    return graph.add_constant(name, ir.Tensor.from_array(values.astype(kind)))


def _constant(graph: Graph, last: Value, mean: Array, fitted: Fitted) -> Value:
    """Return the mean in a shape that broadcasts over the channels of ``last``."""
    behind = len(last.shape or ()) - 2 if fitted.channel_axis == 1 else 0
    return _stored(graph, f"{last.name}_mean", mean.reshape(-1, *[1] * behind), last)


def _normalize(graph: Graph, join: Node, skip: Value, mean: Array) -> None:
    """Put a LayerNormalization of the skip in the place of a SkipLayerNormalization."""
    source = skip
    rest = [*join.inputs[2:], None, None, None][:3]
    given = rest[2]
    bias = mean if given is None else np.resize(mean, given.array().shape) + given.array()
    if bias.size:
        shift = _stored(graph, f"{skip.name}_shift", bias, skip)
        total = join.outputs[3] if len(join.outputs) > 3 and join.outputs[3].name else None
        place = total if total is not None else graph.unique_name(f"{skip.name}_shifted")
        source = graph.add_node("Add", [skip, shift], [place]).outputs[0]
        source.dtype, source.shape = skip.dtype, skip.shape
    elif len(join.outputs) > 3 and join.outputs[3].name:
        graph.add_node("Identity", [skip], [join.outputs[3]])
    attributes = {"axis": -1, "epsilon": join.attribute("epsilon", 1e-12)}
    graph.add_node("LayerNormalization", [source, *rest[:2]], [join.outputs[0]], attributes)
    _sweep(graph, [join])


def _sweep(graph: Graph, nodes: Iterable[Node | None]) -> None:
    """Remove operators that nobody reads any more, then those that only they read."""
    stack = [node for node in nodes if node is not None]
    gone: set[Node] = set()
    while stack:
        node = stack.pop()
        mine = [v for v in node.outputs if v.producer is node]
        if node in gone or any(v.uses or v.is_output for v in mine):
            continue
        read = [v for v in node.inputs if v is not None]
        gone.add(node)
        graph.remove(node)
        for value in read:
            if value.producer is not None:
                stack.append(value.producer)
            else:
                graph.drop_constant(value)
