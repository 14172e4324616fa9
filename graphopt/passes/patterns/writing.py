"""Terms as new operators: what a rule writes in the place of what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import Tensor
from graphopt.passes.patterns.terms import Literal, Missing, Op, Product, Sum, Var, op

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.patterns.terms import Term


@dataclass
class Writer:
    """Writes the terms of one replacement.

    Args:
        graph: gets the operators, behind all others.
        root: what is replaced: its name and its result are taken over.
        values: what variables stand for.
        names: of the operators of the graph; grows.
    """

    graph: Graph
    root: Node
    values: Mapping[str, Value]
    names: set[str]
    written: list[Node] = field(default_factory=list)
    made: dict[Term, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.label = self.root.label

    def write(self, term: Term, into: Value | None = None) -> Value | None:
        """Return the value of a term, each term written once; ``into`` is what it is to make.

        Numbers get the type of the operand beside them; without one, that of the result.

        Raises:
            TypeError: the term is only good for finding, as alternatives are.
        """
        if isinstance(term, Var):
            return self.values[term.name]
        if isinstance(term, Missing):
            return None
        if isinstance(term, Literal):
            return self._constant(term, None)
        if term not in self.made:
            spelled = _spelled(term) if isinstance(term, Sum | Product) else term
            if not isinstance(spelled, Op):
                raise TypeError(f"a replacement cannot have {type(spelled).__name__} in it")
            self.made[term] = self._apply(spelled, self._operands(spelled), into)
        return self.made[term]

    def _operands(self, term: Op) -> list[Value | None]:
        """Return the operands: first those with a type of their own, then numbers like them."""
        known = {t: self.write(t) for t in term.parts if not isinstance(t, Literal)}
        beside = next((v for v in known.values() if v is not None), None)
        return [
            self._constant(t, beside) if isinstance(t, Literal) else known[t] for t in term.parts
        ]

    def _apply(self, term: Op, inputs: list[Value | None], into: Value | None) -> Value:
        label = f"{self.label}_{term.op.lower()}"
        name = self.root.name if into is not None else self._unique(label)
        output = into or self.graph.unique_name(f"{label}_out")
        attributes = {key: v for key, v in term.attributes.items() if v is not None}
        node = self.graph.add_node(term.op, inputs, [output], attributes, name, term.domain)
        if term.domain:
            self.graph.root.opsets.setdefault(term.domain, 1)
        elif into is not None:
            node.source = self.root.source  # what the exporter noted about the operator
        self.written.append(node)
        return node.outputs[0]

    def _constant(self, term: Literal, like: Value | None) -> Value:
        beside = like.dtype if like is not None else None
        dtype = beside or self.root.outputs[0].dtype
        name = f"{self.label}_constant"
        if not term.is_number or dtype is None:
            return self.graph.add_constant(name, np.asarray(term.held))
        number = np.asarray(term.held, dtype.numpy_name)
        return self.graph.add_constant(name, Tensor.from_array(number, dtype))

    def _unique(self, base: str) -> str:
        name, count = base, 0
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        self.names.add(name)
        return name


def spelled(term: Term) -> Term:
    """Return a term as the operators that would be written for it."""
    if isinstance(term, Sum | Product):
        term = _spelled(term)
    if not isinstance(term, Op):
        return term
    rest = (...,) if term.is_open else ()
    return Op(term.domain, term.op, *map(spelled, term.parts), *rest, **term.attributes)


def _spelled(term: Sum | Product) -> Term:
    """Return a sum or product as operators of two operands, with the number at the end."""
    parts: list[Any] = list(term.parts)
    if term.number == -1 and isinstance(term, Product):
        parts[0] = op.Neg(parts[0])
    elif term.number != term.neutral:
        parts.append(term.number)
    total: Term = parts[0]
    for part in parts[1:]:
        total = Op("", term.op, total, part)
    return total if isinstance(total, Op) else op.Identity(total)
