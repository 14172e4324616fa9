"""Rules: what to look for, when to leave it alone and say why, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.analysis import scalar
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.search import State
from graphopt.passes.patterns.terms import Term
from graphopt.passes.patterns.writing import Writer, spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class Match:
    """A place where a pattern fits.

    Args:
        graph: where it is.
        root: the operator that makes the result.
        nodes: all that the pattern covers, the root first.
        values: what its variables and named terms stand for.
    """

    graph: Graph
    root: Node
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def get(self, name: str) -> Value | None:
        """Return what a name of an optional part stands for; None where the part is not there."""
        return self.values.get(name)

    def node(self, name: str) -> Node:
        """Return the operator that makes a named value."""
        node = self.values[name].producer
        assert node is not None
        return node

    def number(self, name: str) -> float:
        """Return the number that a constant of one element holds."""
        number = scalar(self.values[name])
        assert number is not None
        return number

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Return the elements of a constant, read-only."""
        return self.values[name].array()


@dataclass(frozen=True)
class Rule:
    """One rewrite.

    Args:
        name: what is found, in the singular, as in "3 spelled-out Gelus replaced".
        pattern: is looked for. What it computes on the way may have no other reader, and may be no
            output of the graph: the rule then refuses.
        replacement: a term over the same variables; or a function that returns one for a match, or
            a value that it has made itself.
        check: returns the reason to refuse a match, None to accept it.
        because: is recorded with every operator that was written.
    """

    name: str
    pattern: Term
    replacement: Term | Callable[[Match], Term | Value]
    check: Callable[[Match], str | None] | None = None
    because: str = ""

    def made(self, match: Match) -> Term | Value:
        """Return what is to be written for a match."""
        return self.replacement if isinstance(self.replacement, Term) else self.replacement(match)


def rewrite(graph: Graph, context: Context, rules: Sequence[Rule]) -> PassResult:
    """Apply the first rule that fits wherever one does; explain where one fits and refuses.

    Each operator that can be the root of a pattern is tried once, the last one first, so that a
    pattern takes the longest form it can. What is written is not searched again, and what would be
    written as it is stays. Types and shapes are inferred before, and again where operators in
    between were written. Inner graphs are searched too, each for itself: a pattern lies within one
    level, and reads of the others.
    """
    return _Sweep(graph, context, rules).run()


def why_not(pattern: Term, node: Node) -> str | None:
    """Return what keeps a pattern from fitting at its root ``node``; None where it fits."""
    state, refusal = State(node.graph), None
    for found in pattern.find(node.outputs[0], state):
        reason = _exposed(found, node, _returned(node.graph))
        if reason is None:
            return None
        refusal = refusal or reason
    return refusal or state.trace.told


@dataclass
class _Sweep:
    """Searches every level of a graph."""

    root: Graph
    context: Context
    rules: Sequence[Rule]
    gone: set[Node] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    is_open: bool = False
    """Whether operators were written whose results have no shape yet."""

    def run(self) -> PassResult:
        levels = [(graph, by_root) for graph in _levels(self.root) if (by_root := self._on(graph))]
        if not levels:
            return PassResult(False)
        ir.infer_shapes(self.root)
        self.names = {node.name for node in self.root.walk()}
        for graph, by_root in levels:
            self._search(graph, by_root)
        return self._result()

    def _on(self, graph: Graph) -> dict[str, list[Rule]]:
        """Return the rules that may fit somewhere on a level, by the operators to try them at."""
        present = {node.op for node in graph.nodes()}
        by_root: dict[str, list[Rule]] = {}
        for rule in self.rules:
            if rule.pattern.needs <= present:
                for op in rule.pattern.roots & present:
                    by_root.setdefault(op, []).append(rule)
        return by_root

    def _search(self, graph: Graph, by_root: Mapping[str, Sequence[Rule]]) -> None:
        self.graph, self.returned = graph, _returned(graph)
        before = sum(self.counts.values())
        for node in reversed(graph.nodes(*by_root)):
            if node not in self.gone:
                self._try(node, by_root[node.op])
        if sum(self.counts.values()) > before:
            graph.sort()

    def _result(self) -> PassResult:
        if not self.counts:
            return PassResult(False)
        if self.is_open:
            ir.infer_shapes(self.root)
        notes = tuple(counted(n, name, "replaced") for name, n in self.counts.items())
        return PassResult(True, notes, {"replaced": sum(self.counts.values())})

    def _try(self, node: Node, rules: Sequence[Rule]) -> None:
        refusal = None
        for rule in rules:
            for match, reason in self._matches(rule, node):
                if reason is None:
                    made = rule.made(match)
                    if isinstance(made, Term) and _is_there(made, match):
                        continue
                    self._replace(rule, match, made)
                    self.counts[rule.name] = self.counts.get(rule.name, 0) + 1
                    return
                refusal = refusal or reason
        if refusal is not None:
            self.context.explain(node, refusal)

    def _matches(self, rule: Rule, node: Node) -> Iterator[tuple[Match, str | None]]:
        """Yield the matches of a rule at its root, with the reason to refuse each."""
        for found in rule.pattern.find(node.outputs[0], State(self.graph)):
            if node not in found.nodes:
                continue  # of optional operators none is there
            match = Match(self.graph, node, found.nodes, found.values)
            reason = _exposed(found, node, self.returned)
            if reason is None and rule.check is not None:
                reason = rule.check(match)
            yield match, reason

    def _replace(self, rule: Rule, match: Match, made: Term | Value) -> None:
        result = match.root.outputs[0]
        writer = Writer(self.graph, match.root, match.values, self.names)
        if isinstance(made, Term) and made.roots:
            self.graph.detach(result)
            writer.write(made, result)
        else:
            value = writer.write(made) if isinstance(made, Term) else made
            assert value is not None
            self.graph.replace_uses(result, value)
        self.is_open |= len(writer.written) > 1
        for node in writer.written:
            self.context.explain(node, rule.because or f"written in the place of {rule.name}")
        self._remove(match)

    def _remove(self, match: Match) -> None:
        """Remove what nobody reads any more of the covered operators and of their constants."""
        stack = [match.root]
        while stack:
            node = stack.pop()
            if node in self.gone or any(v.uses or v.is_output for v in node.outputs):
                continue
            inputs = dict.fromkeys(v for v in node.inputs if v is not None)
            self.graph.remove(node)
            self.gone.add(node)
            for value in inputs:
                maker = value.producer
                if maker is not None and (maker in match.nodes or _is_stored(maker, self.graph)):
                    stack.append(maker)
                self.graph.drop_constant(value)


def _levels(graph: Graph) -> list[Graph]:
    return [graph, *(inner for node in graph.walk() for inner in node.subgraphs)]


def _is_there(made: Term, match: Match) -> bool:
    """Whether what would be written is, operator by operator, what is there already."""
    state = State(match.graph, values=match.values)
    covered = set(match.nodes)
    ways = spelled(made).find(match.root.outputs[0], state)
    return any(set(found.nodes) == covered for found in ways)


def _is_stored(node: Node, graph: Graph) -> bool:
    return node.op == "Constant" and not node.domain and node.graph is graph


def _exposed(found: State, root: Node, returned: frozenset[Value]) -> str | None:
    """Return why the covered operators cannot go: somebody else wants what one of them computes."""
    covered = set(found.nodes)
    for node in found.nodes:
        for value in node.outputs:
            if value in returned:
                return f"an inner graph returns `{value.name}`"
            if node is root and value is root.outputs[0]:
                continue
            if value.is_output:
                return f"`{value.name}` inside it is an output of the graph"
            reader = next((n for n, _ in value.uses if n not in covered), None)
            if reader is not None:
                return f"`{reader.label}` reads `{value.name}` inside it too"
    return None


def _returned(graph: Graph) -> frozenset[Value]:
    """Return the values of this level that inner graphs return as they are."""
    nodes = (n for holder in graph.nodes() for g in holder.subgraphs for n in g.walk())
    inner = [g for n in (*graph.nodes(), *nodes) for g in n.subgraphs]
    return frozenset(v for g in inner for v in g.outputs if v.graph is graph)
