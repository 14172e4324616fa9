"""Structural hashes: equal for graphs that hold the same nodes, names, types and constants."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir.attributes import Attribute
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node


def structural_hash(graph: Graph) -> str:
    """Return a hash over operators, attributes, connections, interface and constants.

    Inferred types of intermediate tensors are left out: they follow from the rest.
    """
    state = hashlib.blake2b(digest_size=16)
    for line in _lines(graph):
        state.update(line.encode())
        state.update(b"\n")
    return state.hexdigest()


def _lines(graph: Graph) -> list[str]:
    lines = [repr(sorted(graph.opsets.items())), str(graph.ir_version)]
    lines += [f"in {v.name} {v.dtype} {v.shape}" for v in graph.inputs]
    lines += [f"out {v.name}" for v in graph.outputs]
    for value in graph.initializers:
        tensor = value._tensor
        assert tensor is not None
        lines.append(f"const {value.name} {tensor.digest()}")
    lines += [_node_line(node) for node in graph.nodes()]
    lines += [f.proto.SerializeToString(deterministic=True).hex() for f in graph.functions]
    return lines


def _node_line(node: Node) -> str:
    inputs = ",".join("" if v is None else v.name for v in node.inputs)
    outputs = ",".join(v.name for v in node.outputs)
    attributes = ",".join(_attribute(a) for _, a in sorted(node.attributes.items()))
    return f"{node.domain}.{node.op} {node.name} ({inputs}) -> ({outputs}) [{attributes}]"


def _attribute(attribute: Attribute) -> str:
    if attribute.tensors:  # where their bytes lie does not matter
        return attribute.name + "".join(t.digest() for t in attribute.tensors)
    inner = "".join(structural_hash(g) for g in attribute.graphs)
    return attribute.proto.SerializeToString(deterministic=True).hex() + inner
