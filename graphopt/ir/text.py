"""Graphs as stable text: for golden files, diffs and error messages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import onnx
import onnx.parser
from google.protobuf.message import DecodeError

from graphopt.errors import ModelError
from graphopt.ir.nesting import too_deep
from graphopt.ir.serde import graph_from_model
from graphopt.ir.sparse import SparseTensor
from graphopt.ir.tensor import Tensor

if TYPE_CHECKING:
    from graphopt.ir.function import Function
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node, Value

_SHORT = 8


def parse(text: str) -> Graph:
    """Read the ONNX text syntax.

    Raises:
        ModelError: G202 with the parser's own message, G209 graphs nested too deep, and what
            reading a file raises.
    """
    try:
        return graph_from_model(onnx.parser.parse_model(text))
    except DecodeError as error:
        raise too_deep() from error
    except onnx.parser.ParseError as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise ModelError(
            f"not ONNX text: {' '.join(reason.split())}",
            code="G202",
            hint="the syntax is that of `onnx.parser.parse_model`",
        ) from error


def to_text(graph: Graph, indent: str = "") -> str:
    """Return one line per input, constant, node and output; equal graphs give equal text."""
    opsets = ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in sorted(graph.opsets.items()))
    lines = [f"{indent}graph {graph.name}" + (f"  # opset {opsets}" if opsets else "")]
    inner = indent + "  "
    lines += [f"{inner}input  {_typed(v)}" for v in graph.inputs]
    lines += [f"{inner}{_contents(v)}" for v in graph.initializers]
    for node in graph.nodes():
        lines += _node_lines(node, inner)
    lines += [f"{inner}output {_typed(v)}" for v in graph.outputs]
    lines += [_function(f) for f in graph.functions]
    return "\n".join(lines) + ("\n" if not indent else "")


def _function(function: Function) -> str:
    proto = function.proto
    signature = f"({', '.join(proto.input)}) -> ({', '.join(proto.output)})"
    return f"function {function.domain}.{function.name}{signature} {_digest(proto)}"


def _digest(message: Any) -> str:
    data = message.SerializeToString(deterministic=True)
    return f"<{hashlib.blake2b(data, digest_size=6).hexdigest()}>"


def _typed(value: Value) -> str:
    kind = value.dtype.name.lower() if value.dtype is not None else "?"
    if value.shape is None:
        return f"{value.name}: {kind}"
    return f"{value.name}: {kind}[{', '.join('?' if d is None else str(d) for d in value.shape)}]"


def _contents(value: Value) -> str:
    tensor = value._tensor
    assert tensor is not None
    kind = "sparse" if isinstance(tensor, SparseTensor) else "const "
    return f"{kind} {_typed(value)} = {_tensor(tensor)}"


def _tensor(tensor: Tensor) -> str:
    if tensor.size <= _SHORT:
        return str(tensor.array().tolist())
    return f"<{tensor.digest()[:12]}>"


def _node_lines(node: Node, indent: str) -> list[str]:
    outputs = ", ".join(v.name or "_" for v in node.outputs)
    inputs = ", ".join("_" if v is None else v.name for v in node.inputs)
    plain = [
        f"{k}={_attribute(node.attribute(k))}"
        for k in sorted(node.attribute_names)
        if not node.attributes[k].graphs
    ]
    op = f"{node.domain}.{node.op}" if node.domain else node.op
    attributes = f" <{', '.join(plain)}>" if plain else ""
    lines = [f"{indent}{outputs} = {op}{attributes}({inputs})"]
    for key in sorted(node.attribute_names):
        for graph in node.attributes[key].graphs:
            lines.append(f"{indent}  {key}:")
            lines.append(to_text(graph, indent + "    "))
    return lines


def _attribute(value: Any) -> str:
    if isinstance(value, Tensor):
        return _tensor(value)
    text = str(value)
    # One line per node, whatever a string holds.
    return text if text.isprintable() else repr(value)
