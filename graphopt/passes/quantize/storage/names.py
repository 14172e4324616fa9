"""Short names for everything inside: in small models names are a tenth of the file."""

from __future__ import annotations

from itertools import count, product
from string import ascii_letters
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph


def shorten_names(graph: Graph) -> int:
    """Rename inner values to a letter or a few, and take the names of nodes away.

    Inputs and outputs keep theirs. What is declared of the shapes of inner values is dropped:
    runtimes infer it. No two levels of a graph share a name afterwards either.

    Returns:
        How many names were changed.
    """
    levels = [graph, *(inner for node in graph.walk() for inner in node.subgraphs)]
    taken = {v.name for level in levels for v in level.values()}
    names = (name for name in _short() if name not in taken)
    return sum(_shorten(level, names) for level in levels)


def _shorten(graph: Graph, names: Iterator[str]) -> int:
    changed = 0
    for node in graph.nodes():
        changed += bool(node.name)
        node.name = ""
    kept = {*graph.inputs, *graph.outputs}
    for value in graph.values():
        if value in kept or len(value.name) <= 1:
            continue
        if value.dtype is not None:
            value.source = None
        graph.rename(value, next(names))
        changed += 1
    graph.value_infos = [i for i in graph.value_infos if _is_needed(graph, i.name)]
    return changed


def _is_needed(graph: Graph, name: str) -> bool:
    """Whether a declaration is of a type that is not inferred, or of an input or output."""
    value = graph.find(name)
    return value is not None and (value.dtype is None or value.is_input or value.is_output)


def _short() -> Iterator[str]:
    for length in count(1):
        yield from map("".join, product(ascii_letters, repeat=length))
