"""Shape propagation: onnx first, then our own rules where it gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.shape_inference

from graphopt.ir.serde import model_from_graph, tensor_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir.graph import Graph, Node, Value
    from graphopt.ir.tensor import Tensor

_SHAPE_DATA_LIMIT = 1024
"""Constants with more elements than this cannot be shapes; only their type is passed on."""

_SAME_AS_FIRST = frozenset(
    {"FusedConv", "Gelu", "FastGelu", "QuickGelu", "BiasGelu", "SimplifiedLayerNormalization",
     "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "QLinearAdd", "QLinearMul",
     "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "RotaryEmbedding"}
)  # fmt: skip


def infer_shapes(graph: Graph, dims: Mapping[str, int] | None = None) -> None:
    """Set dtype and shape of every tensor that they can be derived for, in place.

    Args:
        graph: outermost graph; symbolic dimensions stay symbolic.
        dims: sizes for symbols, substituted in the inputs first.
    """
    if dims:
        for value in graph.values():
            if value.shape is not None and (value.is_input or value.is_output):
                value.shape = tuple(dims.get(d, d) if isinstance(d, str) else d for d in value.shape)
    inferred = onnx.shape_inference.infer_shapes(_typed_model(graph), data_prop=True)
    for info in [*inferred.graph.value_info, *inferred.graph.output]:
        value = graph.find(info.name)
        if value is not None:
            _refine(value, *tensor_type(info.type))
    for node in graph.nodes():
        _propagate(node)


def _typed_model(graph: Graph) -> onnx.ModelProto:
    """Return the model with large constants replaced by inputs of their type."""
    large: list[onnx.ValueInfoProto] = []

    def encode(name: str, tensor: Tensor) -> onnx.TensorProto:
        if tensor.size <= _SHAPE_DATA_LIMIT:
            return tensor.to_proto(name)
        large.append(onnx.helper.make_tensor_value_info(name, tensor.dtype, tensor.shape))
        return onnx.TensorProto(name="")

    model = model_from_graph(graph, encode)
    del model.graph.value_info[:]
    kept = [t for t in model.graph.initializer if t.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    declared = {i.name for i in model.graph.input}
    model.graph.input.extend(i for i in large if i.name not in declared)
    return model


def _refine(value: Value, dtype: object, shape: object) -> None:
    if value.dtype is None and dtype is not None:
        value.dtype = dtype  # type: ignore[assignment]
    if not isinstance(shape, tuple):
        return
    if value.shape is None or len(value.shape) != len(shape):
        value.shape = shape
        return
    value.shape = tuple(
        new if isinstance(new, int) or old is None else old
        for old, new in zip(value.shape, shape, strict=True)
    )


def _propagate(node: Node) -> None:
    """Carry type and shape over operators that onnx has no rule for."""
    if node.op not in _SAME_AS_FIRST or not node.outputs or not node.inputs:
        return
    first, output = node.inputs[0], node.outputs[0]
    if first is None or first.shape is None or output.shape is not None:
        return
    if node.op != "FusedConv":
        output.shape = first.shape
    output.dtype = output.dtype or first.dtype
