"""Formulas over the tensors of a graph: what a rule looks for, and what it writes instead.

``0.5 * x * (1 + op.Erf(x / math.sqrt(2)))`` is a term. Sums and products mean what they mean in
algebra: any order and grouping of the operators matches, and a number may be spread over several
constants, before or behind, as a factor or a divisor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import scalar
from graphopt.passes.patterns.search import State, is_near, number_in, roundoff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]
    Found = Iterator[State]

_COMMUTATIVE = frozenset(
    {"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Max", "Mean", "Min", "Mul",
     "Or", "Sum", "Xor"}
)  # fmt: skip
_MOST_NUMBERS = 3
"""Constants that a sum or product may be spread over: bounds what one match costs."""


class Term(ABC):
    """A part of a formula; ``+ - * / **`` go with terms and numbers, ``|`` between alternatives."""

    __array_ufunc__ = None  # an array on the left leaves the operator to the term

    roots: frozenset[str] = frozenset()
    """Operators that can make the value; empty where it can be anything."""
    needs: frozenset[str] = frozenset()
    """Operators without which nothing matches."""
    is_number = False
    parts: tuple[Term, ...] = ()

    @abstractmethod
    def find(self, value: Value | None, state: State) -> Found:
        """Yield every way in which ``value`` is what the term says."""

    def fits(self, node: Node) -> bool:
        """Whether the first result of ``node`` is what the term says, whoever else reads of it."""
        return any(True for _ in self.find(node.outputs[0], State(node.graph)))

    def named(self, name: str) -> Term:
        """Return the same term, whose value the match knows by ``name``."""
        return _Named(name, self)

    def __add__(self, other: Any) -> Term:
        return Sum(self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Term:
        return Product(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Term:
        return Product(self, -1)

    def __sub__(self, other: Any) -> Term:
        return Sum(self, -other) if isinstance(other, int | float) else op.Sub(self, other)

    def __rsub__(self, other: Any) -> Term:
        return op.Sub(other, self) | Sum(-self, other)

    def __truediv__(self, other: Any) -> Term:
        return Product(self, 1 / other) if isinstance(other, int | float) else op.Div(self, other)

    def __rtruediv__(self, other: Any) -> Term:
        plain = op.Div(other, self)
        return op.Reciprocal(self) | plain if other == 1 else plain

    def __pow__(self, power: float) -> Term:
        return Product(*[self] * int(power)) if power in {2, 3, 4} else op.Pow(self, power)

    def __or__(self, other: Term | None) -> Term:
        return Either(self, Missing() if other is None else other)


class Var(Term):
    """Any value, and the same one wherever the name stands again; without a name any each time.

    Args:
        name: how the match knows the value.
        where: what the value must fulfil.
    """

    def __init__(self, name: str = "", where: Callable[[Value], bool] | None = None) -> None:
        self.name, self.where = name, where

    def find(self, value: Value | None, state: State) -> Found:
        """Yield the state in which the name stands for ``value``."""
        if value is None:
            state.miss("the operand `{}` is missing", self.name)
        elif not self.allows(value) or (self.where is not None and not self.where(value)):
            state.miss("`{}` is not what `{}` stands for", value.name, self.name)
        else:
            yield from state.bind(self.name, value)

    def allows(self, value: Value) -> bool:
        """Whether a value is of the kind that the variable stands for."""
        return True


class Const(Var):
    """A constant of any shape."""

    def allows(self, value: Value) -> bool:
        """Whether the value is known before the graph runs."""
        return value.is_constant


class Number(Const):
    """A constant of one element, without axes that the operands beside it do not have."""

    is_number = True

    def allows(self, value: Value) -> bool:
        """Whether the value is a constant of one element."""
        return scalar(value) is not None


class Missing(Term):
    """An optional operand that is left out; written as ``bias | None``."""

    def find(self, value: Value | None, state: State) -> Found:
        """Yield the state as it is where there is no value."""
        if value is None:
            yield state


class Literal(Term):
    """A number, or the elements of a constant."""

    def __init__(self, held: float | Sequence[int] | Array) -> None:
        self.held, self.is_number = held, isinstance(held, int | float)

    def find(self, value: Value | None, state: State) -> Found:
        """Yield the state as it is where ``value`` is a constant that holds the same."""
        if value is None or value.tensor is None or not self._is_in(value):
            state.miss("`{}` is not {}", value.name if value is not None else "", self.held)
        else:
            yield state

    def _is_in(self, value: Value) -> bool:
        if isinstance(self.held, int | float):
            number = scalar(value)
            return number is not None and is_near(number, self.held, roundoff(value))
        held = np.asarray(self.held).reshape(-1)
        assert value.tensor is not None
        return value.tensor.size == held.size and np.array_equal(value.array().reshape(-1), held)


class Either(Term):
    """The first of two terms that fits."""

    def __init__(self, one: Term, other: Term) -> None:
        self.parts = one, other
        self.roots = one.roots | other.roots if one.roots and other.roots else frozenset()
        self.needs = one.needs & other.needs

    def find(self, value: Value | None, state: State) -> Found:
        """Yield the ways of the first, then those of the other."""
        for part in self.parts:
            yield from part.find(value, state)


class _Named(Term):
    def __init__(self, name: str, term: Term) -> None:
        self.name, self.term = name, term
        self.roots, self.needs, self.parts = term.roots, term.needs, term.parts

    def find(self, value: Value | None, state: State) -> Found:
        for found in self.term.find(value, state):
            yield from found.bind(self.name, value) if value is not None else ()


class Op(Term):
    """An operator with its operands in place, of which the first result is looked at."""

    def __init__(self, domain: str, op: str, *operands: Any, **attributes: Any) -> None:
        self.is_open = bool(operands) and operands[-1] is ...
        self.op, self.domain, self.attributes = op, domain, attributes
        self.parts = tuple(_term(o) for o in operands[: len(operands) - self.is_open])
        self.roots = frozenset({op})
        self.needs = self.roots.union(*(part.needs for part in self.parts))

    def find(self, value: Value | None, state: State) -> Found:
        """Yield the ways in which the operands fit; in both orders where that is the same."""
        node = state.maker(value, self.roots, self.domain)
        if node is None:
            return
        state = state.enter(node)
        missing = len(self.parts) - len(node.inputs)
        given = (*node.inputs, *[None] * missing)
        if not self.is_open and (missing < 0 or set(node.attribute_names) - set(self.attributes)):
            state.miss("`{}` has operands or attributes that are not expected", node.label)
        elif all(_is(node.attribute(name), w) for name, w in self.attributes.items()):
            is_free = self.op in _COMMUTATIVE and len(given) == 2
            for inputs in (given, given[::-1]) if is_free else (given,):
                yield from _each([*zip(self.parts, inputs, strict=False)], state, node)
        else:
            state.miss("`{}` has other attributes", node.label)


class _Fold(Term):
    """A sum or a product: terms and one number, in any order and grouping of operators."""

    op: str
    ops: frozenset[str]
    neutral: float

    def __init__(self, *operands: Any) -> None:
        self.number = self.neutral
        terms: list[Term] = []
        for operand in operands:
            if isinstance(operand, int | float):
                self.number = self.combine(self.number, operand)
            elif isinstance(operand, type(self)):
                self.number = self.combine(self.number, operand.number)
                terms += operand.parts
            else:
                terms.append(_term(operand))
        self.parts = tuple(terms)
        is_power = self.op == "Mul" and len(set(terms)) == 1 < len(terms)
        self.roots = self.ops | {"Pow"} if is_power else self.ops
        self.needs = frozenset().union(*(part.needs for part in terms))

    @staticmethod
    @abstractmethod
    def combine(one: float, other: float) -> float:
        """Return the sum or the product of two numbers."""

    def find(self, value: Value | None, state: State) -> Found:
        """Yield the ways to take operators apart that leave the terms and the number."""
        for found, number, error in self._gather(value, self.parts, state, _MOST_NUMBERS):
            if is_near(number, self.number, error):
                yield found
            else:
                found.miss("the constants make {:.9g}, not {:.9g}", number, self.number)

    def _gather(
        self, value: Value | None, terms: tuple[Term, ...], state: State, most: int
    ) -> Iterator[tuple[State, float, float]]:
        """Yield states in which ``value`` is these terms and a number; that, and its error."""
        if len(terms) == 1:
            yield from ((found, self.neutral, 0.0) for found in terms[0].find(value, state))
        node = state.maker(value, self.roots)
        if node is None or node.attributes:  # before opset 7 they said how to broadcast
            return
        state = state.enter(node)
        for operand, number, error in self._numbers(node) if most else ():
            for found, more, others in self._gather(operand, terms, state, most - 1):
                yield found, self.combine(more, number), error + others
        if len(terms) > 1 and node.op == self.op:
            yield from self._split(node, terms, state, most)
        elif len(terms) > 1 and node.op == "Pow":
            pairs = [*zip((terms[0], Literal(len(terms))), node.inputs, strict=True)]
            yield from ((found, self.neutral, 0.0) for found in _each(pairs, state, node))

    def _numbers(self, node: Node) -> Iterator[tuple[Value | None, float, float]]:
        """Yield an operand of ``node``, the number that goes with it, and that number's error."""
        if node.op == "Neg":
            yield node.inputs[0], -1.0, 0.0
        for index in (1, 0) if node.op != "Neg" else ():
            held, operand = node.inputs[index], node.inputs[1 - index]
            number = number_in(held, node) if held is not operand else None
            if number is None or held is None:
                continue
            error = roundoff(held)
            if node.op == self.op:
                yield operand, number, error
            elif index == 1 and node.op == "Sub":
                yield operand, -number, error
            elif index == 1 and node.op == "Div" and number and error:  # of integers: rounds down
                yield operand, 1 / number, error

    def _split(
        self, node: Node, terms: tuple[Term, ...], state: State, most: int
    ) -> Iterator[tuple[State, float, float]]:
        """Yield the ways to give some terms to one operand, and the rest to the other."""
        for mine, rest in _parted(terms):
            halves = [(mine, node.inputs[0]), (rest, node.inputs[1])]
            if any(t[0].is_number and number_in(v, node) is None for t, v in halves if len(t) == 1):
                continue
            (some, one), (others, other) = sorted(halves, key=lambda half: _is_wild(half[0][0]))
            for found, number, error in self._gather(one, some, state, most):
                for last, more, another in self._gather(other, others, found, most):
                    yield last, self.combine(number, more), error + another


class Sum(_Fold):
    """Terms and a number, added up."""

    op, ops, neutral = "Add", frozenset({"Add", "Sub"}), 0.0

    @staticmethod
    def combine(one: float, other: float) -> float:
        """Return the sum."""
        return one + other


class Product(_Fold):
    """Terms and a number, multiplied."""

    op, ops, neutral = "Mul", frozenset({"Div", "Mul", "Neg"}), 1.0

    @staticmethod
    def combine(one: float, other: float) -> float:
        """Return the product."""
        return one * other


class Operators:
    """Operators of a domain by name: ``op.Relu(x)``, ``op.Conv(x, w, ..., group=1)``.

    Operands are terms, numbers, lists of integers (constants with these elements), None (left
    out) and, at the end, ``...``: further operands and attributes do not matter. An attribute is a
    value, a set of possible ones, of which None means that it is not set, or a predicate.
    """

    def __init__(self, domain: str = "") -> None:
        self._domain = "" if domain == "ai.onnx" else domain

    def __getattr__(self, name: str) -> Callable[..., Op]:
        return partial(Op, self._domain, name)


op = Operators()
"""The standard operators."""


def maybe(term: Term) -> Term:
    """Return a term for an operator, the first of its operands where it is not there."""
    return term | term.parts[0]


def _term(operand: Any) -> Term:
    if isinstance(operand, Term):
        return operand
    return Missing() if operand is None else Literal(operand)


def _is_wild(term: Term) -> bool:
    """Whether anything fits, so that what fails sooner is tried before."""
    return isinstance(term, Var)


def _is(found: Any, wanted: Any) -> bool:
    """Whether an attribute is as wanted; None where it is not set."""
    if callable(wanted):
        return bool(wanted(found))
    if isinstance(wanted, set | frozenset):
        return any(_is(found, w) for w in wanted)
    if isinstance(wanted, float) and isinstance(found, float):
        return is_near(found, wanted, 1e-6)
    return bool(found == wanted) and (found is None) == (wanted is None)


def _each(pairs: Sequence[tuple[Term, Value | None]], state: State, node: Node) -> Found:
    """Yield the states in which every term fits its operand of ``node``."""
    if not pairs:
        yield state
        return
    (term, value), *rest = sorted(pairs, key=lambda pair: _is_wild(pair[0]))
    if term.is_number and number_in(value, node) is None:
        state.miss("`{}` has no number beside its other operand", node.label)
        return
    for found in term.find(value, state):
        yield from _each(rest, found, node)


def _parted(terms: Collection[Term]) -> Iterator[tuple[tuple[Term, ...], tuple[Term, ...]]]:
    """Yield every way to make two groups of the terms, each once."""
    seen, indices = set(), range(len(terms))
    for size in range(1, len(terms)):
        for chosen in combinations(indices, size):
            mine = tuple(t for i, t in enumerate(terms) if i in chosen)
            if mine not in seen:
                seen.add(mine)
                yield mine, tuple(t for i, t in enumerate(terms) if i not in chosen)
