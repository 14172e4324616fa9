"""Does a node fit an operator as an older set defines it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.defs

from graphopt.ir.downgrade.refusal import refusal
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.inference import Inference
    from graphopt.ir.node import Node, Value

_NAMES = {
    DType.FLOAT: "float", DType.DOUBLE: "double", DType.FLOAT16: "float16",
    DType.BFLOAT16: "bfloat16", DType.BOOL: "bool", DType.STRING: "string",
}  # fmt: skip


def make_fit(node: Node, version: int, before: int, inference: Inference) -> None:
    """Drop attributes at a default that the older operator does not know; check all the rest.

    Args:
        node: of a graph for opset ``version``.
        version: the older operator set.
        before: the operator set that the defaults are of.
        inference: tells the types of the graph that the node is in.

    Raises:
        ModelError: G205, the node has an attribute, operand or element type that was not there.
    """
    schema = onnx.defs.get_schema(node.op, version, "")
    newer = onnx.defs.get_schema(node.op, before, "")
    for name, attribute in dict(node.attributes).items():
        if name in schema.attributes:
            continue
        default = newer.attributes[name].default_value if name in newer.attributes else None
        if default is None or default.type != attribute.proto.type:
            raise refusal(node, f"uses the attribute `{name}`, which it does not have there")
        if _held(default) != _held(attribute.proto):
            raise refusal(node, f"uses the attribute `{name}`, which it does not have there")
        node.set_attribute(name, None)
    _check_counts(node, schema)
    _check_types(node, schema, inference)


def _held(proto: onnx.AttributeProto) -> object:
    return onnx.helper.get_attribute_value(proto)


def _check_counts(node: Node, schema: onnx.defs.OpSchema) -> None:
    given = len(node.inputs)
    while given and node.inputs[given - 1] is None:
        given -= 1
    if not schema.min_input <= given <= schema.max_input:
        raise refusal(node, f"has {given} operands, which it cannot have there")
    read = [i for i, v in enumerate(node.outputs) if v.name and (v.uses or v.is_output)]
    if read and read[-1] >= schema.max_output:
        raise refusal(node, f"has {read[-1] + 1} results, which it cannot have there")


def _check_types(node: Node, schema: onnx.defs.OpSchema, inference: Inference) -> None:
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    bound: dict[str, str] = {}
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, value in enumerate(values):
            if value is None or not value.name or not formals:
                continue
            formal = formals[min(index, len(formals) - 1)]
            found = _type(value, inference)
            if found is None:
                continue
            if found not in allowed.get(formal.type_str, {formal.type_str}):
                raise refusal(node, f"works on {found}, which it does not there")
            if formal.is_homogeneous and bound.setdefault(formal.type_str, found) != found:
                raise refusal(node, f"mixes {bound[formal.type_str]} and {found}")


def _type(value: Value, inference: Inference) -> str | None:
    """Return the type as schemas spell it; None where it is not known."""
    fact = inference.fact(value)
    dtype = value.dtype if value.dtype is not None else fact.dtype
    if dtype is not None:
        return f"tensor({_NAMES.get(dtype, dtype.name.lower())})"
    return _spelt(fact.proto) if fact.proto is not None else None


def _spelt(proto: onnx.TypeProto) -> str:
    """Return a type that is no tensor, as schemas spell it."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        held = DType(proto.tensor_type.elem_type)
        return f"tensor({_NAMES.get(held, held.name.lower())})"
    if kind == "sequence_type":
        return f"seq({_spelt(proto.sequence_type.elem_type)})"
    if kind == "optional_type":
        return f"optional({_spelt(proto.optional_type.elem_type)})"
    return str(kind)
