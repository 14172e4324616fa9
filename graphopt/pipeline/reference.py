"""What the original computes on the probes, and which differences from that mean something."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import ModelError
from graphopt.pipeline.distance import output_errors
from graphopt.pipeline.state import State, written_in_place
from graphopt.runtime import RunStoppedError, Session, open_sparingly
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt.pipeline.probes import Probes

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]
    Errors = tuple[float, ...]

_UNITS = {DType.BFLOAT16: 2.0**-7, DType.FLOAT16: 2.0**-10}
"""Relative size of what inputs are moved by, where the model computes in short floats."""
_UNIT = 1e-6
_NUDGES = 2
_FACTOR = 4.0
"""What another order of additions may do, as a multiple of what moved inputs do."""
_AS_FAR = 2.0
"""How much further than for the original the runtime's optimiser may lead from the reference."""
_ATTEMPTS = 60
_FEW_ATTEMPTS = 5
"""How many inputs a graph may refuse: for a probe, and once it has refused the first one."""
ROUNDING = 1e-4
"""Relative difference up to which the runtime's optimiser is taken to have rounded only."""


class Reference:
    """The outputs of a graph on the inputs it takes, without the runtime's own rewriting.

    The runtime's optimiser is left out because a rewrite here and one there may share a fault,
    which no comparison of the two would show. A graph that only runs after it has been optimised
    is run so; ``plain`` is False then, and ``why_not`` says what the runtime said.

    Args:
        graph: what everything is compared with; copied, so it may change afterwards.
        optimized: opens a graph as the target would run it.

    Raises:
        ModelError: G206, G207 or G215, the graph does not run.
    """

    def __init__(self, graph: Graph, optimized: Callable[[Graph], Session]) -> None:
        self._state = State.of(graph)
        self._graph = self._state.graph
        self._optimized = optimized
        self._session: Session | None = None
        self._noise: dict[int, Errors] = {}
        self._departures: dict[int, Errors] = {}
        self.feeds: list[Feed] = []
        self.wanted: list[list[Any]] = []
        self.why_not: str | None = None
        try:
            self.session()
        except ModelError as error:
            self._optimized(self._graph)
            self.why_not = error.message

    @property
    def plain(self) -> bool:
        """Whether the outputs are those of the graph as it is written."""
        return self.why_not is None

    def session(self) -> Session:
        """Return the graph, open for execution as it is written."""
        if not self.plain:
            return self._optimized(self._graph)
        if self._session is None:
            self._session = open_sparingly(self._graph, optimize=False)
        return self._session

    def close(self) -> None:
        """Give back what the open model takes; it is opened again when it is needed."""
        self._session = None

    def take(self, probes: Probes) -> str | None:
        """Remember what the graph makes of each probe, or of the next like it that it takes.

        Returns:
            what the runtime said of the first that it rejected; None where it took all.
        """
        way, refused = 0, None
        for position in range(len(probes.feeds)):
            # What refuses everything is not asked for ever.
            most = _ATTEMPTS if position == 0 or self.feeds else _FEW_ATTEMPTS
            attempts = itertools.islice(probes.attempts(position, way), most)
            try:
                number, reason = self._take_one(attempts)
            except RunStoppedError as error:
                # Nor is what did not end asked again.
                return error.message
            way = number or way
            refused = refused or reason
        return refused

    def _take_one(self, attempts: Iterator[tuple[int, Feed]]) -> tuple[int | None, str | None]:
        """Keep the first attempt that gives any outputs; return its number, and a complaint.

        A detector that finds nothing returns empty arrays, which would be equal to all others of
        that kind: such an attempt is kept only where there is no better one.
        """
        empty: tuple[int, Feed, list[Any]] | None = None
        refused: str | None = None
        for number, feed in attempts:
            try:
                outputs = self.run(feed)
            except RunStoppedError:
                raise
            except ModelError as error:
                # It does not take this at all: there is nothing to preserve for it.
                refused = refused or error.message
                continue
            if any(getattr(output, "size", 1) for output in outputs):
                self.add(feed, outputs)
                return number, refused
            empty = empty or (number, feed, outputs)
        if empty is None:
            return None, refused
        self.add(*empty[1:])
        return empty[0], refused

    def run(self, feed: Feed) -> list[Any]:
        """Return what the graph makes of ``feed``; raises ModelError when it rejects it."""
        return self.session().run(feed)

    def add(self, feed: Feed, outputs: list[Any]) -> None:
        """Remember a probe and its outputs."""
        self.feeds.append(feed)
        self.wanted.append(outputs)

    def error(
        self, index: int, outputs: Sequence[Any], limit: float, plainly: Callable[[], Session]
    ) -> float | None:
        """Return how far outputs on one probe are from the reference; None: nothing can be said.

        Outputs of which rounding alone decides more than ``limit`` are left out while they are no
        further away than that.

        Args:
            index: of the probe.
            outputs: of the graph that is compared, executed as the target would.
            limit: differences up to it need no explanation.
            plainly: opens the graph that is compared for execution as it is written.
        """
        found = output_errors(self.wanted[index], outputs)
        if max(found, default=0.0) <= limit:
            return max(found, default=0.0)
        noise = self.noise(index)
        if len(noise) != len(found):
            return max(found)
        allowed = tuple(max(limit, n) for n in noise)
        if _exceeds(found, allowed):
            found = self._without_departure(index, found, allowed, plainly)
        if _exceeds(found, allowed):
            return max(found)
        told = [e for e, a in zip(found, allowed, strict=True) if a <= limit]
        return max(told, default=None)

    def _without_departure(
        self, index: int, found: Errors, allowed: Errors, plainly: Callable[[], Session]
    ) -> Errors:
        """Look at a graph as it is written where the runtime's optimiser changes the original.

        What it makes of the graph must still be about as close to the reference as what it makes of
        the original.
        """
        told = list(found)
        again: Errors | None = None
        departure = self.departure(index)
        for place, (error, limit) in enumerate(zip(found, allowed, strict=True)):
            known = departure[place]
            if error > limit and known > limit and error <= _AS_FAR * known + limit:
                if again is None:
                    again = output_errors(self.wanted[index], plainly().run(self.feeds[index]))
                told[place] = again[place]
        return tuple(told)

    def departure(self, index: int) -> Errors:
        """Return how far the optimised graph is from the one that runs as it is written."""
        if index not in self._departures:
            outputs = self._optimized(self._graph).run(self.feeds[index])
            self._departures[index] = output_errors(self.wanted[index], outputs)
        return self._departures[index]

    def departs(self) -> float | None:
        """Return by how much the optimiser changes results beyond rounding; None: it does not.

        Of the last probe, which is the smallest.
        """
        last = len(self.feeds) - 1
        if last < 0 or not self.plain:
            return None
        found = self.departure(last)
        if max(found, default=0.0) <= ROUNDING:
            return None
        allowed = tuple(max(ROUNDING, n) for n in self.noise(last))
        return max(found) if _exceeds(found, allowed) else None

    def noise(self, index: int) -> Errors:
        """Return what rounding may change each output of a probe by; infinity where it decides.

        That is a multiple of what the graph itself does when its inputs are moved by a rounding
        error. A detector whose boxes change places moves by all there is: no comparison on such a
        probe shows anything. Inputs that are no floats are not moved. A graph that draws random
        numbers moves by itself.

        Raises:
            PassError: G310, the graph is not what it was, because a pass wrote into its constants.
        """
        if index not in self._noise:
            self._noise[index] = self._measured(index)
        return self._noise[index]

    def _measured(self, index: int) -> Errors:
        feed = self.feeds[index]
        worst = tuple(_FACTOR * e for e in output_errors(self.wanted[index], self.run(feed)))
        if max(worst, default=0.0) > 0 and not self._state.is_intact():
            raise written_in_place("a pass")
        unit = _unit(self._graph)
        nudges = _NUDGES if any(a.dtype.kind == "f" for a in feed.values()) else 0
        for seed in range(nudges):
            try:
                moved = self.run(_nudged(feed, unit, seed))
            except ModelError:
                return worst
            found = output_errors(self.wanted[index], moved)
            worst = tuple(max(w, _FACTOR * e) for w, e in zip(worst, found, strict=True))
        return worst


def usable_probes(graph: Graph, probes: Probes) -> Probes:
    """Return the probes, or others like them, that a graph takes; as they are if it takes none."""
    reference = Reference(graph, open_sparingly)
    reference.take(probes)
    return dataclasses.replace(probes, feeds=tuple(reference.feeds) or probes.feeds, made_up=None)


def _exceeds(found: Errors, allowed: Errors) -> bool:
    return any(not e <= a for e, a in zip(found, allowed, strict=True))


def _unit(graph: Graph) -> float:
    """Return the rounding error of the shortest float type that the graph computes in."""
    held: set[object] = {v.dtype for v in graph.values()}
    held |= {n.attribute("to") for n in graph.nodes("Cast")}
    return next((unit for dtype, unit in _UNITS.items() if dtype in held), _UNIT)


def _nudged(feed: Feed, unit: float, seed: int) -> Feed:
    """Return the feed with every float moved up or down by a relative ``unit``."""
    moved = dict(feed)
    for name, array in feed.items():
        if array.dtype.kind == "f":
            random = np.random.default_rng([seed, zlib.crc32(name.encode())])
            signs = random.choice(np.array([-1.0, 1.0]), array.shape)
            moved[name] = (array.astype(np.float64) * (1 + unit * signs)).astype(array.dtype)
    return moved
