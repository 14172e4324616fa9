"""Running a model part by part, for models whose weights should not be in memory together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.runtime.session import Session, open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]

WHOLE_LIMIT = 512 << 20
"""Models with more bytes of constants than this are run part by part where speed does not count."""

PART_BYTES = 64 << 20
"""Constants of one part; a single constant may be larger."""

_PACKING_OFF = {"session.disable_prepacking": "1"}
"""Weights that are read once are not copied into another layout first."""


@dataclass(frozen=True)
class _Part:
    """Consecutive nodes, what they read of the ones before, and what the ones after read."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class PartwiseSession(Session):
    """Runs a model in parts, one after the other, each opened for the run and then closed.

    What a run takes is the constants of one part and the activations that later parts read. The
    runtime's fusions end at the borders of parts; the model computes the same up to rounding.

    Args:
        graph: the model; not changed.
        target: fuse as this target would.
        optimize: all graph optimisations in each part, or none.
        part_bytes: constants that one part may hold.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        target: Target | None = None,
        optimize: bool = True,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._graph = graph.copy()
        ir.infer_shapes(self._graph)
        self._target = target
        self._optimize = optimize
        self._parts = _divide(self._graph, part_bytes)
        self._models: dict[_Part, Graph] = {}
        self.threads = 1
        self.inputs = tuple(
            (v.name, v.shape or (), v.dtype.numpy_name if v.dtype is not None else "")
            for v in graph.feeds
        )
        self.outputs = tuple(v.name for v in graph.outputs)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Any]:
        """Run once; returns the named outputs of the model, or all of them.

        Raises:
            ModelError: G206, G207 or G215, as a session of the whole would.
        """
        known: dict[str, Any] = dict(feeds)
        wanted = list(outputs) if outputs else list(self.outputs)
        for index, part in enumerate(self._parts):
            found = self._run_part(part, known)
            known.update(zip(part.outputs, found, strict=True))
            needed = {n for later in self._parts[index + 1 :] for n in later.inputs} | {*wanted}
            known = {name: value for name, value in known.items() if name in needed}
        missing = [name for name in wanted if name not in known]
        if missing:
            raise ModelError(f"the model has no output `{missing[0]}`", code="G215")
        return [known[name] for name in wanted]

    def _run_part(self, part: _Part, known: Mapping[str, Any]) -> list[Any]:
        model = self._models.get(part)
        if model is None:
            model = self._models[part] = self._extracted(part)
        # Kernels on packed integers have no other layout to compute in.
        config = {} if any(n.domain for n in model.walk()) else _PACKING_OFF
        session = open_session(
            model, target=self._target, optimize=self._optimize, config=config, fold=False
        )
        return session.run({name: known[name] for name, _, _ in session.inputs}, part.outputs)

    def _extracted(self, part: _Part) -> Graph:
        model = ir.extract(self._graph, [n for n in part.inputs if self._inner(n)], part.outputs)
        for value in model.feeds:
            if self._inner(value.name):
                value.shape = None
        return model

    def _inner(self, name: str) -> bool:
        return self._graph.value(name).producer is not None


def open_sparingly(graph: Graph, *, target: Target | None = None, optimize: bool = True) -> Session:
    """Open a graph as a whole, or part by part where its constants are many."""
    if ir.tensor_bytes(graph) > WHOLE_LIMIT:
        return PartwiseSession(graph, target=target, optimize=optimize)
    return open_session(graph, target=target, optimize=optimize)


def _divide(graph: Graph, part_bytes: int) -> list[_Part]:
    """Cut where a part is full, and everything that crosses the cut has a known element type."""
    groups: list[list[Node]] = [[]]
    held = 0
    for node in graph.nodes():
        size = sum(_nbytes(v) for v in _read(node))
        if groups[-1] and held + size > part_bytes and _typed(graph, groups):
            groups.append([])
            held = 0
        groups[-1].append(node)
        held += size
    return [p for i in range(len(groups)) if (p := _part(graph, groups, i)).outputs]


def _typed(graph: Graph, groups: Iterable[list[Node]]) -> bool:
    done = {node for group in groups for node in group}
    return all(v.dtype is not None for n in done for v in n.outputs if _crosses(v, done))


def _crosses(value: Value, done: set[Node]) -> bool:
    return any(_outermost(reader, value.graph) not in done for reader in value.consumers)


def _part(graph: Graph, groups: list[list[Node]], index: int) -> _Part:
    done = {node for group in groups[: index + 1] for node in group}
    own = groups[index]
    members = set(own)
    inputs = {
        v.name: None
        for node in own
        for v in _read(node)
        if v.graph is graph
        and v.producer not in members
        and not v.is_constant
        and (v.producer is not None or v.is_input)
    }
    outputs = {
        v.name: None
        for node in own
        for v in node.outputs
        if v.name and (v.is_output or _crosses(v, done))
    }
    return _Part(tuple(inputs), tuple(outputs))


def _read(node: Node) -> list[Value]:
    """Return what a node reads, with what the graphs inside it read from around them."""
    readers = [node, *(n for g in node.subgraphs for n in g.walk())]
    return [v for reader in readers for v in reader.inputs if v is not None]


def _nbytes(value: Value) -> int:
    return value.stored.nbytes if value.stored is not None else 0


def _outermost(node: Node, graph: Graph) -> Node:
    """Return the node of ``graph`` that ``node`` is, or is inside of."""
    if node.graph is graph:
        return node
    return next(n for n in graph.nodes() if any(node is m for g in n.subgraphs for m in g.walk()))
