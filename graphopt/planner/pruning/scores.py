"""How much the outputs of a changed model diverge on samples that nothing was fitted to."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.divergence import divergence, kind_of
from graphopt.errors import ModelError
from graphopt.passes.prune.outputs import counted_outputs
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.analysis.divergence import OutputKind
    from graphopt.ir import Graph, Value
    from graphopt.runtime import Session

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_BATCH = 16
_BATCH_BYTES = 32 << 20
_THREADS = 2
_TOLERANCE = 1e-3


class Scorer:
    """Compares changed models with the original on held-out samples.

    Samples are run in batches where the model takes them and gives the same outputs for them as one
    by one.

    Args:
        graph: the original.
        feeds: the samples; nothing may have been fitted to them.
    """

    def __init__(self, graph: Graph, feeds: Sequence[Feed]) -> None:
        self._graph = graph
        self._given = feeds
        self.samples = len(feeds)

    @cached_property
    def _session(self) -> Session:
        return open_session(self._graph, threads=_THREADS)

    @cached_property
    def _feeds(self) -> list[Feed]:
        return _batches(self._graph, self._session, self._given)

    @cached_property
    def _expected(self) -> list[list[Array]]:
        return [self._session.run(feed) for feed in self._feeds]

    @cached_property
    def _kinds(self) -> dict[int, OutputKind]:
        count = len(self._session.outputs) if self._expected else 0
        kinds = {i: kind_of([outputs[i] for outputs in self._expected]) for i in range(count)}
        return counted_outputs(kinds)

    def divergence(self, graph: Graph) -> float:
        """Return the divergence of a model's outputs, summed over outputs; infinity if it fails."""
        try:
            session = open_session(graph, threads=_THREADS)
            found = [session.run(feed) for feed in self._feeds]
        except ModelError:
            return float("inf")
        return sum(self._of_output(i, found) for i in self._kinds)

    def _of_output(self, index: int, found: Sequence[Sequence[Array]]) -> float:
        kind = self._kinds[index]
        parts = [
            (divergence(one[index], other[index], kind), _rows(one[index]))
            for one, other in zip(self._expected, found, strict=True)
        ]
        return sum(d * n for d, n in parts) / max(sum(n for _, n in parts), 1)


def _rows(values: Array) -> int:
    return values.shape[0] if values.ndim > 1 else 1


def _batches(graph: Graph, session: Session, feeds: Sequence[Feed]) -> list[Feed]:
    """Return the samples put together, or as they are."""
    if len(feeds) < 2 or not all(map(_has_free_batch, (*graph.feeds, *graph.outputs))):
        return list(feeds)
    shapes = {tuple((name, values.shape[1:]) for name, values in feed.items()) for feed in feeds}
    if len(shapes) > 1:
        return list(feeds)
    size = sum(values.nbytes for values in feeds[0].values())
    count = max(1, min(_BATCH, _BATCH_BYTES // max(size, 1)))
    made = [_joined(feeds[i : i + count]) for i in range(0, len(feeds), count)]
    return made if _runs_alike(session, feeds[:count], made[0]) else list(feeds)


def _has_free_batch(value: Value) -> bool:
    return bool(value.shape) and not isinstance((value.shape or (1,))[0], int)


def _joined(feeds: Sequence[Feed]) -> Feed:
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def _runs_alike(session: Session, feeds: Sequence[Feed], batch: Feed) -> bool:
    """Whether a batch gives what its samples give one by one."""
    try:
        together = session.run(batch)
    except ModelError:
        return False
    alone = [session.run(feed) for feed in feeds]
    for index, values in enumerate(together):
        expected = np.concatenate([outputs[index] for outputs in alone])
        scale = np.abs(expected).max(initial=0.0) if expected.dtype.kind == "f" else 0.0
        if values.shape != expected.shape or not np.allclose(
            values, expected, rtol=0.0, atol=_TOLERANCE * scale
        ):
            return False
    return True
