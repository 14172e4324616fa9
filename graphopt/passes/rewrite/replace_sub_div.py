"""Subtract and divide by constants as addition and multiplication, which runtimes fuse.

onnxruntime merges Add and Mul into the convolution before them, and has integer kernels of both;
it has neither for Sub and Div.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.passes.base import PassResult
from graphopt.passes.patterns.building import replace_constant
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_TYPES = frozenset({DType.FLOAT, DType.DOUBLE})


@dataclass(frozen=True)
class ReplaceSubDiv:
    """Turn Sub of a constant into Add, and Div by a constant into Mul.

    x / c becomes x * (1/c), which rounds once more: a relative difference of at most 2^-23 in
    float32. A Div before Erf stays: runtimes recognise Gelu by it.
    """

    name: ClassVar[str] = "replace-sub-div"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every Sub and Div whose second operand is a constant that allows it."""
        found = [n for n in graph.nodes("Sub", "Div") if n.domain == ""]
        if not any(n.inputs[1] is not None and n.inputs[1].is_constant for n in found):
            return PassResult(False)
        ir.infer_shapes(graph)
        replaced = {"Sub": 0, "Div": 0}
        for node in found:
            constant = _opposite(node)
            if constant is not None:
                replaced[node.op] += 1
                _replace(graph, node, constant)
        count = sum(replaced.values())
        if not count:
            return PassResult(False)
        parts = ", ".join(f"{n} {op}" for op, n in replaced.items() if n)
        return PassResult(True, (f"{parts} replaced",), {"nodes": count})


def _opposite(node: Node) -> Array | None:
    """Return -c for Sub and 1/c for Div; None where the node must stay."""
    constant = node.inputs[1]
    if constant is None or not constant.is_constant or constant.dtype not in _TYPES:
        return None
    values = constant.array()
    if node.op == "Sub":
        return np.asarray(-values)
    if any(reader.op == "Erf" for reader in node.outputs[0].consumers):
        return None
    smallest = np.finfo(values.dtype).tiny
    magnitude = np.abs(values)
    if not np.all((magnitude >= smallest) & (magnitude <= 1 / smallest)):
        return None
    return np.asarray(1 / values, dtype=values.dtype)


def _replace(graph: Graph, node: Node, constant: Array) -> None:
    suffix = "negated" if node.op == "Sub" else "inverted"
    node.op = "Add" if node.op == "Sub" else "Mul"
    replace_constant(graph, node, 1, constant, suffix)
