"""Tensors inside a model that a student can be shown: the ends of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.correspondence import corresponding
from graphopt_torch.teaching.channels import narrowed_axis

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.types import Shape

_MOST = 12
"""Features that are compared; of more, an even choice."""
_FOLLOWING = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "Sigmoid", "Tanh"})
_MAKING = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_RANK = 3
"""Axes that a feature has at least: a batch, channels and places, or the other way round."""


def block_ends(original: Graph, graph: Graph) -> dict[str, str]:
    """Return the tensors of a teacher that its student has too, as {the teacher's: the student's}.

    The sums of a residual stream are what blocks end in; a model without any has the results of its
    layers, behind their activation. The student's may have fewer channels. Outputs are not among
    them.

    Args:
        original: the teacher; with shapes.
        graph: the student; with shapes.
    """
    same = {
        name: other
        for name, other in corresponding(original, graph).items()
        if _comparable(original.find(name), graph.find(other))
    }
    outputs = {value.name for value in original.outputs}
    found = [name for name in _ends(original) if name in same and name not in outputs]
    return {name: same[name] for name in _spread(found)}


def _ends(graph: Graph) -> list[str]:
    nodes = graph.nodes()
    sums = [node for node in nodes if _is_residual(node)]
    chosen = sums or [_behind(node) for node in nodes if node.op in _MAKING]
    return list(dict.fromkeys(node.outputs[0].name for node in chosen))


def _is_residual(node: Node) -> bool:
    """Whether two tensors of one shape are added, both of them computed."""
    if node.op != "Add" or len(node.inputs) != 2:
        return False
    one, other = node.inputs
    if one is None or other is None or one.tensor is not None or other.tensor is not None:
        return False
    return one.shape is not None and one.shape == other.shape


def _behind(node: Node) -> Node:
    """Return the activation that alone reads what a layer makes, or the layer."""
    while True:
        uses = node.outputs[0].uses
        if len(uses) != 1 or node.outputs[0].is_output or uses[0][0].op not in _FOLLOWING:
            return node
        node = uses[0][0]


def _comparable(one: Value | None, other: Value | None) -> bool:
    if one is None or other is None or one.shape is None or other.shape is None:
        return False
    if len(one.shape) < _RANK or one.dtype is None or not one.dtype.is_float:
        return False
    return other.dtype == one.dtype and _fits(one.shape, other.shape)


def _fits(one: Shape, other: Shape) -> bool:
    """Whether shapes are equal, or the second is shorter along one axis; open sizes are alike."""
    sizes = [tuple(d if isinstance(d, int) else 0 for d in shape) for shape in (one, other)]
    return sizes[0] == sizes[1] or narrowed_axis(*sizes) is not None


def _spread(names: list[str]) -> list[str]:
    if len(names) <= _MOST:
        return names
    return [names[(2 * part + 1) * len(names) // (2 * _MOST)] for part in range(_MOST)]
