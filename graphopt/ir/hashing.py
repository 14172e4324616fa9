"""Structural hashes: equal for graphs that hold the same nodes, names, types and constants."""

from __future__ import annotations

import hashlib
import marshal
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.ir.attributes import Attribute
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node
    from graphopt.ir.tensor import Tensor

_MANY_BYTES = 8 << 20
_MOST_THREADS = 4


_begun: list[threading.Thread] = []


def hash_ahead(graph: Graph) -> None:
    """Begin to hash the constants of a graph, where that takes a while; nobody needs to wait."""
    tensors = _constants(graph)
    if sum(t.nbytes for t in tensors) >= _MANY_BYTES:
        thread = threading.Thread(target=_digest_together, args=(tensors,))
        _begun.append(thread)
        thread.start()


def structural_hash(graph: Graph) -> str:
    """Return a hash over operators, attributes, connections, interface and constants.

    Inferred types of intermediate tensors are left out: they follow from the rest.
    """
    while _begun:
        _begun.pop().join()
    _digest_together(_constants(graph))
    # In this version equal structures are equal bytes, whatever objects they share.
    return hashlib.blake2b(marshal.dumps(_structure(graph), 2), digest_size=16).hexdigest()


def _constants(graph: Graph) -> list[Tensor]:
    return [v._tensor for v in graph.initializers if v._tensor is not None]


def _digest_together(tensors: list[Tensor]) -> None:
    """Hash what was not hashed yet, on several cores where that is much."""
    fresh = [t for t in tensors if t._digest is None]
    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(fresh))
    if threads < 2 or sum(t.nbytes for t in fresh) < _MANY_BYTES:
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda tensor: tensor.digest(), fresh))


def _structure(graph: Graph) -> list[Any]:
    return [
        sorted(graph.opsets.items()),
        graph.ir_version,
        [(v.name, str(v.dtype), str(v.shape)) for v in graph.inputs],
        [v.name for v in graph.outputs],
        [(v.name, v._tensor.digest()) for v in graph.initializers if v._tensor is not None],
        [_node(node) for node in graph.nodes()],
        [f.proto.SerializeToString(deterministic=True) for f in graph.functions],
    ]


def _node(node: Node) -> tuple[Any, ...]:
    # Asked for after every pass for every node, so the lists are read themselves, not copied.
    held = node._attributes
    return (
        node.domain,
        node.op,
        node.name,
        ["" if v is None else v.name for v in node._inputs],
        [v.name for v in node._outputs],
        [_attribute(held[name]) for name in sorted(held)] if held else None,
    )


def _attribute(attribute: Attribute) -> Any:
    if attribute.tensors:  # where their bytes lie does not matter
        return attribute.name, [t.digest() for t in attribute.tensors]
    proto = attribute.proto.SerializeToString(deterministic=True)
    return (proto, [_structure(g) for g in attribute.graphs]) if attribute.graphs else proto
