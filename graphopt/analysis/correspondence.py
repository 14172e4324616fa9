"""Which tensors of two graphs are meant to be the same: by name, or by how they are computed."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value


def corresponding(a: Graph, b: Graph) -> dict[str, str]:
    """Return the names in ``b`` of computed tensors of ``a``, in the order of ``a``'s nodes.

    Tensors of one name correspond. What is left corresponds where its operators, attributes and
    connections back to the inputs are the same and occur once in each graph: a tool that gives new
    names, or other weights, does not change those. Constants count by their shape.
    """
    ours, theirs = _computed(a), set(_computed(b))
    found = {name: name for name in ours if name in theirs}
    by_structure = {text: name for name, text in _unique(b).items() if name not in found}
    structures = _unique(a)
    for name in ours:
        text = structures.get(name)
        if name not in found and text in by_structure:
            found[name] = by_structure[text]
    return {name: found[name] for name in ours if name in found}


def _computed(graph: Graph) -> list[str]:
    return [v.name for n in graph.nodes() if n.op != "Constant" for v in n.outputs if v.name]


def _unique(graph: Graph) -> dict[str, str]:
    """Return how each tensor is computed, where no other is computed so."""
    texts: dict[str, str] = {}
    for node in graph.nodes():
        text = _structure(node, texts)
        for place, value in enumerate(node.outputs):
            texts[value.name] = _short(f"{text} {place}")
    counts = Counter(texts.values())
    return {name: text for name, text in texts.items() if name and counts[text] == 1}


def _structure(node: Node, texts: dict[str, str]) -> str:
    inputs = ",".join(_source(value, texts) for value in node.inputs)
    attributes = ",".join(
        a.proto.SerializeToString(deterministic=True).hex()
        for key, a in sorted(node.attributes.items())
        if node.op != "Constant"
    )
    inner = ",".join(n.op for g in node.subgraphs for n in g.walk())
    return f"{node.domain}.{node.op}({inputs})[{attributes}]{{{inner}}}"


def _source(value: Value | None, texts: dict[str, str]) -> str:
    if value is None:
        return ""
    tensor = value.tensor
    if tensor is not None:
        return f"{tensor.dtype.name}{tensor.shape}"
    return texts.get(value.name, f"input {value.name}")


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
