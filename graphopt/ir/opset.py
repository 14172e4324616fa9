"""Operator set versions."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import onnx
import onnx.defs
import onnx.version_converter

from graphopt.errors import ModelError
from graphopt.ir.conversion import obstacle, repair
from graphopt.ir.function import Function
from graphopt.ir.names import separate_inner_names
from graphopt.ir.serde import graph_from_model, model_from_graph
from graphopt.ir.sparse import SparseTensor

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.tensor import Tensor

_SHOWN_ELEMENTS = 1024
"""Larger constants are no axes, shapes or scales: the converter need not see their values."""


def newest_opset() -> int:
    """Return the newest default operator set that the installed onnx package knows."""
    return int(onnx.defs.onnx_opset_version())


def upgrade_opset(graph: Graph, version: int) -> None:
    """Rewrite ``graph`` for a newer default operator set, in place.

    What onnx's converter loses is carried over: local functions, large constants without a copy,
    metadata and doc strings of the nodes that stayed, and quantization annotations.

    Raises:
        ModelError: G205, onnx's converter has no rule, or a wrong one, for an operator of the
            model, or a local function uses an operator that changed.
    """
    if graph.opset >= version:
        return
    functions = tuple(_upgraded(f, version) for f in graph.functions)
    if _has_sparse(graph):
        raise _refusal(graph.opset, version, "sparse initializers are not converted")
    wrong = obstacle(graph, version)
    if wrong is not None:
        raise _refusal(graph.opset, version, wrong)
    withheld = _large(graph)

    def encode(name: str, tensor: Tensor) -> onnx.TensorProto:
        if withheld.get(name) is not tensor:
            return tensor.to_proto(name)
        return tensor.header(name)

    model = model_from_graph(graph, encode)
    _drop_overridable_inputs(model)
    converted = graph_from_model(_converted(model, version), withheld=frozenset(withheld))
    for name, tensor in withheld.items():
        value = converted.find(name)
        if value is not None:
            converted.set_tensor(value, tensor)
    # The converter makes up names for each graph without looking at those around it.
    separate_inner_names(converted)
    _carry_over(graph, converted)
    repair(graph, converted)
    converted.functions = functions
    graph.assign(converted)


def _converted(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    before = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 1)
    try:
        converted = onnx.version_converter.convert_version(model, version)
    except (RuntimeError, ValueError, IndexError, onnx.checker.ValidationError) as error:
        reason = re.sub(r"^\S+:\d+: [\w()]+: ", "", str(error).strip().splitlines()[0])[:160]
        raise _refusal(before, version, reason) from error
    needed = onnx.helper.find_min_ir_version_for(list(converted.opset_import), ignore_unknown=True)
    converted.ir_version = max(model.ir_version, needed)
    known = {o.domain for o in converted.opset_import}
    converted.opset_import.extend(
        o for o in model.opset_import if o.domain and o.domain not in known
    )
    return converted


def _refusal(before: int, version: int, reason: str) -> ModelError:
    return ModelError(f"cannot rewrite opset {before} as {version}: {reason}", code="G205")


def _has_sparse(graph: Graph) -> bool:
    graphs = [graph, *(g for n in graph.walk() for g in n.subgraphs)]
    return any(isinstance(v.stored, SparseTensor) for g in graphs for v in g.initializers)


def _large(graph: Graph) -> dict[str, Tensor]:
    """Return the large constants of the outermost graph whose names nothing further in has."""
    inner = Counter(v.name for n in graph.walk() for g in n.subgraphs for v in g.initializers)
    return {
        v.name: v._tensor
        for v in graph.initializers
        if v._tensor is not None and v._tensor.size > _SHOWN_ELEMENTS and v.name not in inner
    }


def _upgraded(function: Function, version: int) -> Function:
    """Return the function for the newer set; only if none of its operators changed since."""
    proto = onnx.FunctionProto()
    proto.CopyFrom(function.proto)
    for entry in proto.opset_import:
        if entry.domain not in {"", "ai.onnx"} or entry.version >= version:
            continue
        for op in _operators(proto.node):
            if _since(op, entry.version) != _since(op, version):
                reason = f"`{op}` in the local function `{function.name}` changed in between"
                raise _refusal(entry.version, version, reason)
        entry.version = version
    return Function(proto)


def _operators(nodes: object) -> set[str]:
    """Return the operators of the default set among ``nodes``, inner graphs included."""
    found: set[str] = set()
    stack = list(nodes)  # type: ignore[call-overload]
    while stack:
        node = stack.pop()
        if node.domain in {"", "ai.onnx"}:
            found.add(node.op_type)
        for attribute in node.attribute:
            stack.extend(attribute.g.node)
            stack.extend(n for g in attribute.graphs for n in g.node)
    return found


def _since(op: str, version: int) -> int:
    try:
        return int(onnx.defs.get_schema(op, version, "").since_version)
    except onnx.defs.SchemaError:
        return 0


def _carry_over(before: Graph, after: Graph) -> None:
    """Restore what the converter drops of the model, the graph, and nodes that it left alone."""
    after.model_shell = before.model_shell
    after.metadata = dict(before.metadata)
    if before.shell is not None and after.shell is not None:
        annotations = before.shell.quantization_annotation
        del after.shell.quantization_annotation[:]
        after.shell.quantization_annotation.extend(annotations)
        after.shell.doc_string = before.shell.doc_string
    sources = {(n.op, n.outputs[0].name): n.source for n in before.nodes() if n.outputs}
    for node in after.nodes():
        source = sources.get((node.op, node.outputs[0].name)) if node.outputs else None
        if source is not None:
            node.source = source


def _drop_overridable_inputs(model: onnx.ModelProto) -> None:
    """Before IR version 4 initializers had to be inputs; from 4 on that would unfix them."""
    if model.ir_version >= 4:
        return
    stored = {t.name for t in model.graph.initializer}
    kept = [i for i in model.graph.input if i.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = 4
