"""Inputs to compare two graphs on: the user's data when there is some, seeded values otherwise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.pipeline.probe_sizes import PROBES, OpenSizes
from graphopt.pipeline.probe_values import (
    INTEGERS,
    OTHER_FLOATS,
    OTHER_INTEGERS,
    USUAL,
    probe_values,
)
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from graphopt.ir import Graph
    from graphopt.pipeline.probe_values import Style

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_FLOATS = frozenset({DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.BFLOAT16})


@dataclass(frozen=True)
class Probes:
    """Feeds for comparing graphs, and where they come from.

    Args:
        feeds: the inputs.
        origin: what they are, for a person.
        made_up: makes others like them; None for real samples.
    """

    feeds: tuple[Feed, ...]
    origin: str
    made_up: MadeUp | None = None

    def attempts(self, position: int, way: int = 0) -> Iterator[tuple[int, Feed]]:
        """Yield a probe, and others for the model that refuses it, each with a number.

        Args:
            position: which of the feeds.
            way: number of what the model took before this probe; it comes first.
        """
        if self.made_up is None:
            yield 0, self.feeds[position]
            return
        if way:
            yield from ((n, f) for n, f in self.made_up.ways(position) if n == way)
        yield 0, self.feeds[position]
        yield from ((n, f) for n, f in self.made_up.ways(position) if n and n != way)


class MadeUp:
    """Seeded values for the inputs of a graph.

    Args:
        graph: whose inputs are fed.
        seed: of all values.
    """

    def __init__(self, graph: Graph, seed: int) -> None:
        self._inputs = graph.feeds
        self._sizes = OpenSizes(graph)
        self._seed = seed

    def first(self, probe: int) -> Feed:
        """Return what a probe tries first."""
        return self._feed(probe, self._sizes.first(probe), USUAL)

    def ways(self, probe: int) -> Iterator[tuple[int, Feed]]:
        """Yield all that a probe can try: the same ways for every probe, numbered."""
        yield 0, self.first(probe)
        sizes = self._sizes.first(probe)
        values = (self._feed(probe, sizes, style) for style in self._styles())
        others = (self._feed(probe, other, USUAL) for other in self._sizes.others(probe))
        yield from enumerate(itertools.chain(values, others), start=1)

    def _styles(self) -> Iterator[Style]:
        types = {v.dtype for v in self._inputs}
        if types & INTEGERS:
            yield from OTHER_INTEGERS
        if types & _FLOATS:
            yield from OTHER_FLOATS

    def _feed(self, probe: int, sizes: dict[str, int], style: Style) -> Feed:
        return {
            v.name: probe_values(v, self._sizes.shape(v, sizes), probe, self._seed, style)
            for v in self._inputs
        }


def probe_feeds(graph: Graph, samples: Iterable[Feed], seed: int) -> Probes:
    """Return the feeds to check exact passes with.

    Real samples come first; with a symbolic first dimension two of them are also stacked. Without
    samples the values are drawn with a fixed seed: twice with all open dimensions of different
    sizes, and once with sizes of one and values at the edges of what is usual.
    """
    real = list(samples)[:2]
    if real:
        return Probes((*real, *_stacked(graph, real)), "the data")
    made_up = MadeUp(graph, seed)
    feeds = tuple(made_up.first(probe) for probe in range(PROBES if graph.feeds else 1))
    return Probes(feeds, f"seeded values (seed {seed})", made_up)


def _stacked(graph: Graph, samples: list[Feed]) -> list[Feed]:
    """Join two samples along the batch axis where every input has a symbolic one."""
    batched = all(v.shape and not isinstance(v.shape[0], int) for v in graph.feeds)
    if not batched or len(samples) < 2:
        return []
    first, second = samples
    if any(first[k].shape[1:] != second[k].shape[1:] for k in first):
        return []
    return [{k: np.concatenate([first[k], second[k]]) for k in first}]
