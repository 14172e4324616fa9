"""Put the bodies of local functions where they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.inliner

from graphopt.errors import ModelError
from graphopt.ir.serde import graph_from_model, model_from_graph
from graphopt.ir.sparse import SparseTensor

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.tensor import Tensor


def inline_functions(graph: Graph) -> int:
    """Replace calls of the model's own functions by their bodies, in place; return how many went.

    Stored constants are not copied. Functions for another version of the default operator set than
    the model's stay as they are.

    Raises:
        ModelError: G205, the functions call each other in a circle, or are otherwise no functions.
    """
    inlinable = [f for f in graph.functions if _fits(f.proto, graph)]
    if not inlinable or _has_sparse(graph):
        return 0
    before = len(graph.functions)
    withheld = {v.name: v.stored for v in graph.initializers if v.stored is not None}

    def encode(name: str, tensor: Tensor) -> onnx.TensorProto:
        return tensor.header(name) if withheld.get(name) is tensor else tensor.to_proto(name)

    model = model_from_graph(graph, encode)
    names = [(f.domain, f.name) for f in inlinable]
    try:
        model = onnx.inliner.inline_selected_functions(model, names)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise ModelError(f"functions cannot be inlined: {reason}", code="G205") from error
    inlined = graph_from_model(model, withheld=frozenset(withheld))
    for name, tensor in withheld.items():
        inlined.set_tensor(inlined.value(name), tensor)
    _import_domains(inlined, inlinable_imports=[f.proto for f in inlinable])
    graph.assign(inlined)
    return before - len(graph.functions)


def _fits(function: onnx.FunctionProto, graph: Graph) -> bool:
    """Whether the operators of the function mean the same in the model."""
    return all(
        graph.opsets.get("" if o.domain == "ai.onnx" else o.domain, o.version) == o.version
        for o in function.opset_import
    )


def _has_sparse(graph: Graph) -> bool:
    graphs = [graph, *(g for n in graph.walk() for g in n.subgraphs)]
    return any(isinstance(v.stored, SparseTensor) for g in graphs for v in g.initializers)


def _import_domains(graph: Graph, inlinable_imports: list[onnx.FunctionProto]) -> None:
    """Import what the bodies used and the model did not."""
    used = {n.domain for n in graph.walk()}
    for function in inlinable_imports:
        for entry in function.opset_import:
            if entry.domain in used:
                graph.opsets.setdefault(entry.domain, entry.version)
