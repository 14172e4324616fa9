"""What a legal graph is: checked when a model is read, and after every pass."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx.defs

from graphopt.errors import ModelError
from graphopt.ir.order import dependencies, topological_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node, Value
    from graphopt.types import DType


_MAX_VERSION = (1 << 31) - 1
"""onnx looks versions up as 32-bit integers; a file may hold any number."""


def verify(graph: Graph) -> None:
    """Check definitions, order, interface, opset imports, operator signatures and element types.

    Element types are checked where they are known: an operator must accept each, and inputs and
    outputs that share a type variable must agree.

    Raises:
        ModelError: G205, naming the node or tensor and what is wrong with it.
    """
    functions = frozenset((f.domain, f.name) for f in graph.functions)
    problem = next(_problems(graph, graph, functions), None)
    if problem is None and not graph.root.opsets:
        problem = "the model imports no operator set"
    if problem is not None:
        raise ModelError(
            problem,
            code="G205",
            where=graph.name or None,
            hint="the graph breaks a rule of ONNX: whoever wrote it is at fault",
        )


def _problems(graph: Graph, root: Graph, functions: frozenset[tuple[str, str]]) -> Iterator[str]:
    yield from _interface_problems(graph)
    yield from _order_problems(graph)
    for node in graph.nodes():
        yield from _input_problems(node)
        if (node.domain, node.op) not in functions:
            yield from _signature_problems(node, root)
        for inner in node.subgraphs:
            yield from _problems(inner, root, functions)


def _interface_problems(graph: Graph) -> Iterator[str]:
    if not graph.outputs:
        yield "the graph has no outputs"
    for name, count in Counter(v.name for v in graph.outputs).items():
        if count > 1:
            yield f"output `{name}` is listed {count} times"
    for value in graph.outputs:
        if value.name == "" or not _is_defined(value):
            yield f"output `{value.name}` is produced by no node"


def _is_defined(value: Value) -> bool:
    return value.producer is not None or value.is_input or value.is_initializer


def _order_problems(graph: Graph) -> Iterator[str]:
    seen: set[Node] = set()
    for node in graph.nodes():
        late = next((d for d in dependencies(node) if d not in seen), None)
        if late is not None:
            # Names the cycle when there is one; otherwise the nodes are only out of order.
            topological_order(graph.nodes())
            yield f"`{node.label}` comes before `{late.label}`, whose output it reads"
        seen.add(node)


def _input_problems(node: Node) -> Iterator[str]:
    for value in node.inputs:
        if value is not None and not _is_defined(value):
            yield f"`{node.label}` reads `{value.name}`, which nobody defines"


@dataclass(frozen=True)
class _Signature:
    """What an operator takes and returns; the last formal input or output may repeat."""

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    required: tuple[str, ...]
    input_types: tuple[str, ...]
    output_types: tuple[str, ...]
    repeats: tuple[bool, bool]
    """Whether the last input and the last output may come several times."""
    mixed: frozenset[str]
    """Type variables that a repeated argument may bind to several types at once."""
    allowed: dict[str, frozenset[str]]


@functools.cache
def _signature(op: str, version: int, domain: str) -> _Signature | None:
    try:
        schema = onnx.defs.get_schema(op, min(version, _MAX_VERSION), domain)
    except onnx.defs.SchemaError:
        return None
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    last = [s[-1:] for s in (schema.inputs, schema.outputs)]
    repeated = [any(p.option == variadic for p in end) for end in last]
    return _Signature(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(key for key, declared in schema.attributes.items() if declared.required),
        tuple(p.type_str for p in schema.inputs),
        tuple(p.type_str for p in schema.outputs),
        (repeated[0], repeated[1]),
        frozenset(p.type_str for end in last for p in end if not p.is_homogeneous),
        {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints},
    )


def _signature_problems(node: Node, root: Graph) -> Iterator[str]:
    version = root.opset if node.domain == "" else root.opsets.get(node.domain)
    if version is None:
        # The runtime knows its own domains; a missing import is the exporter's oversight.
        return
    signature = _signature(node.op, version, node.domain)
    if signature is None:
        if node.domain == "" and version <= onnx.defs.onnx_opset_version():
            yield f"`{node.label}`: opset {version} has no operator `{node.op}`"
        return
    low, high = signature.inputs
    if not low <= len(node.inputs) <= high:
        yield f"`{node.label}`: {node.op} takes {low} to {high} inputs, not {len(node.inputs)}"
    low, high = signature.outputs
    if not low <= len(node.outputs) <= high:
        yield f"`{node.label}`: {node.op} has {low} to {high} outputs, not {len(node.outputs)}"
    for key in signature.required:
        if key not in node.attribute_names:
            yield f"`{node.label}`: {node.op} needs the attribute `{key}`"
    yield from _type_problems(node, signature)


def _type_problems(node: Node, signature: _Signature) -> Iterator[str]:
    bound: dict[str, tuple[str, DType]] = {}
    for value, variable in _arguments(node, signature):
        if value.dtype is None or variable in signature.mixed or node.op == "Constant":
            # Before opset 9 a Constant was to be a float; exporters and runtimes never minded.
            continue
        kind = value.dtype
        # A place of one fixed type declares it instead of a variable.
        allowed = signature.allowed.get(variable, frozenset({variable}))
        if f"tensor({_type_name(kind)})" not in allowed:
            yield f"`{node.label}`: {node.op} does not take {_type_name(kind)} (`{value.name}`)"
        first, other = bound.setdefault(variable, (value.name, kind))
        if other is not kind:
            yield (
                f"`{node.label}`: {node.op} needs one element type, and `{first}` is "
                f"{_type_name(other)}, `{value.name}` {_type_name(kind)}"
            )


def _arguments(node: Node, signature: _Signature) -> Iterator[tuple[Value, str]]:
    """Yield each input and output with the type variable, or the type, that its place declares."""
    sides = (
        (node.inputs, signature.input_types, signature.repeats[0]),
        (node.outputs, signature.output_types, signature.repeats[1]),
    )
    for values, types, repeats in sides:
        for index, value in enumerate(values):
            if value is not None and (index < len(types) or repeats):
                yield value, types[min(index, len(types) - 1)]


def _type_name(dtype: DType) -> str:
    return dtype.name.lower()
