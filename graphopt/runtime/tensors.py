"""Intermediate tensors, handed out chunk by chunk so that no run holds them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.runtime.partwise import open_sparingly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.runtime.session import Session

    Array = np.ndarray[Any, Any]

CHUNK_BYTES = 64 << 20
"""Activations that one run may hold for us, beyond what the runtime needs itself."""
_UNKNOWN_BYTES = 4 << 20


class IntermediateTensors:
    """Runs a model and yields the named tensors of each feed.

    The tensors become outputs of copies of the model, as many copies as keep each under
    ``chunk_bytes``; what is fused across them still computes the same values. Sizes that cannot be
    inferred are guessed for the first feed, and known from then on.
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
        self._sessions: list[tuple[Session, list[str]]] | None = None
        self._seen: dict[str, int] | None = None
        """Bytes of each tensor as the first feed showed them, while they are being collected."""

    def tensors(self, feed: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Yield (name, values) of every wanted tensor for one feed."""
        for name in self._wanted:
            yield name, feed[name]
        if self._sessions is None:
            self._sessions = self._open(self._inferred_sizes(feed))
            self._seen = {} if len(self._sessions) > 1 else None
        elif self._seen is not None and len(self._seen) == len(self._inner):
            known, self._seen = self._seen, None
            if len(_split(self._inner, known, self._chunk_bytes)) < len(self._sessions):
                self._sessions = self._open(known)
        for session, chunk in self._sessions:
            inputs = {name: feed[name] for name, _, _ in session.inputs}
            for name, values in zip(chunk, session.run(inputs, chunk), strict=True):
                if self._seen is not None:
                    self._seen[name] = getattr(values, "nbytes", _UNKNOWN_BYTES)
                yield name, values

    def _open(self, sizes: Mapping[str, int]) -> list[tuple[Session, list[str]]]:
        chunks = _split(self._inner, sizes, self._chunk_bytes)
        return [(open_sparingly(_expose(self._graph, c)), c) for c in chunks]

    def _inferred_sizes(self, feed: Mapping[str, Array]) -> dict[str, int]:
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


def _split(names: Sequence[str], sizes: Mapping[str, int], chunk_bytes: int) -> list[list[str]]:
    chunks: list[list[str]] = []
    room = 0
    for name in names:
        size = sizes[name]
        if not chunks or size > room:
            chunks.append([])
            room = chunk_bytes
        chunks[-1].append(name)
        room -= size
    return chunks


def _nbytes(value: ir.Value | None) -> int:
    if value is None or value.shape is None or value.dtype is None:
        return _UNKNOWN_BYTES
    count = 1
    for dim in value.shape:
        if not isinstance(dim, int):
            return _UNKNOWN_BYTES
        count *= dim
    return value.dtype.nbytes(count)


def _expose(graph: Graph, names: Sequence[str]) -> Graph:
    """Return the part of the graph that computes ``names``, with them as outputs."""
    return ir.extract(graph, [], names)
