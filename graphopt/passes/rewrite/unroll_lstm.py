"""Write an LSTM over one time step as the operators that it consists of.

The operator's weights cannot be quantized; those of a product can, and a product of one row with
8-bit weights is where most of a streaming model's time is saved. Spelled out, with input and state
joined in front of one product, the cell is

    [i, o, f, g] = [x, h] [W; R] + b
    c' = sigmoid(f) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')

(ONNX keeps the gates in the order i, o, f, g.) The sigmoid is applied to three gates at once. In
float onnxruntime's own operator is a little faster, so that nothing is done where nothing will be
quantized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import integers, static_shape
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import is_onnxruntime
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_OLDEST_OPSET = 13
_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]


@dataclass(frozen=True)
class UnrollLstm:
    """Turn LSTM over a sequence of static length 1 into one product and its gates.

    Args:
        max_rows: largest batch for which it is done; products of few rows gain by 8-bit weights.
        always: also without calibration data, without which nothing is quantized later, and for
            targets whose runtime has no products that are scaled at run time.
    """

    name: ClassVar[str] = "unroll-lstm"
    effect: ClassVar[Effect] = Effect.EXACT
    max_rows: int = 1
    always: bool = False

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Unroll every LSTM that has one step; say of others why they stay."""
        if not graph.nodes("LSTM") or graph.opset < _OLDEST_OPSET:
            return PassResult(False)
        if not context.has_data and not self.always:
            return PassResult(
                False, ("without data nothing is quantized, and float gains nothing",)
            )
        if not is_onnxruntime(context.target) and not self.always:
            note = f"{context.target.name} has no products that are scaled at run time"
            return PassResult(False, (note,))
        ir.infer_shapes(graph)
        unrolled = 0
        for node in graph.nodes("LSTM"):
            reason = self._obstacle(node)
            if reason is not None:
                context.explain(node, reason)
                continue
            _unroll(graph, node)
            unrolled += 1
        if not unrolled:
            return PassResult(False)
        graph.sort()
        note = counted(unrolled, "LSTM operator", "of one step unrolled")
        return PassResult(True, (note,), {"unrolled": unrolled})

    def _obstacle(self, node: Node) -> str | None:
        shape = static_shape(node.inputs[0])
        if node.domain or shape is None or len(shape) != 3:
            return "the shape of its input is not known"
        if node.attribute("layout", 0) or shape[0] != 1:
            return "it runs over more than one step"
        if shape[1] > self.max_rows:
            return f"its batch is larger than {self.max_rows}"
        weights = [_input(node, i) for i in (1, 2)]
        if any(w is None or w.tensor is None or w.tensor.dtype is not DType.FLOAT for w in weights):
            return "its weights are not constant floats"
        return _unusual(node)


def _input(node: Node, index: int) -> Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _unusual(node: Node) -> str | None:
    """Return which feature of the operator the plain cell does not have."""
    if node.attribute("direction", "forward") not in {"forward", "reverse"}:
        return "it runs in both directions"
    given = [a.lower() for a in node.attribute("activations", _ACTIVATIONS)]
    if given != _ACTIVATIONS:
        return "its activations are not sigmoid, tanh, tanh"
    if node.attribute("clip") is not None or node.attribute("input_forget", 0):
        return "it clips, or couples the input and forget gates"
    if _input(node, 7) is not None:
        return "it has peepholes"
    bias, lengths = _input(node, 3), _input(node, 4)
    if bias is not None and not bias.is_constant:
        return "its bias is not constant"
    if lengths is not None and set(integers(lengths) or [0]) != {1}:
        return "its sequences have lengths of their own"
    return None


@dataclass(frozen=True)
class _Builder:
    """Adds operators on rows [batch, n] to a graph."""

    graph: Graph
    like: Value
    batch: int

    def op(self, op: str, *inputs: Value, columns: int) -> Value:
        return building.add_operator(self.graph, op, inputs, (self.batch, columns), like=self.like)

    def constant(self, what: str, values: Array) -> Value:
        return self.graph.add_constant(f"{self.like.name}_{what}", values)


def _unroll(graph: Graph, node: Node) -> None:
    _, batch, features = static_shape(node.inputs[0]) or (1, 1, 1)
    hidden = node.inputs[2].array().shape[2]  # type: ignore[union-attr]
    like = next(v for v in node.outputs if v.name)
    like.dtype = like.dtype or DType.FLOAT
    build = _Builder(graph, like, batch)
    x = building.reshape(graph, node.inputs[0], (batch, features))  # type: ignore[arg-type]
    h, c = (
        None if v is None else building.reshape(graph, v, (batch, hidden))
        for v in (_input(node, 5), _input(node, 6))
    )
    new_h, new_c = _cell(build, _gates(build, node, x, h, hidden), c, hidden)
    shapes = [(1, 1, batch, hidden), (1, batch, hidden), (1, batch, hidden)]
    for output, made, shape in zip(node.outputs, (new_h, new_h, new_c), shapes, strict=False):
        if output.uses or output.is_output:
            graph.replace_uses(output, building.reshape(graph, made, shape))
    graph.remove(node)


def _gates(build: _Builder, node: Node, x: Value, h: Value | None, hidden: int) -> Value:
    """Return [i, o, f, g] before their activations, [batch, 4 * hidden]."""
    wide = 4 * hidden
    weight = node.inputs[1].array()[0].T  # type: ignore[union-attr]
    if h is not None:
        weight = np.concatenate([weight, node.inputs[2].array()[0].T])  # type: ignore[union-attr]
        x = building.concat(build.graph, [x, h], 1, (build.batch, weight.shape[0]))
    stored = build.constant("weight", np.ascontiguousarray(weight))
    gates = build.op("MatMul", x, stored, columns=wide)
    given = _input(node, 3)
    if given is None:
        return gates
    bias = given.array()[0]
    return build.op("Add", gates, build.constant("bias", bias[:wide] + bias[wide:]), columns=wide)


def _cell(build: _Builder, gates: Value, c: Value | None, hidden: int) -> tuple[Value, Value]:
    """Return the new state (h, c)."""
    outer, inner = building.split(build.graph, gates, 1, [3 * hidden, hidden])
    active = build.op("Sigmoid", outer, columns=3 * hidden)
    i, o, f = building.split(build.graph, active, 1, [hidden] * 3)
    new_c = build.op("Mul", i, build.op("Tanh", inner, columns=hidden), columns=hidden)
    if c is not None:
        kept = build.op("Mul", f, c, columns=hidden)
        new_c = build.op("Add", kept, new_c, columns=hidden)
    return build.op("Mul", o, build.op("Tanh", new_c, columns=hidden), columns=hidden), new_c
