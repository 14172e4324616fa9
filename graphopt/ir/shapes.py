"""Shape propagation: onnx first, then our own rules where it gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.shape_inference

from graphopt.errors import ModelError
from graphopt.ir.serde import model_from_graph, tensor_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node, Value
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
        dims: sizes for symbols, put in their place everywhere first.

    Raises:
        ModelError: G205, the graph is too broken for any inference.
    """
    if dims:
        for value in graph.values():
            if value.shape is not None:
                value.shape = tuple(
                    dims.get(d, d) if isinstance(d, str) else d for d in value.shape
                )
    try:
        inferred = onnx.shape_inference.infer_shapes(_typed_model(graph), data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"shapes cannot be inferred: {reason}",
            code="G205",
            where=graph.name or None,
            hint="the graph breaks a rule of ONNX: whoever wrote it is at fault",
        ) from error
    for info in [*inferred.graph.value_info, *inferred.graph.output]:
        found = graph.find(info.name)
        if found is not None:
            _refine(found, *tensor_type(info.type))
    for node in graph.nodes():
        _propagate(node)


def _typed_model(graph: Graph) -> onnx.ModelProto:
    """Return the model with the values of large constants left out."""

    def encode(name: str, tensor: Tensor) -> onnx.TensorProto:
        if tensor.size <= _SHAPE_DATA_LIMIT:
            return tensor.to_proto(name)
        return tensor.header(name)

    model = model_from_graph(graph, encode)
    # What was derived is derived again; what custom operators declare can only be believed.
    custom = {v.name for n in graph.nodes() if n.domain for v in n.outputs}
    declared = [i for i in model.graph.value_info if i.name in custom]
    del model.graph.value_info[:]
    model.graph.value_info.extend(declared)
    # onnx refuses the whole model for one domain that is not imported; runtimes do not care.
    for domain in {n.domain for n in graph.walk()} - {"", *graph.opsets}:
        model.opset_import.add(domain=domain, version=1)
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
