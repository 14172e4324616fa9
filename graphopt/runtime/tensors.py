"""Intermediate tensors, handed out chunk by chunk so that no run holds them all."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.runtime.partwise import WHOLE_LIMIT, open_sparingly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.runtime.session import Session

    Array = np.ndarray[Any, Any]

CHUNK_BYTES = 64 << 20
"""Activations that one run may hold for us, beyond what the runtime needs itself."""
_UNKNOWN_BYTES = 4 << 20


@dataclass(frozen=True)
class _Plan:
    """Which tensors each run gives; whether the sizes that it shows are news."""

    runs: Sequence[tuple[Session, list[str]]]
    learns: bool = False


class IntermediateTensors:
    """Runs a model and yields the named tensors of each feed.

    The tensors become outputs of copies of the model, as many copies as keep each under
    ``chunk_bytes``; what is fused across them still computes the same values. Where sizes cannot be
    inferred, the first feed runs one copy as often as guesses say, which shows them for all others.
    Feeds may be run from several threads at once where ``concurrent`` says so.
    """

    def __init__(
        self,
        graph: Graph,
        names: Sequence[str],
        *,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        direct = {v.name for v in graph.feeds}
        self._inner = [n for n in names if n not in direct]
        self._wanted = [n for n in names if n in direct]
        self._graph = graph
        self._chunk_bytes = chunk_bytes
        self._lock = threading.Lock()
        self._plan: _Plan | None = None
        self.concurrent = ir.tensor_bytes(graph) <= WHOLE_LIMIT
        """Whether runs at the same time take no more than their activations."""

    def tensors(self, feed: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Yield (name, values) of every wanted tensor for one feed."""
        for name in self._wanted:
            yield name, feed[name]
        with self._lock:
            if self._plan is None:
                self._plan = self._first_plan(feed)
            plan = self._plan
        seen: dict[str, int] = {}
        for session, chunk in plan.runs:
            inputs = {name: feed[name] for name, _, _ in session.inputs}
            for name, values in zip(chunk, session.run(inputs, chunk), strict=True):
                if plan.learns:
                    seen[name] = getattr(values, "nbytes", _UNKNOWN_BYTES)
                yield name, values
        if plan.learns:
            with self._lock:
                if self._plan is plan:
                    self._plan = self._next_plan(plan, seen)

    def _first_plan(self, feed: Mapping[str, Array]) -> _Plan:
        sizes = self._inferred_sizes(feed)
        chunks = self._split(sizes)
        known = all(size is not None for size in sizes.values())
        if known or len(chunks) < 2 or not self.concurrent:
            return self._open(chunks)
        whole = open_sparingly(_expose(self._graph, self._inner))
        return _Plan([(whole, chunk) for chunk in chunks], learns=True)

    def _next_plan(self, plan: _Plan, seen: Mapping[str, int]) -> _Plan:
        chunks = self._split(seen)
        if len(chunks) == 1:
            return _Plan([(plan.runs[0][0], chunks[0])])
        return self._open(chunks)

    def _open(self, chunks: Sequence[list[str]]) -> _Plan:
        return _Plan([(open_sparingly(_expose(self._graph, c)), c) for c in chunks])

    def _split(self, sizes: Mapping[str, int | None]) -> list[list[str]]:
        """Return consecutive names that fit into one run each."""
        chunks: list[list[str]] = []
        room = 0
        for name in self._inner:
            size = sizes[name]
            size = _UNKNOWN_BYTES if size is None else size
            if not chunks or size > room:
                chunks.append([])
                room = self._chunk_bytes
            chunks[-1].append(name)
            room -= size
        return chunks

    def _inferred_sizes(self, feed: Mapping[str, Array]) -> dict[str, int | None]:
        """Return the bytes that each tensor has for ``feed``, as far as they can be inferred."""
        if not self._inner:
            return {}
        sized = self._graph.copy()
        ir.infer_shapes(sized, _dims(sized, feed))
        return {name: _nbytes(sized.find(name)) for name in self._inner}


def _dims(graph: Graph, feed: Mapping[str, Array]) -> dict[str, int]:
    """Return the size that each symbolic input dimension has in ``feed``."""
    return {
        dim: size
        for value in graph.feeds
        for dim, size in zip(value.shape or (), feed[value.name].shape, strict=False)
        if isinstance(dim, str)
    }


def _nbytes(value: ir.Value | None) -> int | None:
    if value is None or value.shape is None or value.dtype is None:
        return None
    count = 1
    for dim in value.shape:
        if not isinstance(dim, int):
            return None
        count *= dim
    return value.dtype.nbytes(count)


def _expose(graph: Graph, names: Sequence[str]) -> Graph:
    """Return the part of the graph that computes ``names``, with them as outputs."""
    return ir.extract(graph, [], names)
