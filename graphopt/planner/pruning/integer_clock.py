"""What an option saves once the model is quantized: in integers, or by the target's cost model.

The part that an option changes is cut out of the quantized model between integer tensors, so that
its kernels are those that the whole model runs, and no conversion is timed that it does not make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.planner.pruning.clock import (
    Clock,
    Ledger,
    border,
    repeatable_saving,
    signature,
    with_sizes,
)
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.passes.prune.goal import Metric
    from graphopt.planner.pruning.quantizer import Quantizer
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]


class IntegerLedger(Ledger):
    """Figures of quantized models, from the target's cost model."""

    def __init__(self, context: Context, metric: Metric, quantize: Quantizer) -> None:
        super().__init__(context, metric)
        self._quantize = quantize

    @property
    def name(self) -> str:
        """Hash of the target, the cost model and what quantizes."""
        plain, identity = super().name, self._quantize.identity
        return f"{plain}-{identity}" if plain and identity else ""

    def totals(self, graph: Graph) -> dict[str, float]:
        """Return every figure of a graph once it is quantized, by metric."""
        made = self._quantize(graph)
        ir.infer_shapes(made)
        return super().totals(made)


class IntegerClock(Clock):
    """Milliseconds of quantized models on this machine, one thread.

    Args:
        target: fuse as this target does.
        feed: a sample.
        quantize: makes the quantized form of a graph.
    """

    def __init__(self, target: Target, feed: Feed, quantize: Quantizer) -> None:
        super().__init__(target, feed)
        self._quantize = quantize
        self._whole: dict[str, Graph] = {}

    def total(self, graph: Graph) -> float:
        """Return the time of a whole model once it is quantized."""
        return super().total(self._made(graph))

    def ratio(self, graph: Graph, original: Graph, seconds: float = 1.0) -> float:
        """Return the time of a graph as a share of the original's, both quantized."""
        return super().ratio(self._quantize(graph), self._made(original), seconds)

    def saving(self, graph: Graph, changed: Graph, nodes: Iterable[Node]) -> float:
        """Return what a change of some nodes saves once both graphs are quantized."""
        whole = self._made(graph)
        smaller = with_sizes(self._quantize(changed), self._feed)
        inputs, outputs = border(graph, nodes)
        entering = [_integer_form(name, whole, smaller) for name in inputs]
        leaving = [_integer_form(name, whole, smaller) for name in outputs]
        feeds = _feeds(whole, entering)
        if not entering or not leaving or feeds is None or None in leaving:
            return 0.0
        names = [name for name in leaving if name is not None]
        parts = [ir.extract(made, list(feeds), names) for made in (whole, smaller)]
        key = (signature(parts[0], feeds), signature(parts[1], feeds))
        if key not in self._known:
            sessions = {
                name: open_session(part, target=self._target)
                for name, part in zip(("before", "after"), parts, strict=True)
            }
            self._known[key] = repeatable_saving(sessions, feeds)
        return self._known[key]

    def _made(self, graph: Graph) -> Graph:
        """Return the quantized form of a graph that is asked for again and again."""
        key = ir.structural_hash(graph)
        if key not in self._whole:
            self._whole = {key: with_sizes(self._quantize(graph), self._feed)}
        return self._whole[key]


def _integer_form(name: str, *graphs: Graph) -> str | None:
    """Return the integers in which a tensor is read in all graphs, its own name, or None."""
    found = {_read_as(graph.find(name)) for graph in graphs}
    if None in found:
        return None
    return found.pop() if len(found) == 1 else name


def _read_as(value: Value | None) -> str | None:
    if value is None:
        return None
    readers = value.consumers
    integers = {n.outputs[0].name for n in readers if n.op == "QuantizeLinear"}
    whole = len(integers) == 1 and all(n.op == "QuantizeLinear" for n in readers)
    return integers.pop() if whole and not value.is_output else value.name


def _feeds(graph: Graph, names: Sequence[str | None]) -> Feed | None:
    """Return values for tensors of a graph with sizes; None where one has no known size."""
    random = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for name in names:
        value = graph.find(name) if name is not None else None
        shape, dtype = (None, None) if value is None else (value.shape, value.dtype)
        if name is None or shape is None or dtype is None:
            return None
        sizes = [d for d in shape if isinstance(d, int)]
        if len(sizes) < len(shape):
            return None
        kind = np.dtype(dtype.numpy_name)
        if kind.kind in "iu":
            found[name] = random.integers(0, 100, sizes).astype(kind)
        elif dtype.is_float:
            found[name] = random.standard_normal(sizes).astype(kind)
        else:
            return None
    return found
