"""Walks a graph in order and says of every tensor what follows from its operands.

Own rules come first, because they keep symbols; onnx is asked about each operator that has none.
What is known of a node is remembered with what it was known from: a graph that is asked about
again costs one comparison for each node that did not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.errors import ModelError
from graphopt.ir.bindings import symbols_of
from graphopt.ir.dims import Expr, show
from graphopt.ir.inference import rules
from graphopt.ir.inference.bodies import BODIES
from graphopt.ir.inference.elements import EVALUATED, split_elements
from graphopt.ir.inference.fact import COUNTS, MOST_ELEMENTS, UNKNOWN, Fact
from graphopt.ir.inference.fallback import asked_of_onnx, declared_symbol
from graphopt.ir.inference.operands import RULES, Operands
from graphopt.ir.inference.unknown import fresh, is_invented
from graphopt.ir.serde import tensor_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir.attributes import Attribute
    from graphopt.ir.dims import Dim
    from graphopt.ir.graph import Graph
    from graphopt.ir.inference.fact import Dims, Elements
    from graphopt.ir.inference.fallback import Answer
    from graphopt.ir.node import Node, Value
    from graphopt.types import DType, Shape

__all__ = ["Inference", "inference_of", "rules"]

_RULE_FAILURES = (IndexError, ValueError, TypeError, KeyError, ZeroDivisionError, OverflowError)
"""What a rule may raise on a graph that breaks the rules of ONNX: then onnx is asked."""


@dataclass
class _Held:
    """One result of a node: what is known, what was written into the value, and over what."""

    value: Value
    name: str
    fact: Fact
    dtype: DType | None
    shape: Shape | None
    base: tuple[DType | None, Shape | None]

    def is_valid(self) -> bool:
        value = self.value
        # Most shapes are the very tuple that was written.
        same = value.shape is self.shape or value.shape == self.shape
        return same and value.dtype == self.dtype and value.name == self.name


@dataclass
class _Record:
    operands: tuple[Fact | None, ...]
    attributes: tuple[Attribute, ...]
    held: list[_Held]
    written: bool
    note: str = ""


@dataclass
class Memory:
    """What a graph remembers of its last inference."""

    setting: object = None
    records: dict[Node, _Record] = field(default_factory=dict)
    inputs: dict[Value, tuple[object, Fact]] = field(default_factory=dict)


class Inference:
    """What is known of every tensor of a graph and of the graphs inside it.

    Args:
        graph: the outermost graph, in topological order.
        write: set type and shape of its values; otherwise it is only looked at.
    """

    def __init__(self, graph: Graph, *, write: bool) -> None:
        self.graph = graph
        self._write = write
        self.notes: list[str] = []
        self._facts: dict[Value, Fact] = {}
        self._lengths: set[Dim] = set()
        self._names = {d for v in graph.inputs for d in v.shape or () if isinstance(d, str)}
        memory = graph.inference if isinstance(graph.inference, Memory) else Memory()
        setting = (graph.opset, dict(graph.opsets), graph.functions, dict(graph.bounds))
        self._old = memory if memory.setting == setting else Memory()
        self._new = Memory(setting)
        graph.inference = self._new
        self.walk(graph, "")

    # -- asking ----------------------------------------------------------------------------

    def fact(self, value: Value | None) -> Fact:
        """Return what is known of a value; of one that is missing nothing is."""
        if value is None:
            return UNKNOWN
        found = self._facts.get(value)
        if found is None:
            found = self._facts[value] = self._given(value)
        return found

    def computed(self) -> list[tuple[Value, Fact]]:
        """Return the results of operators whose elements were followed, of the outermost graph."""
        return [
            (v, f) for v, f in self._facts.items()
            if f.computed and v.graph is self.graph and v.producer is not None
        ]  # fmt: skip

    def is_length(self, dim: Dim) -> bool:
        """Whether a tensor of the outermost graph is that long."""
        return dim in self._lengths

    def _given(self, value: Value) -> Fact:
        """Return what an input or a constant is."""
        tensor = value.tensor
        state = (value.name, value.dtype, value.shape, id(tensor))
        known = self._old.inputs.get(value)
        if known is None or known[0] != state:
            if tensor is not None:
                known = (state, Fact(tensor.dtype, tensor.shape, tensor=tensor))
            else:
                known = (state, self._declared(value))
        self._new.inputs[value] = known
        return known[1]

    def _declared(self, value: Value) -> Fact:
        proto = None
        if value.dtype is None and value.source is not None:
            proto = value.source.type if value.source.type.WhichOneof("value") else None
            proto = None if proto is not None and proto.HasField("tensor_type") else proto
        dims = None
        if value.shape is not None:
            dims = tuple(self._read(value, i, dim) for i, dim in enumerate(value.shape))
        return Fact(value.dtype, dims, proto=proto, label=value.name)

    def _read(self, value: Value, axis: int, dim: int | str | None) -> Dim:
        if isinstance(dim, int):
            return dim
        if dim is None or is_invented(dim):
            return fresh(value.name, axis)
        return declared_symbol(dim, self.graph.bounds)

    # -- walking ---------------------------------------------------------------------------

    def walk(self, graph: Graph, path: str) -> None:
        """Infer the nodes of one level; ``path`` tells its symbols from those of other levels."""
        for node in graph.nodes():
            if node.subgraphs or not self._remembered(node):
                self._infer(node, path)

    def assume(self, value: Value, fact: Fact) -> None:
        """Say what an input of an inner graph is."""
        self._facts[value] = fact

    def _remembered(self, node: Node) -> bool:
        """Take over what is known of a node that did not change; return whether it did not."""
        record = self._old.records.get(node)
        if record is None or (self._write and not record.written):
            return False
        if record.operands != tuple(None if v is None else self.fact(v) for v in node.inputs):
            return False
        if record.attributes != tuple(node.attributes.values()):
            return False
        if len(record.held) != len(node.outputs) or not all(h.is_valid() for h in record.held):
            return False
        for held, value in zip(record.held, node.outputs, strict=True):
            if held.value is not value:
                return False
        self._keep(node, record)
        return True

    def _keep(self, node: Node, record: _Record) -> None:
        self._new.records[node] = record
        outermost = node.graph is self.graph
        for held in record.held:
            self._facts[held.value] = held.fact
            if outermost and held.fact.dims is not None:
                self._lengths.update(d for d in held.fact.dims if isinstance(d, Expr))
        if record.note:
            self.notes.append(record.note)

    def _infer(self, node: Node, path: str) -> None:
        operands = tuple(None if v is None else self.fact(v) for v in node.inputs)
        answers, note = self._answers(node, operands, path)
        if not answers:
            answers = [(None, None, None)] * len(node.outputs)
        made = [
            self._merged(node, value, answers[i] if i < len(answers) else (None, None, None), path)
            for i, value in enumerate(node.outputs)
        ]
        self._follow(node, operands, [held.fact for held in made])
        self._recall(node, made)
        attributes = tuple(node.attributes.values())
        record = _Record(operands, attributes, made, self._write, note)
        self._keep(node, record)

    def _recall(self, node: Node, made: list[_Held]) -> None:
        """Keep the old objects for what turned out the same: those who read it need no new look."""
        record = self._old.records.get(node)
        if record is None or len(record.held) != len(made):
            return
        for new, old in zip(made, record.held, strict=True):
            if new.fact.is_same(old.fact):
                new.fact = old.fact

    def _answers(
        self, node: Node, operands: Sequence[Fact | None], path: str
    ) -> tuple[list[Answer] | None, str]:
        body = BODIES.get(node.op) if node.domain == "" and node.subgraphs else None
        if body is not None:
            try:
                return body(self, node, path), ""
            except (*_RULE_FAILURES, AttributeError, ModelError):
                return None, f"nothing is known of {node.op} `{node.label}`: it is damaged"
        rule = RULES.get((node.domain, node.op))
        if rule is not None:
            found = None
            try:
                o = Operands(node, operands, self.graph.opset, self.is_length)
                found = rule(o)
            except _RULE_FAILURES:
                found = None
            if found is not None and found[0][1] is not None:
                return [(dtype, dims, None) for dtype, dims in found], ""
        answers, reason = asked_of_onnx(self.graph, node, operands)
        note = f"nothing is known of {node.op} `{node.label}`: {reason}" if reason else ""
        if answers is None and rule is not None and found is not None:
            return [(dtype, dims, None) for dtype, dims in found], note
        return answers, note

    # -- what was declared, and what follows -------------------------------------------------

    def _merged(self, node: Node, value: Value, answer: Answer, path: str) -> _Held:
        dtype, dims, proto = answer
        base = self._base(node, value)
        label = f"{path}{value.name}"
        kept_dtype = dtype if dtype is not None else base[0]
        known = self._joined(value, dims, base[1], label)
        fact = Fact(kept_dtype, known, proto=proto, label=label)
        if value.name and self._write:
            value.dtype = value.dtype if value.dtype is not None else kept_dtype
            value.shape = self._written(value, known, base[1])
        return _Held(value, value.name, fact, value.dtype, value.shape, base)

    def _base(self, node: Node, value: Value) -> tuple[DType | None, Shape | None]:
        """Return what was declared of a value, and not inferred before."""
        for memory in (self._new, self._old):
            record = memory.records.get(node)
            for held in record.held if record is not None else ():
                if held.value is value and held.is_valid():
                    return held.base
        return value.dtype, value.shape

    def _joined(
        self, value: Value, dims: Sequence[Dim | None] | None, base: Shape | None, label: str
    ) -> Dims | None:
        if dims is None and base is None:
            return None
        if dims is None or base is None or len(base) != len(dims):
            chosen = dims if dims is not None else [None] * len(base or ())
            base = base if dims is None else None
        else:
            chosen = dims
        return tuple(
            self._dim(value, i, dim, None if base is None else base[i], label)
            for i, dim in enumerate(chosen)
        )

    def _dim(
        self, value: Value, axis: int, derived: Dim | None, declared: int | str | None, label: str
    ) -> Dim:
        if isinstance(derived, int):
            return derived
        if derived is not None:
            sure = not any(is_invented(s) for s in symbols_of(derived))
            return declared if isinstance(declared, int) and not sure else derived
        if isinstance(declared, int):
            return declared
        if declared is not None and not is_invented(declared) and self._is_believed(value, axis):
            return declared_symbol(declared, self.graph.bounds)
        return fresh(label, axis)

    def _is_believed(self, value: Value, axis: int) -> bool:
        """Whether a symbol was written by whoever made the model, and not by inference."""
        if value.source is None:
            return value.producer is not None and value.producer.domain != ""
        return _is_in_file(value, axis)

    def _shown(self, dims: Dims) -> Shape:
        return tuple(d if isinstance(d, int) else show(d, self._names) for d in dims)

    def _written(self, value: Value, dims: Dims | None, base: Shape | None) -> Shape | None:
        """Return the shape to write; what a graph says of its results keeps its names."""
        if dims is None:
            return base
        shown = self._shown(dims)
        if not value.is_output:
            return shown
        told = tuple(None if isinstance(d, str) and is_invented(d) else d for d in shown)
        if base is None or len(base) != len(told):
            return told
        return tuple(
            new if isinstance(new, int) or old is None else old
            for new, old in zip(told, base, strict=True)
        )

    def _follow(self, node: Node, operands: Sequence[Fact | None], made: list[Fact]) -> None:
        """Find out what small results hold."""
        evaluate = EVALUATED.get(node.op) if not node.domain else None
        if evaluate is None and node.op != "Split":
            return
        first = made[0]
        size = first.size() if first.dims is not None and first.dtype is not None else None
        if size is None or size > MOST_ELEMENTS or first.dtype is None:
            return
        if first.dtype not in COUNTS and any(f is None or f.elements is None for f in operands):
            return
        o = Operands(node, operands, self.graph.opset, self.is_length)
        found: list[Elements] | None = None
        try:
            if evaluate is not None:
                single = evaluate(o, tuple(d for d in first.dims or () if isinstance(d, int)),
                                  first.dtype)  # fmt: skip
                found = None if single is None else [single]
            elif all(f.size() is not None for f in made):
                found = split_elements(
                    o, [tuple(d for d in f.dims or () if isinstance(d, int)) for f in made]
                )
        except _RULE_FAILURES:
            return
        for fact, elements in zip(made, found or (), strict=False):
            fact.hold(elements)


def _is_in_file(value: Value, axis: int) -> bool:
    if value.source is None:
        return False
    _, shape = tensor_type(value.source.type)
    held = value.shape
    return (
        shape is not None and held is not None and len(shape) == len(held)
        and shape[axis] == held[axis]
    )  # fmt: skip


def inference_of(graph: Graph, *, write: bool = False) -> Inference:
    """Infer a graph; with ``write``, put what is known into its values.

    Nothing is raised for a node that breaks the rules of ONNX: ``notes`` tells of it, and its
    results are what the model declares them to be.
    """
    return Inference(graph, write=write)
