"""Where two graphs that should compute the same begin to differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.analysis.correspondence import corresponding
from graphopt.errors import GraphOptError
from graphopt.pipeline.distance import output_errors
from graphopt.runtime import open_sparingly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.ir import Graph, Node

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_AT_ONCE = 8
"""Tensors that one run of each graph hands out."""
_ALL_FIRST = 24
"""That many candidates are all looked at."""


@dataclass(frozen=True)
class Parting:
    """The first tensor at which two graphs differ.

    Args:
        tensor: its name in the first graph.
        other: its name in the second one.
        error: max|a - b| / max|a|; infinity where shapes or types differ.
        place: index of the element with the largest difference; None where there is none.
        values: of that element in both.
        agreed: the tensors before it at which both still agree, named as in the first graph.
        nodes: what computes it from those in each graph.
    """

    tensor: str
    other: str
    error: float
    place: tuple[int, ...] | None
    values: tuple[float, float] | None
    agreed: tuple[str, ...]
    nodes: tuple[tuple[str, ...], tuple[str, ...]]


class Search:
    """Compares tensors of two graphs on one feed, a few at a time.

    Args:
        a: the graph that is right.
        b: the other one.
        feed: an input for both.
        tolerance: relative error up to which tensors agree.
        optimize: whether the runtime's optimiser takes part.
    """

    def __init__(
        self, a: Graph, b: Graph, feed: Feed, tolerance: float, *, optimize: bool = False
    ) -> None:
        self._graphs = (a, b)
        self._feed = feed
        self._tolerance = tolerance
        self._optimize = optimize
        self._names = corresponding(a, b)
        self._order = {name: place for place, name in enumerate(self._names)}
        self._before = _ancestors(a, self._order)
        self._errors: dict[str, float | None] = {}
        self.looked_at = 0

    def first(self) -> Parting | None:
        """Return a tensor that differs although everything it is computed from agrees.

        The search starts at an output that differs and halves what that one depends on, as one
        does with revisions: where a tensor differs it goes on before it, where it agrees it goes
        on behind it. At the end all direct predecessors are looked at.
        """
        outputs = [v.name for v in self._graphs[0].outputs if v.name in self._names]
        self._look(outputs)
        bad = next((name for name in outputs if self._differs(name)), None)
        if bad is None:
            return None
        while True:
            bad = self._narrowed(bad)
            nearest = self._nearest(bad)
            self._look(nearest)
            earlier = next((name for name in nearest if self._differs(name)), None)
            if earlier is None:
                return self._told(bad, nearest)
            bad = earlier

    def _narrowed(self, bad: str) -> str:
        """Search among what ``bad`` depends on for the first that differs."""
        open_ = self._before[bad]
        while open_:
            names = self._named(open_)
            step = 1 if len(names) <= _ALL_FIRST else -(-len(names) // (_AT_ONCE + 1))
            chosen = names[step - 1 :: step]
            self._look(chosen)
            found = next((name for name in chosen if self._differs(name)), None)
            if step == 1:
                return found or bad
            if found is not None:
                bad = found
                chosen = chosen[: chosen.index(found)]
                open_ &= self._before[found]
            # Behind what agrees, or cannot be compared, nothing is expected.
            for name in chosen:
                open_ &= ~(self._before[name] | 1 << self._order[name])
        return bad

    def _named(self, mask: int) -> list[str]:
        """Return the tensors of a set, in the order of the first graph."""
        return [name for name, place in self._order.items() if mask >> place & 1]

    def _nearest(self, name: str) -> list[str]:
        """Return the comparable tensors from which ``name`` is computed without another between."""
        producer = self._graphs[0].value(name).producer
        while True:
            _, cut = _region(producer, self._may_agree)
            unseen = [n for n in cut if n not in self._errors]
            if not unseen:
                return cut
            self._look(unseen)

    def _may_agree(self, name: str) -> bool:
        """Whether a tensor is in both graphs and not known to be incomparable."""
        return name in self._names and self._errors.get(name, 0.0) is not None

    def _differs(self, name: str) -> bool:
        error = self._errors.get(name)
        return error is not None and not error <= self._tolerance

    def _look(self, names: Sequence[str]) -> None:
        """Compare tensors that were not compared yet; what has another shape is left out."""
        missing = [name for name in names if name not in self._errors]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            for name, wanted, found in zip(part, *self._values(part), strict=True):
                self._errors[name] = self._compared(name, wanted, found)
            self.looked_at += len(part)

    def _compared(self, name: str, wanted: Any, found: Any) -> float | None:
        shapes = [getattr(x, "shape", None) for x in (wanted, found)]
        is_output = self._graphs[0].value(name).is_output
        if shapes[0] != shapes[1] and not is_output:
            return None
        return output_errors([wanted], [found])[0]

    def _values(self, names: Sequence[str]) -> tuple[list[Any], list[Any]]:
        a, b = self._graphs
        others = [self._names[name] for name in names]
        return self._run(a, names), self._run(b, others)

    def _run(self, graph: Graph, names: Sequence[str]) -> list[Any]:
        part = ir.extract(graph, [], list(dict.fromkeys(names)))
        session = open_sparingly(part, optimize=self._optimize)
        feed = {name: self._feed[name] for name, _, _ in session.inputs}
        found = dict(zip(session.outputs, session.run(feed), strict=True))
        return [found[name] for name in names]

    def _told(self, name: str, agreed: Sequence[str]) -> Parting:
        a, b = self._graphs
        other = self._names[name]
        ((wanted,), (found,)) = self._values([name])
        place = values = None
        if isinstance(wanted, np.ndarray) and getattr(found, "shape", None) == wanted.shape:
            place, values = _worst(wanted, found)
        stop = {*agreed, *(self._names[n] for n in agreed)}
        regions = [
            _region(g.value(n).producer, stop.__contains__)[0] for g, n in ((a, name), (b, other))
        ]
        return Parting(
            name,
            other,
            self._errors[name] or 0.0,
            place,
            values,
            tuple(agreed),
            (tuple(map(_label, regions[0])), tuple(map(_label, regions[1]))),
        )


def _worst(
    wanted: Array, found: Array
) -> tuple[tuple[int, ...] | None, tuple[float, float] | None]:
    """Return where two arrays are furthest apart, and the values there."""
    if wanted.dtype.kind not in "biuf" or not wanted.size:
        return None, None
    one, other = wanted.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    apart[np.isnan(one) != np.isnan(other)] = np.inf
    worst = int(np.argmax(np.nan_to_num(apart, nan=-1.0)))
    place = np.unravel_index(worst, apart.shape)
    return tuple(int(i) for i in place), (float(one[place]), float(other[place]))


def _ancestors(graph: Graph, order: Mapping[str, int]) -> dict[str, int]:
    """Return the named tensors that each named tensor depends on, as the bits of a number."""
    reach: dict[Node, int] = {}
    found: dict[str, int] = {}
    for node in graph.nodes():
        before = 0
        for value in _read(node):
            if value.producer in reach:
                before |= reach[value.producer]
                before |= 1 << order[value.name] if value.name in order else 0
        reach[node] = before
        found |= {v.name: before for v in node.outputs if v.name in order}
    return found


def _read(node: Node) -> list[ir.Value]:
    """Return what a node reads from its own graph, with what graphs inside it read."""
    readers = [node, *(n for g in node.subgraphs for n in g.walk())]
    return [v for r in readers for v in r.inputs if v is not None and v.graph is node.graph]


def _region(producer: Node | None, is_known: Callable[[str], bool]) -> tuple[list[Node], list[str]]:
    """Return the nodes behind known tensors that a node depends on, and those tensors."""
    nodes: dict[Node, None] = {}
    known: dict[str, None] = {}
    waiting = [producer] if producer is not None else []
    while waiting:
        node = waiting.pop()
        if node in nodes:
            continue
        nodes[node] = None
        for value in _read(node):
            if value.producer is None or value.producer.op == "Constant":
                continue
            if is_known(value.name):
                known[value.name] = None
            else:
                waiting.append(value.producer)
    return list(nodes), list(known)


def _label(node: Node) -> str:
    return f"{node.op} `{node.label}`"


def first_parting(
    a: Graph, b: Graph, feeds: Sequence[Feed], tolerance: float
) -> tuple[int, bool, Parting, int] | None:
    """Return the first difference of two graphs on the feeds.

    Both are executed as they are written, and optimised by the runtime only where they agree so.

    Args:
        a: the graph that is right.
        b: the other one, with the same inputs.
        feeds: inputs.
        tolerance: relative error up to which tensors agree.

    Returns:
        the number of the feed, whether the runtime's optimiser had to take part, the difference,
        and how many tensors were compared; None where all outputs agree.

    Raises:
        ModelError: a graph does not run.
    """
    for optimize in (False, True):
        for number, feed in enumerate(feeds):
            search = Search(a, b, feed, tolerance, optimize=optimize)
            try:
                found = search.first()
            except GraphOptError:
                if optimize:
                    raise
                continue
            if found is not None:
                return number, optimize, found, search.looked_at
    return None
