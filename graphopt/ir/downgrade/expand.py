"""Operators that an older set does not have, put down as the standard defines them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import onnx.defs

from graphopt.errors import ModelError
from graphopt.ir.attributes import Attribute
from graphopt.ir.downgrade.changes import CHANGES
from graphopt.ir.downgrade.refusal import refusal
from graphopt.ir.function import Function
from graphopt.ir.inline import inline_functions
from graphopt.ir.serde import node_proto
from graphopt.ir.shapes import infer_shapes

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node, Value

_DOMAIN = "graphopt.expanded"
_LAYERS = 6
"""Definitions use operators that are defined by others; none as many layers deep as this."""
_EXPANDED_ABOVE = {"GroupNormalization": 21, "Attention": 24}
"""Operators that changed their meaning at that version: put down, not taken back to the old one."""


def expand_new_operators(graph: Graph, version: int) -> None:
    """Replace operators that opset ``version`` lacks by their definitions, in place.

    Raises:
        ModelError: G205, an operator has no definition of older ones.
    """
    for _ in range(_LAYERS):
        infer_shapes(graph)
        new = [n for n in graph.walk() if n.domain == "" and _is_new(n, graph.opset, version)]
        casts = [n for n in new if n.op == "CastLike"]
        for node in casts:
            _settle_cast(node)
        functions = [_defined(graph, n, i) for i, n in enumerate(new) if n not in casts]
        if not functions:
            return
        graph.functions = (*graph.functions, *functions)
        inline_functions(graph)
        graph.opsets.pop(_DOMAIN, None)
    raise ModelError("definitions of operators go round in circles", code="G205")


def _is_new(node: Node, current: int, version: int) -> bool:
    changed = _EXPANDED_ABOVE.get(node.op)
    if changed is not None and version < changed <= current:
        return True
    return not onnx.defs.has(node.op, version, "") and onnx.defs.has(node.op, current, "")


def _settle_cast(node: Node) -> None:
    """Replace CastLike by Cast, whose type is known before the model runs."""
    like = node.inputs[1]
    if like is None or like.dtype is None:
        raise refusal(node, "casts to a type that is not known")
    node.op = "Cast"
    node.set_inputs(node.inputs[:1])
    node.set_attribute("to", int(like.dtype))


def _defined(graph: Graph, node: Node, index: int) -> Function:
    """Make the node a call of a function that is its definition; return that."""
    schema = onnx.defs.get_schema(node.op, graph.opset, "")
    if node.subgraphs:
        raise refusal(node, "is not in that operator set")
    if node.op == "Attention" and any(v.uses or v.is_output for v in node.outputs[3:]):
        # Of what is masked the kernel returns the lowest number, the definition -inf.
        raise refusal(node, "returns its scores")
    made = onnx.FunctionProto.FromString(_definition(schema, node))
    for entry in made.opset_import:
        if entry.domain == "":
            _check_unchanged(node, made, entry.version, graph.opset)
            entry.version = graph.opset
    made.domain, made.name = _DOMAIN, f"{node.op}_{index}"
    for name in [*made.attribute]:
        if name not in node.attribute_names:
            node.put_attribute(_default(schema, name))
    node.op, node.domain = made.name, _DOMAIN
    kept = {*made.attribute, *(a.name for a in made.attribute_proto)}
    for name in node.attribute_names:
        if name not in kept:
            node.set_attribute(name, None)
    graph.opsets[_DOMAIN] = 1
    return Function(made)


def _definition(schema: Any, node: Node) -> bytes:
    """Return the standard's definition of the node; ``schema`` has more than its stubs say."""
    if schema.has_context_dependent_function:
        versions = schema.context_dependent_function_opset_versions
        types = [_type(v) if v is not None else b"" for v in node.inputs]
        proto = node_proto(node).SerializeToString()
        fitting = [v for v in versions if v <= node.graph.opset]
        if fitting and all(v is None or v.dtype is not None for v in node.inputs):
            return bytes(
                schema.get_context_dependent_function_with_opset_version(fitting[-1], proto, types)
            )
    elif schema.has_function:
        fitting = [v for v in schema.function_opset_versions if v <= node.graph.opset]
        if fitting:
            return bytes(schema.get_function_with_opset_version(fitting[-1]))
    raise refusal(node, "is not in that operator set")


def _type(value: Value) -> bytes:
    made = onnx.helper.make_tensor_type_proto(int(value.dtype or 0), value.shape)
    return bytes(made.SerializeToString())


def _check_unchanged(node: Node, made: onnx.FunctionProto, before: int, now: int) -> None:
    """Refuse a definition whose operators mean, or are written as, something else by now."""
    used = {n.op_type for n in made.node if n.domain == ""}
    for op, version in CHANGES:
        if op in used and before < version <= now:
            raise refusal(node, f"is defined by an older {op}")


def _default(schema: onnx.defs.OpSchema, name: str) -> Attribute:
    return Attribute(schema.attributes[name].default_value)
