"""Between protobuf and Graph, without loss in either direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from graphopt.errors import ModelError
from graphopt.ir.annotations import annotated_names, drop_stale
from graphopt.ir.attributes import Attribute
from graphopt.ir.function import Function
from graphopt.ir.graph import Graph
from graphopt.ir.nesting import MAX_NESTING, too_deep
from graphopt.ir.node import Node, Value
from graphopt.ir.sparse import SparseTensor, check_room, check_sparse
from graphopt.ir.tensor import Tensor, check_values, element_type

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from graphopt.ir.tensor import ExternalBytes
    from graphopt.types import DType, Shape

    Locate = Callable[[onnx.TensorProto], ExternalBytes | None]
    Encode = Callable[[str, Tensor], onnx.TensorProto]

_CONSTANTS_APART = 4
"""IR version from which on initializers need not be inputs."""
_GRAPH_FIELDS = frozenset(
    {"node", "initializer", "sparse_initializer", "input", "output", "value_info"}
)
_MODEL_FIELDS = frozenset({"graph", "functions"})
_NODE_FIELDS = frozenset({"input", "output", "attribute"})
_ATTRIBUTE_FIELDS = frozenset({"g", "graphs"})


def graph_from_model(
    model: onnx.ModelProto,
    locate: Locate = lambda _: None,
    withheld: Collection[str] = (),
) -> Graph:
    """Build a Graph; ``locate`` finds the bytes of tensors that are stored outside.

    Initializers named in ``withheld`` have no values: whoever calls puts them back.

    Raises:
        ModelError: G205 names defined twice, tensors that do not hold what they declare, unknown
            element types; G209 graphs nested too deep; and what ``locate`` raises.
    """
    _check_text(model)
    graph = Graph(model.graph.name)
    graph.ir_version = model.ir_version
    graph.opsets = {o.domain: o.version for o in model.opset_import}
    graph.metadata = {p.key: p.value for p in model.metadata_props}
    graph.functions = tuple(Function(f) for f in model.functions)
    graph.model_shell = _shell(model, _MODEL_FIELDS)
    for tensor in model.graph.initializer:
        if tensor.name not in withheld:
            check_values(tensor)
    _fill(graph, model.graph, locate, depth=0)
    return graph


def _check_text(model: onnx.ModelProto) -> None:
    """Refuse names that are not UTF-8; protobuf hands those out as bytes, which sort with nothing.

    Only what names the graph's parts is looked at: the rest is carried through as it is.
    """
    names = [model.graph.name, *(o.domain for o in model.opset_import)]
    names += [p.key for p in model.metadata_props]
    graphs: list[onnx.GraphProto] = [model.graph]
    while graphs:
        graph = graphs.pop()
        names += [v.name for v in graph.input] + [v.name for v in graph.output]
        names += [t.name for t in graph.initializer]
        for node in graph.node:
            names += [node.op_type, node.name, node.domain, *node.input, *node.output]
            for attribute in node.attribute:
                names.append(attribute.name)
                graphs += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
    damaged = next((n for n in names if not isinstance(n, str)), None)
    if damaged is not None:
        raise ModelError(
            f"the name {damaged!r} is not UTF-8",
            code="G202",
            hint="the file is damaged, or its exporter is at fault",
        )


def model_from_graph(graph: Graph, encode: Encode | None = None) -> onnx.ModelProto:
    """Build the protobuf; ``encode`` decides how initializers are stored (inside by default)."""
    model = onnx.ModelProto()
    if graph.model_shell is not None:
        model.CopyFrom(graph.model_shell)
    if model.ir_version != graph.ir_version:
        model.ir_version = graph.ir_version
    # Fields that did not change keep their encoding: an unset domain is not an empty one.
    if {o.domain: o.version for o in model.opset_import} != graph.opsets:
        del model.opset_import[:]
        for domain, version in graph.opsets.items():
            model.opset_import.add(domain=domain, version=version)
    if {p.key: p.value for p in model.metadata_props} != graph.metadata:
        del model.metadata_props[:]
        for key, value in graph.metadata.items():
            model.metadata_props.add(key=key, value=value)
    model.functions.extend(f.proto for f in graph.functions)
    _emit(graph, model.graph, encode or (lambda name, tensor: tensor.to_proto(name)))
    return model


def _shell(message: Any, without: frozenset[str]) -> Any:
    """Copy a message except for some fields; never touches those, however large they are."""
    shell = type(message)()
    for field, value in message.ListFields():
        if field.name in without:
            continue
        if isinstance(value, int | float | str | bytes):
            setattr(shell, field.name, value)
        elif hasattr(value, "CopyFrom"):
            getattr(shell, field.name).CopyFrom(value)
        else:
            getattr(shell, field.name).extend(value)
    return shell


# -- reading -------------------------------------------------------------------------------


def _fill(graph: Graph, proto: onnx.GraphProto, locate: Locate, depth: int) -> None:
    if depth > MAX_NESTING:
        raise too_deep(proto.name)
    graph.shell = _shell(proto, _GRAPH_FIELDS)
    for info in proto.input:
        graph.add_input(_declare(graph.new_value(info.name), info))
    _read_initializers(graph, proto, locate)
    made = [_read_node(graph, node) for node in proto.node]
    graph.value_infos = list(proto.value_info)
    for info in proto.value_info:
        value = graph.find(info.name)
        if value is not None and value.source is None:
            _declare(value, info)
    told = {i.name for i in proto.value_info} | annotated_names(graph.shell)
    graph.declared_at_load = frozenset(name for name in told if graph.find(name))
    for node, source in zip(made, proto.node, strict=True):
        _connect(node, source, locate, depth)
    graph.set_outputs([_read_output(graph, info) for info in proto.output])


def _read_initializers(graph: Graph, proto: onnx.GraphProto, locate: Locate) -> None:
    for tensor in proto.initializer:
        value = graph.find(tensor.name)
        if value is not None and value.is_initializer:
            raise ModelError(f"the name `{tensor.name}` is defined twice", code="G205")
        value = value or graph.new_value(tensor.name)
        declared = value.dtype, value.shape
        graph.set_tensor(value, Tensor.from_proto(tensor, locate(tensor)))
        if value.source is not None:
            value.dtype, value.shape = declared
    for sparse in proto.sparse_initializer:
        check_sparse(sparse)
        graph.set_tensor(graph.new_value(sparse.values.name), SparseTensor(sparse))
    check_room(proto.sparse_initializer)


def _read_node(graph: Graph, proto: onnx.NodeProto) -> Node:
    node = Node(graph, proto.op_type, proto.domain, proto.name)
    node.source = _shell(proto, _NODE_FIELDS)
    graph.adopt(node)
    for name in proto.output:
        graph._attach_output(node, name)
    return node


def _connect(node: Node, proto: onnx.NodeProto, locate: Locate, depth: int) -> None:
    for index, name in enumerate(proto.input):
        node.set_input(index, _resolve(node.graph, name))
    for attribute in proto.attribute:
        graphs = []
        for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            body = Graph(inner.name, node.graph)
            for tensor in inner.initializer:
                check_values(tensor)
            _fill(body, inner, locate, depth + 1)
            graphs.append(body)
        stored = _shell(attribute, _ATTRIBUTE_FIELDS) if graphs else attribute
        tensors = _outside(attribute, locate)
        node.put_attribute(Attribute(stored, tuple(graphs), tensors))


def _outside(attribute: onnx.AttributeProto, locate: Locate) -> tuple[Tensor, ...]:
    """Return the attribute's tensors when any is stored outside the model file."""
    protos = [attribute.t] if attribute.HasField("t") else list(attribute.tensors)
    for proto in protos:
        check_values(proto)
    if all(p.data_location != onnx.TensorProto.EXTERNAL for p in protos):
        return ()
    return tuple(Tensor.from_proto(p, locate(p)) for p in protos)


def _resolve(graph: Graph, name: str) -> Value | None:
    if name == "":
        return None
    # A name that nobody defines becomes a value without producer, which verify reports.
    return graph.lookup(name) or graph.new_value(name)


def _read_output(graph: Graph, info: onnx.ValueInfoProto) -> Value:
    value = _resolve(graph, info.name)
    if value is None:
        raise ModelError("a graph output has no name", code="G205", where=graph.name)
    if value.dtype is None or (value.source is None and not value.is_initializer):
        _declare(value, info)
    return value


def _declare(value: Value, info: onnx.ValueInfoProto) -> Value:
    value.source = info
    value.dtype, value.shape = tensor_type(info.type, info.name)
    return value


def tensor_type(proto: onnx.TypeProto, name: str = "") -> tuple[DType | None, Shape | None]:
    """Return element type and shape of a tensor type; (None, None) for sequences and maps."""
    if not proto.HasField("tensor_type"):
        return None, None
    tensor = proto.tensor_type
    dtype = element_type(tensor.elem_type, name) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, tuple(_dim(d) for d in tensor.shape.dim)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    kind = dim.WhichOneof("value")
    if kind == "dim_value":
        return int(dim.dim_value)
    return str(dim.dim_param) or None if kind == "dim_param" else None


# -- writing -------------------------------------------------------------------------------


def _emit(graph: Graph, proto: onnx.GraphProto, encode: Encode) -> None:
    if graph.shell is not None:
        proto.CopyFrom(graph.shell)
    if proto.name != graph.name:
        proto.name = graph.name
    drop_stale(proto, lambda name: name in graph.declared_at_load and graph.find(name) is None)
    proto.input.extend(_info(v) for v in graph.inputs)
    proto.output.extend(_info(v) for v in graph.outputs)
    proto.value_info.extend(_value_infos(graph))
    for value in graph.initializers:
        tensor = value._tensor
        assert tensor is not None
        if _is_refused(value):
            continue
        if isinstance(tensor, SparseTensor):
            proto.sparse_initializer.append(tensor.to_sparse_proto(value.name))
        else:
            proto.initializer.append(encode(value.name, tensor))
    for node in graph.nodes():
        _emit_node(node, proto.node.add(), encode)


def _is_refused(value: Value) -> bool:
    """Whether runtimes refuse the constant: before IR version 4 each had to be an input or read."""
    if value.graph.root.ir_version >= _CONSTANTS_APART:
        return False
    return not (value.uses or value.is_input or value.is_output)


def _value_infos(graph: Graph) -> list[onnx.ValueInfoProto]:
    """Return the declared types: as loaded where they still hold, under the names of now."""
    kept = []
    for info in graph.value_infos:
        value = graph.find(info.name)
        if value is None and info.name in graph.declared_at_load:
            continue
        if value is None or tensor_type(info.type) == (value.dtype, value.shape):
            kept.append(info)
        elif value.dtype is not None:
            kept.append(_info(value))
    told = {*graph.inputs, *graph.outputs}
    renamed = (v for v in graph.values() if v.source is not None and v.source.name != v.name)
    kept += [_info(v) for v in renamed if v not in told]
    return [*kept, *_of_custom_operators(graph, {i.name for i in kept})]


def _of_custom_operators(graph: Graph, told: set[str]) -> list[onnx.ValueInfoProto]:
    """Return what passes said of the results of operators that onnx cannot infer anything of."""
    return [
        onnx.helper.make_tensor_value_info(v.name, v.dtype, v.shape)
        for node in graph.nodes()
        if node.domain and node.source is None
        for v in node.outputs
        if v.name not in told and v.dtype is not None and v.shape is not None and not v.is_output
    ]


def _info(value: Value) -> onnx.ValueInfoProto:
    source = value.source
    if source is not None and tensor_type(source.type) == (value.dtype, value.shape):
        if source.name == value.name:
            return source
        renamed = onnx.ValueInfoProto()
        renamed.CopyFrom(source)
        renamed.name = value.name
        return renamed
    if value.dtype is None:
        return onnx.ValueInfoProto(name=value.name)
    return onnx.helper.make_tensor_value_info(value.name, value.dtype, value.shape)


def node_proto(node: Node) -> onnx.NodeProto:
    """Return the protobuf of one node, with the graphs inside it."""
    made = onnx.NodeProto()
    _emit_node(node, made, lambda name, tensor: tensor.to_proto(name))
    return made


def _emit_node(node: Node, proto: onnx.NodeProto, encode: Encode) -> None:
    if node.source is not None:
        proto.CopyFrom(node.source)
    proto.op_type = node.op
    if node.name != proto.name:
        proto.name = node.name
    if node.domain != ("" if proto.domain == "ai.onnx" else proto.domain):
        proto.domain = node.domain
    proto.input.extend("" if v is None else v.name for v in node.inputs)
    proto.output.extend(v.name for v in node.outputs)
    for attribute in node.attributes.values():
        stored = proto.attribute.add()
        stored.CopyFrom(attribute.proto)
        single = attribute.proto.type == onnx.AttributeProto.GRAPH
        for inner in attribute.graphs:
            _emit(inner, stored.g if single else stored.graphs.add(), encode)
        for index, tensor in enumerate(attribute.tensors):
            held = stored.t if stored.HasField("t") else stored.tensors[index]
            held.CopyFrom(encode(held.name, tensor))
