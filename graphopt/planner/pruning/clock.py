"""What an option saves: milliseconds by the clock or by the cost model, or another figure.

On the host only the part of the graph that an option changes is timed, against the same part of the
original in the same race, so that a saving of a few microseconds is not lost in the noise of the
whole model. Parts that are alike (ResNets repeat one) are timed once.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.runtime import open_session, race

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.passes.prune.goal import Metric
    from graphopt.runtime import Session
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_SECONDS = 0.08
_ROUNDS = 9
_ATTEMPTS = 6
_AGREEMENT = 0.03
"""Share of the time of a part by which two measurements of a saving may differ."""
_FUSED_BEHIND = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh"})


class Ledger:
    """Figures of whole models, from the target's cost model."""

    def __init__(self, context: Context, metric: Metric) -> None:
        self._context = context
        self.metric = metric
        self._before: tuple[int, Mapping[str, float]] | None = None

    @property
    def name(self) -> str:
        """Hash of the target and the cost model; "" where a plugin's model may change unseen."""
        cost = self._context.cost
        kind = type(cost)
        if kind.__module__.partition(".")[0] != __name__.partition(".")[0]:
            return ""
        told = f"{kind.__module__}.{kind.__qualname__} {cost!r} {self._context.target!r}"
        return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()

    def total(self, graph: Graph) -> float:
        """Return the figure of a graph: milliseconds, a count, or bytes."""
        return self.totals(graph)[self.metric]

    def totals(self, graph: Graph) -> dict[str, float]:
        """Return every figure of a graph, by metric."""
        estimate = self._context.cost.estimate(graph, self._context.target)
        return {
            "latency": estimate.latency_ms.value,
            "macs": float(estimate.macs),
            "params": float(parameters(graph)),
            "ram": float(estimate.peak_activation_bytes),
            "size": float(estimate.size_bytes),
        }

    def savings(self, graph: Graph, changed: Graph, nodes: Iterable[Node]) -> dict[str, float]:
        """Return what a changed graph saves, by metric; which nodes changed does not matter."""
        del nodes
        if self._before is None or self._before[0] != id(graph):
            self._before = id(graph), self.totals(graph)
        after = self.totals(changed)
        return {metric: value - after[metric] for metric, value in self._before[1].items()}


class Clock:
    """Milliseconds on this machine, one thread.

    Args:
        target: fuse as this target does.
        feed: a sample, which says how large dimensions are that are not fixed.
    """

    def __init__(self, target: Target, feed: Feed) -> None:
        self._target = target
        self._feed = feed
        self._known: dict[Any, float] = {}
        self._sized: dict[int, Graph] = {}
        self.name = ""
        self.metric = "latency"

    def total(self, graph: Graph) -> float:
        """Return the time of a whole model, undisturbed."""
        session = open_session(graph, target=self._target)
        return race({"it": session}, [self._feed], seconds=0.3).timings["it"].min_ms

    def ratio(self, graph: Graph, original: Graph, seconds: float = 1.0) -> float:
        """Return the time of a graph as a share of the original's, in one race."""
        sessions = {
            "original": open_session(original, target=self._target),
            "graph": open_session(graph, target=self._target),
        }
        result = race(sessions, [self._feed], seconds=seconds, min_rounds=25)
        return 1 / result.speedup_of_quartiles("graph", "original")

    def savings(self, graph: Graph, changed: Graph, nodes: Iterable[Node]) -> dict[str, float]:
        """Return the milliseconds that a change of some nodes saves, by metric."""
        return {self.metric: self.saving(graph, changed, nodes)}

    def saving(self, graph: Graph, changed: Graph, nodes: Iterable[Node]) -> float:
        """Return what a change of some nodes saves, by racing the parts that differ."""
        inputs, outputs = border(graph, nodes)
        feeds = self._feeds(graph, inputs)
        if not inputs or not outputs or feeds is None:
            return 0.0
        parts = [ir.extract(made, inputs, outputs) for made in (graph, changed)]
        key = (signature(parts[0], feeds), signature(parts[1], feeds))
        if key not in self._known:
            sessions = {
                name: open_session(part, target=self._target)
                for name, part in zip(("before", "after"), parts, strict=True)
            }
            self._known[key] = repeatable_saving(sessions, feeds)
        return self._known[key]

    def _feeds(self, graph: Graph, names: Sequence[str]) -> Feed | None:
        sized = self._sized.get(id(graph))
        if sized is None:
            sized = self._sized[id(graph)] = with_sizes(graph, self._feed)
        random = np.random.default_rng(0)
        found: dict[str, Array] = {}
        for name in names:
            value = sized.find(name)
            shape = value.shape if value is not None else None
            if value is None or shape is None or not all(isinstance(d, int) for d in shape):
                return None
            if value.dtype is None or not value.dtype.is_float:
                return None
            sizes = [d for d in shape if isinstance(d, int)]
            found[name] = random.standard_normal(sizes).astype(value.dtype.numpy_name)
        return found


def repeatable_saving(sessions: Mapping[str, Session], feeds: Feed) -> float:
    """Return the difference of the fastest rounds, once two measurements agree.

    Load on the machine makes single rounds slower, never faster; so with every attempt the fastest
    ones get nearer to what the parts take undisturbed.
    """
    fastest = dict.fromkeys(sessions, np.inf)
    saved = np.inf
    for _ in range(_ATTEMPTS):
        result = race(sessions, [feeds], seconds=_SECONDS, min_rounds=_ROUNDS)
        fastest = {n: min(f, result.timings[n].min_ms) for n, f in fastest.items()}
        found = fastest["before"] - fastest["after"]
        if abs(found - saved) <= _AGREEMENT * fastest["before"]:
            return float(found)
        saved = found
    return float(saved)


def parameters(graph: Graph) -> int:
    """Return how many numbers a graph stores."""
    stored = (value.tensor for value in graph.initializers)
    return sum(int(np.prod(tensor.shape)) for tensor in stored if tensor is not None)


def border(graph: Graph, nodes: Iterable[Node]) -> tuple[list[str], list[str]]:
    """Return the tensors that enter and leave a part of a graph.

    What the runtime fuses behind the part belongs to it.
    """
    part = set(nodes)
    part |= {follower for node in part for follower in _fused_behind(node)}
    entering: dict[str, None] = {}
    leaving: dict[str, None] = {}
    for node in graph.nodes():
        if node not in part:
            continue
        for value in node.inputs:
            if value is not None and not _is_stored(value) and value.producer not in part:
                entering[value.name] = None
        for value in node.outputs:
            if value.is_output or any(reader not in part for reader in value.consumers):
                leaving[value.name] = None
    return list(entering), list(leaving)


def _fused_behind(node: Node) -> Iterable[Node]:
    readers = [reader for value in node.outputs for reader in value.consumers]
    return [readers[0]] if len(readers) == 1 and readers[0].op in _FUSED_BEHIND else []


def _is_stored(value: Value) -> bool:
    return value.is_constant or not value.name


def with_sizes(graph: Graph, feed: Feed) -> Graph:
    """Return a copy of a graph with the shapes that its tensors have for a sample."""
    sized = graph.copy()
    dims = {
        dim: size
        for value in sized.feeds
        for dim, size in zip(value.shape or (), feed[value.name].shape, strict=False)
        if isinstance(dim, str)
    }
    ir.infer_shapes(sized, dims)
    return sized


def signature(part: Graph, feeds: Feed) -> Any:
    """Return what decides how long a part takes: operators, connections and shapes, no values."""
    number = {name: i for i, name in enumerate(feeds)}
    rows: list[Any] = [tuple(values.shape for values in feeds.values())]
    for node in part.nodes():
        reads = tuple(
            (None if v is None else number.get(v.name, v.shape if _is_stored(v) else v.name))
            for v in node.inputs
        )
        attributes = tuple((name, str(node.attribute(name))) for name in sorted(node.attributes))
        rows.append((node.domain, node.op, attributes, reads))
        for value in node.outputs:
            number[value.name] = len(number)
    return (*rows, tuple(number[value.name] for value in part.outputs))
