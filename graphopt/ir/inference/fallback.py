"""onnx's own inference, asked about one node: what it raises costs nothing but that node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.shape_inference

from graphopt.ir.dims import show, symbol
from graphopt.ir.inference.fact import Fact, numbers
from graphopt.ir.serde import node_proto, tensor_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir.dims import Dim
    from graphopt.ir.function import Function
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node
    from graphopt.types import DType

    Answer = tuple[DType | None, Sequence[Dim | None] | None, onnx.TypeProto | None]

_FAILURES = (
    *(onnx.shape_inference.InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError),
    *(RuntimeError, ValueError, KeyError, TypeError),
)


def asked_of_onnx(
    graph: Graph, node: Node, facts: Sequence[Fact | None]
) -> tuple[list[Answer] | None, str]:
    """Return what onnx knows of the results of a node, and why it knows nothing.

    Args:
        graph: the outermost graph: operator sets and local functions.
        node: without inner graphs that read values from around them.
        facts: of its operands.
    """
    function = _local(graph, node)
    if function is None and not onnx.defs.has(node.op, node.domain):
        return None, ""
    symbols: dict[str, Dim] = {}
    types = {
        v.name: _type(fact, symbols)
        for v, fact in zip(node.inputs, facts, strict=True)
        if v is not None and fact is not None
    }
    try:
        if function is not None:
            found = _by_function(graph, node, types)
        else:
            found = _by_schema(graph, node, types, _data(node, facts))
    except _FAILURES as error:
        return None, _first_line(error)
    return [_answer(found.get(v.name), symbols) for v in node.outputs], ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _local(graph: Graph, node: Node) -> Function | None:
    return next(
        (f for f in graph.functions if (f.proto.domain, f.name) == (node.domain, node.op)), None
    )


def _type(fact: Fact, symbols: dict[str, Dim]) -> onnx.TypeProto:
    if fact.proto is not None:
        return fact.proto
    made = onnx.TypeProto()
    made.tensor_type.elem_type = int(fact.dtype or 0)
    if fact.dims is None:
        return made
    made.tensor_type.shape.SetInParent()
    for dim in fact.dims:
        held = made.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            held.dim_value = dim
        else:
            held.dim_param = str(show(dim))
            symbols[held.dim_param] = dim
    return made


def _data(node: Node, facts: Sequence[Fact | None]) -> dict[str, onnx.TensorProto]:
    """Return the operands whose few numbers are all known."""
    found = {}
    for value, fact in zip(node.inputs, facts, strict=True):
        if value is None or fact is None:
            continue
        if fact.tensor is not None:
            if fact.elements is not None:
                found[value.name] = fact.tensor.to_proto(value.name)
        elif (held := numbers(fact.elements)) is not None and fact.dtype is not None:
            shape = fact.elements.shape if fact.elements is not None else ()
            array = np.array(held, dtype=fact.dtype.numpy_name).reshape(shape)
            found[value.name] = onnx.numpy_helper.from_array(array, value.name)
    return found


def _by_schema(
    graph: Graph,
    node: Node,
    types: dict[str, onnx.TypeProto],
    data: dict[str, onnx.TensorProto],
) -> Mapping[str, onnx.TypeProto]:
    version = graph.opset if node.domain == "" else graph.opsets.get(node.domain, 1)
    schema = onnx.defs.get_schema(node.op, version, node.domain)
    imports = [onnx.helper.make_opsetid(k, v) for k, v in graph.opsets.items()]
    return onnx.shape_inference.infer_node_outputs(
        schema, node_proto(node), types, data, None, imports
    )


def _by_function(
    graph: Graph, node: Node, types: Mapping[str, onnx.TypeProto]
) -> Mapping[str, onnx.TypeProto]:
    """Infer a model of that one node, with the functions beside it."""
    inputs = [onnx.ValueInfoProto(name=k, type=v) for k, v in types.items()]
    outputs = [onnx.ValueInfoProto(name=v.name) for v in node.outputs if v.name]
    made = onnx.helper.make_model(
        onnx.helper.make_graph([node_proto(node)], "node", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid(k, v) for k, v in graph.opsets.items()],
        functions=[f.proto for f in graph.functions],
    )
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
    return {o.name: o.type for o in inferred.graph.output}


def _answer(proto: onnx.TypeProto | None, symbols: Mapping[str, Dim]) -> Answer:
    if proto is None or not proto.WhichOneof("value"):
        return None, None, None
    if not proto.HasField("tensor_type"):
        return None, None, proto
    dtype, shape = tensor_type(proto)
    if shape is None:
        return dtype, None, None
    return dtype, [symbols.get(d) if isinstance(d, str) else d for d in shape], None


def declared_symbol(name: str, bottoms: Mapping[str, tuple[int, int]]) -> Dim:
    """Return the size that a model calls ``name``, with the bounds that it was given."""
    return symbol(name, max(bottoms.get(name, (0, 0))[0], 0))
