"""A graph between two passes, to go back to; and one pass run on it."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.errors import GraphOptError, PassError
from graphopt.report import PassRecord
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline.context import PipelineContext


@dataclass(frozen=True)
class State:
    """A copy of a graph, with the hash that it had when it was taken."""

    graph: Graph
    digest: str

    @classmethod
    def of(cls, graph: Graph, digest: str | None = None) -> State:
        """Take a copy; constants are shared with it."""
        return cls(graph.copy(), digest or ir.structural_hash(graph))

    def restore(self, graph: Graph, name: str) -> None:
        """Make ``graph`` what it was; the state can be used again.

        Args:
            graph: what a pass changed.
            name: of the pass that is undone.

        Raises:
            PassError: G310, the pass wrote into constants or attributes that copies share.
        """
        if not self.is_intact():
            raise written_in_place(f"`{name}`, or a pass before it,")
        graph.assign(self.graph.copy())

    def is_intact(self) -> bool:
        """Whether the copy still holds what was copied."""
        held = (v.stored for g in _levels(self.graph) for v in g.initializers)
        return (
            all(t is None or t.is_intact() for t in held)
            and ir.structural_hash(self.graph) == self.digest
        )


def written_in_place(who: str) -> PassError:
    """Return the error about a pass that changed what copies of a graph share."""
    return PassError(
        f"{who} wrote into constants or attributes in place, so that nothing can be undone",
        code="G310",
        hint="a pass puts new tensors and attributes in the place of old ones; report this to "
        "whoever ships it",
    )


def _levels(graph: Graph) -> list[Graph]:
    return [graph, *(g for n in graph.walk() for g in n.subgraphs)]


def apply(
    graph: Graph, step: Pass, context: PipelineContext, before: str
) -> tuple[PassRecord, str]:
    """Run one pass and check what it left without running it; return its record and the new hash.

    Args:
        graph: is changed in place.
        step: the pass.
        context: what the pass is given.
        before: the hash of the graph.

    Raises:
        PassError: G302, the graph is illegal or has another interface; G305, the pass said that it
            changed nothing. What the pass itself raises passes through.
    """
    started = time.perf_counter()
    interface = _interface(graph)
    context.running = step.name
    result = step.run(graph, context)
    after = _sorted_hash(graph, step.name, before)
    changed = after != before
    if changed and not result.modified:
        raise PassError(
            f"`{step.name}` changed the graph but reported that it had not", code="G305"
        )
    if changed:
        _check_legal(graph, step, interface)
        if step.effect is Effect.EXACT:
            context.carry_ranges(before, after)
    record = PassRecord(
        step.name,
        step.effect.value,
        options_of(step),
        "changed" if changed else "unchanged",
        time.perf_counter() - started,
        tuple(result.notes),
        dict(result.metrics),
        settled=dict(result.settled),
    )
    return record, after


def options_of(step: Pass) -> dict[str, Any]:
    """Return the options of a pass by name."""
    return dataclasses.asdict(step) if dataclasses.is_dataclass(step) else {}


def _sorted_hash(graph: Graph, name: str, before: str) -> str:
    """Sort the graph if it changed; return its hash."""
    found = ir.structural_hash(graph)
    if found == before:
        return found
    order = graph.nodes()
    try:
        graph.sort()
    except GraphOptError as error:
        raise _illegal(name, error) from error
    return found if graph.nodes() == order else ir.structural_hash(graph)


def _check_legal(graph: Graph, step: Pass, interface: _Interface) -> None:
    try:
        ir.verify(graph)
    except GraphOptError as error:
        raise _illegal(step.name, error) from error
    if step.effect is Effect.EXACT and not interface.fits(_interface(graph)):
        raise PassError(
            f"`{step.name}` left an illegal graph: names or types of inputs or outputs changed",
            code="G302",
        )


@dataclass(frozen=True)
class _Interface:
    """Names and element types of what is fed and returned; a type may be unknown."""

    feeds: tuple[tuple[str, object], ...]
    outputs: tuple[tuple[str, object], ...]

    def fits(self, other: _Interface) -> bool:
        """Whether names are the same, and types where both are known."""
        pairs = ((self.feeds, other.feeds), (self.outputs, other.outputs))
        return all(
            len(ours) == len(theirs)
            and all(
                a == b and (one is None or another is None or one == another)
                for (a, one), (b, another) in zip(ours, theirs, strict=True)
            )
            for ours, theirs in pairs
        )


def _interface(graph: Graph) -> _Interface:
    return _Interface(
        tuple((v.name, v.dtype) for v in graph.feeds),
        tuple((v.name, v.dtype) for v in graph.outputs),
    )


def _illegal(name: str, error: GraphOptError) -> PassError:
    return PassError(f"`{name}` left an illegal graph: {error.message}", code="G302")
