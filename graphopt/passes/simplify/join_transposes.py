"""Reorder axes once instead of twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.analysis import only_consumer
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import remove_unread
from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.bypass import bypass, drop_unread
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_UNARY = frozenset(
    {"Abs", "Acos", "Asin", "Atan", "Cast", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp",
     "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log",
     "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
     "Sin", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu"}
)  # fmt: skip
_BINARY = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
     "Mul", "Or", "Pow", "Sub", "Xor"}
)  # fmt: skip


@dataclass(frozen=True)
class JoinTransposes:
    """Compose a Transpose with the one before it, also past element-wise operators between them.

    Two that undo each other go. The operators between must be the only readers of what they read,
    and may combine it with a number. A Transpose that others read too is composed only if nothing
    remains of the pair.
    """

    name: ClassVar[str] = "join-transposes"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Join in order, until no Transpose meets another."""
        joined = 0
        for node in graph.nodes("Transpose"):
            while _is_transpose(node) and _join(graph, node):
                joined += 1
        if not joined:
            return PassResult(False)
        remove_unread(graph)
        note = counted(joined, "pair", "of Transposes joined")
        return PassResult(True, (note,), {"transposes": joined})


def _is_transpose(node: Node) -> bool:
    """Whether the node is still there, is one, and has a known order."""
    return bool(node.inputs) and not node.domain and node.op == "Transpose" and bool(_order(node))


def _order(node: Node | None) -> list[int] | None:
    """Return the order of axes, as far as it is known without the rank."""
    if node is None:
        return None
    order: list[int] | None = node.attribute("perm")
    source = node.inputs[0] if node.inputs else None
    if order is None and source is not None and source.shape is not None:
        order = list(range(len(source.shape)))[::-1]
    return order


def _join(graph: Graph, node: Node) -> bool:
    """Compose with the Transpose further up; whether there was one."""
    between, first = _up(node, len(_order(node) or ()))
    orders = _order(first), _order(node)
    if first is None or orders[0] is None or orders[1] is None or first.inputs[0] is None:
        return False
    if len(orders[0]) != len(orders[1]):
        return False
    joint = [orders[0][axis] for axis in orders[1]]
    nothing = joint == sorted(joint)
    if not nothing and only_consumer(first.outputs[0]) is None:
        return False
    source = first.inputs[0]
    if between:
        _carry(graph, node, between, source, joint)
        drop_unread(graph, first)
        return True
    if nothing:
        bypass(graph, node, source)
    else:
        node.set_attribute("perm", joint)
        node.set_input(0, source)
    drop_unread(graph, first)
    return True


def _up(node: Node, rank: int) -> tuple[list[Node], Node | None]:
    """Return the operators between a Transpose and the one above it, lowest first."""
    between: list[Node] = []
    value = node.inputs[0]
    while value is not None:
        found = made_by(value, "Transpose")
        if found is not None:
            return between, found
        producer = made_by(value, *_UNARY, *_BINARY)
        index = _moved(producer, rank) if producer is not None else None
        if producer is None or index is None or only_consumer(value) is None:
            break
        between.append(producer)
        value = producer.inputs[index]
    return [], None


def _moved(node: Node, rank: int) -> int | None:
    """Return which input an element-wise operator works on, if the others are single numbers."""
    if len(node.outputs) != 1:
        return None
    loose = [i for i, v in enumerate(node.inputs) if v is not None and not _is_number(v, rank)]
    return loose[0] if len(loose) == 1 else None


def _is_number(value: Value, rank: int) -> bool:
    """Whether it is one constant that cannot add axes to the result."""
    tensor = value.tensor
    return tensor is not None and tensor.size == 1 and len(tensor.shape) <= rank


def _carry(graph: Graph, node: Node, between: list[Node], source: Value, joint: list[int]) -> None:
    """Let the operators between work on what the first Transpose reads."""
    top = between[-1]
    index = _moved(top, len(joint))
    assert index is not None
    nothing = joint == sorted(joint)
    last = between[0].outputs[0]
    top.set_input(index, source)
    for operator in between:
        _permute(operator.outputs[0], source)
    if nothing:
        bypass(graph, node, last)
    else:
        node.set_attribute("perm", joint)


def _permute(value: Value, like: Value) -> None:
    """Give an element-wise result the shape of what is now read, which it has or broadcasts to."""
    value.shape = like.shape
    value.source = None
