"""Whether the declared shapes of a graph contradict its operators, by onnx's own inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.shape_inference

from graphopt.ir.serde import model_from_graph

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.tensor import Tensor

_SHAPE_DATA_LIMIT = 1024
"""Constants with more elements than this cannot be shapes; only their type is passed on."""


def find_contradiction(graph: Graph) -> str | None:
    """Return what onnx says is wrong with the shapes of a graph, in one line; None: nothing."""

    def encode(name: str, tensor: Tensor) -> onnx.TensorProto:
        if tensor.size <= _SHAPE_DATA_LIMIT:
            return tensor.to_proto(name)
        return tensor.header(name)

    model = model_from_graph(graph, encode)
    del model.graph.value_info[:]
    # onnx refuses the whole model for one domain that is not imported; runtimes do not care.
    for domain in {n.domain for n in graph.walk()} - {"", *graph.opsets}:
        model.opset_import.add(domain=domain, version=1)
    try:
        onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return (lines[-1] if lines else type(error).__name__)[:200]
    return None
