"""Bring every spelling of HardSigmoid and HardSwish into one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import scalar
from graphopt.passes.base import PassResult
from graphopt.passes.patterns.matching import number_beside
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from typing import TypeGuard

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_SIXTH = float(np.float32(1.0) / np.float32(6.0))
_SPELLING = frozenset({"Add", "Clip", "Div", "Mul"})
_ATTRIBUTES = {"alpha": _SIXTH, "beta": 0.5}


@dataclass(frozen=True)
class ReplaceHardSwish:
    """Turn HardSwish, and Clip(x + 3, 0, 6) / 6 with or without x *, into HardSigmoid and Mul.

    Source: Howard et al. 2019, arXiv:1905.02244, sec. 5.2: hswish(x) = x * ReLU6(x + 3) / 6. That
    is how onnxruntime executes HardSwish itself; and the parts have integer forms.
    """

    name: ClassVar[str] = "replace-hard-swish"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every occurrence in float32."""
        if not graph.nodes("HardSwish", "Clip"):
            return PassResult(False)
        ir.infer_shapes(graph)
        whole = sum(_expand(graph, n) for n in graph.nodes("HardSwish") if n.domain == "")
        spelled = sum(_gather(graph, n) for n in graph.nodes("Clip") if n.domain == "")
        if not whole + spelled:
            return PassResult(False)
        graph.sort()
        counts = {"HardSwish": whole, "spelled-out form": spelled}
        parts = [
            f"{n} {what}{'s' * (n != 1 and what[0] == 's')}" for what, n in counts.items() if n
        ]
        return PassResult(True, (f"{', '.join(parts)} replaced",), {"nodes": whole + spelled})


def _expand(graph: Graph, node: Node) -> bool:
    source = node.inputs[0]
    if not _is_open(source):
        return False
    _write_product(graph, node, source)
    graph.remove(node)
    return True


def _is_open(source: Value | None) -> TypeGuard[Value]:
    """Whether it is float32, and no DQ: a second reader would undo what another tool fused."""
    if source is None or source.dtype is not DType.FLOAT:
        return False
    return source.producer is None or source.producer.op != "DequantizeLinear"


def _write_product(graph: Graph, node: Node, source: Value) -> None:
    """Let x * HardSigmoid(x) take the place of the node's output."""
    gate = _write_gate(graph, node, source)
    name = f"{node.label}_mul"
    product = graph.add_node("Mul", [source, gate], 1, name=name).outputs[0]
    product.dtype, product.shape = source.dtype, source.shape
    graph.replace_uses(node.outputs[0], product)


def _write_gate(graph: Graph, node: Node, source: Value) -> Value:
    name = f"{node.label}_gate"
    gate = graph.add_node("HardSigmoid", [source], 1, _ATTRIBUTES, name=name).outputs[0]
    gate.dtype, gate.shape = source.dtype, source.shape
    return gate


def _gather(graph: Graph, clip: Node) -> bool:
    """Replace Clip(x + 3, 0, 6) and what divides it, or its product with x, by 6."""
    bounds = [scalar(clip.inputs[i]) if len(clip.inputs) > i else None for i in (1, 2)]
    shifted = clip.inputs[0]
    if bounds != [0.0, 6.0] or shifted is None or shifted.producer is None:
        return False
    source = _shifted_by_three(shifted.producer)
    reader = _only_reader(clip.outputs[0])
    if not _is_open(source) or reader is None:
        return False
    if _is_sixth(reader, clip.outputs[0], source):
        graph.replace_uses(reader.outputs[0], _write_gate(graph, reader, source))
        _remove_chain(graph, reader)
        return True
    divided = _only_reader(reader.outputs[0])
    is_product = (
        reader.op == "Mul" and not reader.domain and set(reader.inputs) == {source, clip.outputs[0]}
    )
    if not is_product or divided is None or not _is_sixth(divided, reader.outputs[0], source):
        return False
    _write_product(graph, divided, source)
    _remove_chain(graph, divided)
    return True


def _shifted_by_three(add: Node) -> Value | None:
    """Return x of an Add that computes x + 3."""
    if add.op != "Add" or add.domain:
        return None
    for index in (0, 1):
        if number_beside(add.inputs[1 - index], add.inputs[index]) == 3.0:
            return add.inputs[index]
    return None


def _is_sixth(node: Node, value: Value, source: Value) -> bool:
    """Whether the node divides ``value``, which is shaped like ``source``, by 6."""
    if node.domain:
        return False
    if node.op == "Div":
        return node.inputs[0] is value and number_beside(node.inputs[1], source) == 6.0
    other = next((v for v in node.inputs if v is not value), None)
    factor = number_beside(other, source) if node.op == "Mul" else None
    return factor is not None and abs(factor - _SIXTH) < 1e-7


def _only_reader(value: Value) -> Node | None:
    if value.is_output or len(value.uses) != 1 or value.consumers[0].graph is not value.graph:
        return None
    return value.consumers[0]


def _remove_chain(graph: Graph, node: Node) -> None:
    """Remove the node and what only it needed of the spelling."""
    stack = [node]
    while stack:
        current = stack.pop()
        if any(o.uses or o.is_output for o in current.outputs):
            continue
        before = dict.fromkeys(v.producer for v in current.inputs if v is not None)
        graph.remove(current)
        stack += [n for n in before if n is not None and n.op in _SPELLING and n.graph is graph]
