"""The bridge to onnx-graphsurgeon: for scripts and plugins that already speak it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from graphopt.ir.serde import graph_from_model, model_from_graph

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


def to_graphsurgeon(graph: Graph) -> Any:
    """Return an ``onnx_graphsurgeon.Graph`` with the same nodes and constants."""
    import onnx_graphsurgeon

    return onnx_graphsurgeon.import_onnx(model_from_graph(graph))


def from_graphsurgeon(surgeon: Any, like: Graph | None = None) -> Graph:
    """Return a Graph of what a graphsurgeon graph holds.

    Args:
        surgeon: an ``onnx_graphsurgeon.Graph``.
        like: the graph it came from: what graphsurgeon does not carry (metadata, the opset of
            other domains, node doc strings and metadata by node name) is taken from it.
    """
    import onnx_graphsurgeon

    made = graph_from_model(onnx_graphsurgeon.export_onnx(surgeon, do_type_check=False))
    if like is None:
        return made
    made.metadata = dict(like.metadata)
    made.model_shell = like.model_shell
    made.ir_version = max(made.ir_version, like.ir_version)
    for domain, version in like.opsets.items():
        made.opsets.setdefault(domain, version)
    sources = {n.name: n.source for n in like.nodes() if n.name}
    for node in made.nodes():
        source = sources.get(node.name)
        if source is not None:
            node.source = onnx.NodeProto()
            node.source.CopyFrom(source)
            node.source.domain = node.domain
    return made
