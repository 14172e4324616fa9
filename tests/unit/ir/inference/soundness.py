"""Whether what inference says of a graph is so when the graph runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir.bindings import evaluate
from graphopt.ir.dims import Expr
from graphopt.ir.inference import inference_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Value
    from graphopt.ir.inference import Fact


def symbolic(graph: Graph) -> Graph:
    """Return a copy whose inputs have a symbol for every axis, and whose results are not declared.

    Inputs without a declared shape, and those that are stored, stay as they are.
    """
    made = graph.copy()
    for value in made.feeds:
        if value.shape is not None:
            value.shape = tuple(f"d{i}_{value.name}" for i in range(len(value.shape)))
    for value in made.values():
        if not value.is_input and not value.is_initializer:
            value.shape = None
    return made


def exposed(graph: Graph) -> Graph:
    """Return a copy that returns every tensor of the outermost level."""
    made = graph.copy()
    inference = inference_of(made)
    known = [
        v
        for n in made.nodes()
        for v in n.outputs
        if v.name and inference.fact(v).dtype is not None and v not in made.outputs
    ]
    made.set_outputs([*made.outputs, *known])
    for value in known:
        value.dtype = inference.fact(value).dtype
    return made


def sizes_of(graph: Graph, feed: Mapping[str, Any]) -> dict[str, int] | None:
    """Return what the symbols are in a feed; None where one is two sizes at once."""
    sizes: dict[str, int] = {}
    for value in graph.feeds:
        array = feed.get(value.name)
        if not isinstance(array, np.ndarray):
            continue
        for dim, size in zip(value.shape or (), array.shape, strict=False):
            if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                return None
    return sizes


def mistakes(graph: Graph, feed: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Return what inference says of results that is not so."""
    sizes = sizes_of(graph, feed)
    inference = inference_of(graph, write=True)
    found = []
    for name, array in results.items():
        value = graph.find(name)
        if value is None or not isinstance(array, np.ndarray) or sizes is None:
            continue
        found += _wrong(value, array, inference.fact(value), sizes)
    return found


def _wrong(value: Value, array: Any, fact: Fact, sizes: dict[str, int]) -> list[str]:
    who, wrong = f"{value.producer and value.producer.op} `{value.name}`", []
    if fact.dims is not None and array.size:
        known = [evaluate(d, sizes) for d in fact.dims]
        right = len(known) == array.ndim and all(
            k is None or k == s for k, s in zip(known, array.shape, strict=True)
        )
        if not right:
            wrong.append(f"{who}: {fact.dims} is {known}, not {array.shape}")
    if fact.computed and fact.elements is not None and array.dtype.kind in "bif":
        wrong += _wrong_elements(who, fact.elements, array, sizes)
    return wrong


def _wrong_elements(who: str, elements: Any, array: Any, sizes: dict[str, int]) -> list[str]:
    if elements.shape != array.shape:
        return [f"{who}: elements of shape {elements.shape}, not {array.shape}"]
    pairs = zip(elements.reshape(-1), array.reshape(-1), strict=True)
    for element, number in pairs:
        known = evaluate(element, sizes) if isinstance(element, Expr) else element
        if known is not None and known != number and not (known != known and number != number):
            return [f"{who}: {elements} is not {array}"]
    return []
