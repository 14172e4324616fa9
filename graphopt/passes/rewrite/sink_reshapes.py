"""Move reshapes of single rows down until they meet and cancel.

Exporters keep unit axes (batch, time) around the one row that a streaming model computes, and drop
them before every matrix product. An operator that works on the last axis alone does the same to a
row [1, K] as to [1, 1, K], so a Reshape in front of it can as well come behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.analysis import static_shape
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import made_by
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sigmoid", "Tanh", "Relu", "Elu", "Selu", "LeakyRelu", "Exp",
     "Sqrt", "Neg", "Abs", "Erf", "HardSigmoid", "HardSwish", "Softplus"}
)  # fmt: skip
_ALONG_AXIS = {"LayerNormalization": -1, "Softmax": -1, "LogSoftmax": -1, "Concat": 0}
"""Operators that work along an axis, with the axis where none is given."""
_OLDEST_OPSET = 13


@dataclass(frozen=True)
class SinkReshapes:
    """Run row-wise operators on [1, K] instead of [1, …, 1, K] where that saves reshapes."""

    name: ClassVar[str] = "sink-reshapes"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Sink on a copy, and keep it if that saves an operator or takes a product along."""
        if graph.opset < _OLDEST_OPSET or not graph.nodes("Reshape"):
            return PassResult(False)
        ir.infer_shapes(graph)
        trial = graph.copy()
        sunk = 0
        for node in trial.nodes():
            if _joins(trial, node):
                continue
            rows = _rows(node)
            if rows is not None:
                _sink(trial, node, rows)
                sunk += node.op == "MatMul"
        building.remove_unread(trial)
        saved = len(graph.nodes()) - len(trial.nodes())
        if saved < 0 or (saved == 0 and not sunk):
            return PassResult(False)
        trial.sort()
        graph.assign(trial)
        notes = [counted(saved, "reshape", "saved")] if saved else []
        notes += [counted(sunk, "product", "moved to rows of two axes")] if sunk else []
        return PassResult(True, tuple(notes), {"reshapes": saved, "products": sunk})


def _joins(graph: Graph, node: Node) -> bool:
    """Bypass a Reshape of a Reshape; whether there was one."""
    before = made_by(node.inputs[0] if node.inputs else None, "Reshape")
    shape = static_shape(node.outputs[0]) if node.outputs else None
    if made_by(node.outputs[0] if node.outputs else None, "Reshape") is None or before is None:
        return False
    source = before.inputs[0]
    if shape is None or 0 in shape or static_shape(source) is None or source is None:
        # In the shape of a Reshape 0 means a size that is copied.
        return False
    graph.replace_uses(node.outputs[0], building.reshape(graph, source, shape))
    return True


def _rows(node: Node) -> list[Value] | None:
    """Return the inputs of a row-wise operator as rows [1, K], if reshapes made them all."""
    if node.domain or len(node.outputs) != 1 or not _is_row_wise(node):
        return None
    shape = static_shape(node.outputs[0])
    if shape is None or len(shape) < 3 or math.prod(shape[:-1]) != 1 or not shape[-1]:
        return None
    rows = [_row(v) for v in node.inputs]
    found = [v for v in rows if v is not None]
    moved = any(not v.is_constant for v in found)
    return found if moved and len(found) == len(rows) else None


def _is_row_wise(node: Node) -> bool:
    if node.op in _ELEMENTWISE:
        return True
    if node.op == "MatMul":
        weight = node.inputs[1]
        return weight is not None and weight.is_constant and len(weight.array().shape) == 2
    shape = static_shape(node.outputs[0])
    if shape is None or node.op not in _ALONG_AXIS:
        return False
    return int(node.attribute("axis", _ALONG_AXIS[node.op])) in {-1, len(shape) - 1}


def _row(value: Value | None) -> Value | None:
    """Return a constant that broadcasts over rows, or the row that a Reshape was given."""
    if value is None:
        return None
    if value.is_constant:
        return value if len(value.array().shape) <= 2 else None
    node = made_by(value, "Reshape")
    shape = static_shape(node.inputs[0]) if node is not None else None
    wanted = static_shape(value)
    if node is None or shape is None or wanted is None:
        return None
    return node.inputs[0] if shape == (1, wanted[-1]) and math.prod(wanted[:-1]) == 1 else None


def _sink(graph: Graph, node: Node, rows: list[Value]) -> None:
    output = node.outputs[0]
    shape = static_shape(output) or ()
    attributes = {key: node.attribute(key) for key in node.attribute_names}
    if node.op in _ALONG_AXIS:
        attributes["axis"] = -1
    made = building.add_operator(graph, node.op, rows, (1, shape[-1]), attributes, like=output)
    graph.replace_uses(output, building.reshape(graph, made, shape))
