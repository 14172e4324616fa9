"""Two graphs run piece by piece over the same samples, each piece from what the one before left.

A graph that is fitted layer by layer is asked for the tensors of one layer, then for those of the
next. Each time only the operators between are run: the tensors that these read are kept for all
samples while they find room. Without room, every piece begins at the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.errors import GraphOptError
from graphopt.passes.prune.copies import image_copies, usual_copies
from graphopt.passes.prune.samples import USUAL, Fitting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]
    Tensors = dict[str, Array]

ROOM = 256 << 20
"""Bytes of tensors that one graph keeps for all samples."""
_BATCH_BYTES = 1 << 20
_BATCH = 32
_AGREEMENT = 1e-4
"""Share of the largest value by which samples may differ for being run together."""


@dataclass(frozen=True)
class Batch:
    """Tensors of samples that were run at once.

    Args:
        samples: their numbers.
        tensors: by name; samples stand one behind the other along axis 0.
    """

    samples: tuple[int, ...]
    tensors: Tensors


class Walk:
    """A graph of which more and more is run.

    Args:
        graph: may change where it was not run yet.
        context: runs it.
        feeds: of all samples; None to stream the calibration data each time.
        samples: whether a sample, by number, is run; for streams.
        room: bytes of tensors that are kept.
    """

    def __init__(
        self,
        graph: Graph,
        context: Context,
        feeds: Sequence[Batch] | None,
        samples: Callable[[int], bool],
        room: int = ROOM,
    ) -> None:
        self._graph = graph
        self._context = context
        self._feeds = feeds
        self._samples = samples
        self._room = room
        self._held: list[Tensors] = [{} for _ in feeds or ()]
        self._done: set[str] = set()

    def tensors(self, names: Iterable[str]) -> Iterator[Batch]:
        """Yield the named tensors of all samples, batch by batch; all must be taken."""
        wanted = sorted(set(names))
        if not wanted:
            return
        if self._feeds is None:
            part = prefix(self._graph, wanted)
            stream = self._context.stream(part, wanted, samples=self._samples)
            yield from (Batch((number,), values) for number, values in _grouped(stream))
        elif self._feeds:
            yield from self._advance(wanted, self._feeds)

    def _advance(self, wanted: Sequence[str], feeds: Sequence[Batch]) -> Iterator[Batch]:
        held = {name for name in self._held[0] if self._graph.find(name) is not None}
        known = held | set(feeds[0].tensors)
        done = self._done | _made_for(self._graph, wanted, known)
        keep = sorted(_frontier(self._graph, done) - set(feeds[0].tensors))
        run = sorted({*wanted, *keep} - known)
        part = self._part(sorted(held), run)
        given = ({**batch.tensors, **kept} for batch, kept in zip(feeds, self._held, strict=True))
        found = _grouped(self._context.stream(part, run, feeds=given)) if run else None
        keeps = True
        for index, batch in enumerate(feeds):
            made = next(found)[1] if found is not None else {}
            every = batch.tensors | self._held[index] | made
            kept = {name: every[name] for name in keep}
            if index == 0:
                keeps = self._has_room(kept, batch)
            if keeps:
                self._held[index] = kept
            yield Batch(batch.samples, {name: every[name] for name in wanted})
        if keeps:
            self._done = done

    def _part(self, held: Sequence[str], names: Sequence[str]) -> Graph:
        """Return what computes some tensors from what is held, for any number of samples."""
        part = ir.extract(self._graph, held, names)
        for value in part.feeds:
            if value.name in held and value.shape:
                value.shape = ("samples", *value.shape[1:])
        return part

    def _has_room(self, kept: Mapping[str, Array], batch: Batch) -> bool:
        """Whether as much as one batch keeps can be kept of all."""
        total = sum(len(b.samples) for b in self._feeds or ())
        return nbytes(kept.values()) * total <= self._room * len(batch.samples)


def nbytes(arrays: Iterable[Array]) -> int:
    """Return the bytes of some tensors."""
    return sum(int(getattr(values, "nbytes", 0)) for values in arrays)


def prefix(graph: Graph, names: Iterable[str]) -> Graph:
    """Return the part of a graph that computes some tensors; inputs need none of it."""
    direct = {value.name for value in graph.feeds}
    made = sorted(set(names) - direct)
    return ir.extract(graph, [], made) if made else graph


def walks(
    graphs: Sequence[tuple[Graph, Sequence[str]]],
    context: Context,
    samples: Callable[[int], bool],
    room: int = ROOM,
) -> list[Walk]:
    """Return a walk through each graph over the same batches.

    Samples are run together where every graph's first dimensions are open, and the tensors that
    matter are the same for it.

    Args:
        graphs: and the tensors of each that matter.
        context: runs the data.
        samples: whether a sample, by number, is run.
        room: bytes of tensors that each walk may keep.
    """
    batches = _feeds(graphs[0][0], context, samples, room)
    if batches is not None and all(_stacks(g, names, batches, context) for g, names in graphs):
        batches = _stacked(batches)
    return [Walk(graph, context, batches, samples, room) for graph, _ in graphs]


def _feeds(
    graph: Graph, context: Context, samples: Callable[[int], bool], room: int
) -> list[Batch] | None:
    """Return the inputs of each sample; None where they find no room."""
    names = [value.name for value in graph.feeds]
    if not names or not context.has_data:
        return None
    found: list[Batch] = []
    for number, values in _grouped(context.stream(graph, names, samples=samples)):
        found.append(Batch((number,), values))
        room -= nbytes(values.values())
        if room < 0:
            return None
    return list(_with_copies(found, samples, context.seed, room)) if found else found


def _with_copies(
    batches: Sequence[Batch], samples: Callable[[int], bool], seed: int, room: int
) -> Iterator[Batch]:
    """Yield samples, each with its copies behind it, as many as find room."""
    wanted = samples.copies if isinstance(samples, Fitting) else 0
    if wanted == USUAL:
        wanted = usual_copies(batches[0].tensors, len(batches))
    size = sum(nbytes(batch.tensors.values()) for batch in batches)
    count = min(wanted, room // max(size, 1))
    for batch in batches:
        yield batch
        for copy in image_copies(batch.tensors, count, seed, batch.samples[0]):
            yield Batch(batch.samples, copy)


def _stacks(graph: Graph, names: Sequence[str], batches: Sequence[Batch], context: Context) -> bool:
    """Whether two samples give the same tensors together as apart."""
    pair = [batch.tensors for batch in batches[:2]]
    if len(pair) < 2 or not names or _shapes(pair[0]) != _shapes(pair[1]):
        return False
    if any(not value.shape or isinstance(value.shape[0], int) for value in graph.feeds):
        return False
    together = {name: np.concatenate([p[name] for p in pair]) for name in pair[0]}
    part = prefix(graph, names)
    wanted = sorted(set(names))
    try:
        runs = [v for _, v in _grouped(context.stream(part, wanted, feeds=[*pair, together]))]
    except GraphOptError:
        return False
    return all(_agree(runs[0][name], runs[1][name], runs[2][name]) for name in wanted)


def _agree(one: Array, other: Array, both: Array) -> bool:
    if not one.ndim or one.shape != other.shape:
        return False
    apart = np.concatenate([one, other])
    if apart.shape != both.shape:
        return False
    largest = float(np.abs(apart).max(initial=0.0))
    return bool(np.abs(apart - both).max(initial=0.0) <= _AGREEMENT * largest)


def _shapes(tensors: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: values.shape for name, values in tensors.items()}


def _stacked(batches: Sequence[Batch]) -> list[Batch]:
    """Return larger batches of consecutive samples of the same shapes."""
    found: list[Batch] = []
    for _, group in groupby(batches, key=lambda batch: _shapes(batch.tensors)):
        same = iter(group)
        while first := next(same, None):
            size = max(1, min(_BATCH, _BATCH_BYTES // max(1, nbytes(first.tensors.values()))))
            run = [first, *islice(same, size - 1)]
            tensors = {
                name: np.concatenate([batch.tensors[name] for batch in run])
                for name in first.tensors
            }
            found.append(Batch(tuple(n for batch in run for n in batch.samples), tensors))
    return found


def _grouped(stream: Iterable[tuple[int, str, Array]]) -> Iterator[tuple[int, Tensors]]:
    for number, group in groupby(stream, key=itemgetter(0)):
        yield number, {name: values for _, name, values in group}


def _made_for(graph: Graph, names: Sequence[str], known: set[str]) -> set[str]:
    """Return the tensors that have to be computed for some, from known ones."""
    stack = [graph.value(name) for name in names]
    found: set[str] = set()
    seen: set[Node] = set()
    while stack:
        value = stack.pop()
        node = value.producer
        if value.name in known or node is None or node in seen:
            continue
        seen.add(node)
        found.update(output.name for output in node.outputs)
        inner = (n for part in node.subgraphs for n in part.walk())
        read: list[Value | None] = [v for each in (node, *inner) for v in each.inputs]
        stack += [v for v in read if v is not None and v.graph is graph and not v.is_constant]
    return found


def _frontier(graph: Graph, done: set[str]) -> set[str]:
    """Return the tensors there are, of known types, that operators read which have not run."""
    return {
        value.name
        for node in graph.nodes()
        for value in node.outputs
        if value.name in done and value.dtype is not None and _is_awaited(value, graph, done)
    }


def _is_awaited(value: Value, graph: Graph, done: set[str]) -> bool:
    if value.is_constant:
        return False
    readers = value.consumers
    return any(n.graph is not graph or done.isdisjoint(o.name for o in n.outputs) for n in readers)
