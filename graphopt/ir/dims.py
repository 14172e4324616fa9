"""Arithmetic on sizes that are not known: sums, products and quotients of symbols.

A size is a number or an `Expr`: a polynomial with whole coefficients over symbols and over what no
polynomial says (`(h-1)//2`, `min(t,512)`). Terms are kept in one order, so that sizes which are
equal for this reason have equal texts; `2*seq` computed in two ways is written in one.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

_PLAIN = re.compile(r"[^\s\d+\-*/(),{}][^\s+\-*/(),{}]*")
"""Names that need no braces inside an expression."""


class Atom:
    """A symbol, or a function of sizes that is no polynomial.

    Args:
        text: unambiguous inside an expression.
        least: what it is at least; None where it may be negative.
        function: what computes it from the values of ``operands``; None for a symbol.
        operands: what it is computed from.
        name: of a symbol, as the model writes it.
    """

    __slots__ = ("function", "least", "name", "operands", "text")

    def __init__(
        self,
        text: str,
        least: int | None,
        function: str = "",
        operands: tuple[Dim, ...] = (),
        name: str = "",
    ) -> None:
        self.text = text
        self.least = least
        self.function = function
        self.operands = operands
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


Monomial = tuple[Atom, ...]
Terms = dict[Monomial, int]


class Expr:
    """A polynomial that is not constant; made by `symbol` and by the functions of this module."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    @cached_property
    def text(self) -> str:
        """The canonical spelling."""
        parts = [_term(m, c) for m, c in sorted(self.terms.items(), key=_rank)]
        joined = "".join(p if p.startswith("-") else f"+{p}" for p in parts)
        return joined.removeprefix("+")

    @property
    def atom(self) -> Atom | None:
        """The symbol or function that this is, where it is nothing more."""
        if len(self.terms) == 1:
            (monomial, count), *_ = self.terms.items()
            if count == 1 and len(monomial) == 1:
                return monomial[0]
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.terms == other.terms

    @cached_property
    def _hash(self) -> int:
        return hash(self.text)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Expr({self.text})"


Dim = int | Expr


def _rank(term: tuple[Monomial, int]) -> tuple[bool, int, tuple[str, ...]]:
    """Order terms: those with a positive coefficient first, the constant last."""
    monomial, count = term
    return not monomial, int(count < 0), tuple(a.text for a in monomial)


def _term(monomial: Monomial, count: int) -> str:
    if not monomial:
        return str(count)
    if count == 1 and len(monomial) == 1:
        return monomial[0].text
    # A quotient among factors is no product of them.
    factors = "*".join(f"({a.text})" if a.function == "//" else a.text for a in monomial)
    return {1: factors, -1: f"-{factors}"}.get(count, f"{count}*{factors}")


def symbol(name: str, least: int | None = 0) -> Expr:
    """Return the size called ``name``, which is at least ``least``; None: it may be negative."""
    text = name if _PLAIN.fullmatch(name) else f"{{{name}}}"
    return Expr({(Atom(text, least, name=name),): 1})


def show(dim: Dim, taken: Container[str] = ()) -> int | str:
    """Return a number, or the text of an expression; in parentheses when a symbol has that name."""
    if isinstance(dim, int):
        return dim
    atom = dim.atom
    if atom is not None and atom.name:
        return atom.name
    return f"({dim.text})" if dim.text in taken else dim.text


def _terms(dim: Dim) -> Terms:
    if isinstance(dim, Expr):
        return dim.terms
    return {(): dim} if dim else {}


def _made(terms: Terms) -> Dim:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    return kept[()] if len(kept) == 1 and () in kept else Expr(kept)


def add(one: Dim, other: Dim) -> Dim:
    """Return the sum."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    terms = dict(_terms(one))
    for monomial, count in _terms(other).items():
        terms[monomial] = terms.get(monomial, 0) + count
    return _made(terms)


def subtract(one: Dim, other: Dim) -> Dim:
    """Return the difference."""
    return add(one, multiply(other, -1))


def multiply(one: Dim, other: Dim) -> Dim:
    """Return the product."""
    if isinstance(one, int) and isinstance(other, int):
        return one * other
    terms: Terms = {}
    for left, count in _terms(one).items():
        for right, times in _terms(other).items():
            monomial = tuple(sorted((*left, *right), key=lambda a: a.text))
            terms[monomial] = terms.get(monomial, 0) + count * times
    return _made(terms)


def product(dims: Iterable[Dim]) -> Dim:
    """Return the product of all; 1 of none."""
    total: Dim = 1
    for dim in dims:
        total = multiply(total, dim)
    return total


def total(dims: Iterable[Dim]) -> Dim:
    """Return the sum of all; 0 of none."""
    found: Dim = 0
    for dim in dims:
        found = add(found, dim)
    return found


def least(dim: Dim) -> int | None:
    """Return what a size is at least whatever its symbols are; None when nothing is known."""
    if isinstance(dim, int):
        return dim
    bottom = 0
    for monomial, count in dim.terms.items():
        smallest = 1
        for atom in monomial:
            if count < 0 or atom.least is None or atom.least < 0:
                return None
            smallest *= atom.least
        bottom += count * smallest
    return bottom


def is_at_least(one: Dim, other: Dim) -> bool:
    """Whether ``one`` is not less than ``other`` whatever the symbols are."""
    if isinstance(one, int) and isinstance(other, int):
        return one >= other
    bottom = least(subtract(one, other))
    return bottom is not None and bottom >= 0


def exact_quotient(one: Dim, other: Dim) -> Dim | None:
    """Return q with q * other = one as polynomials, or None; ``other`` is taken not to be 0."""
    if isinstance(one, int) and isinstance(other, int):
        return one // other if other and one % other == 0 else None
    divisor = _terms(other)
    if not divisor:
        return None
    leading = max(divisor, key=_degree)
    rest, quotient = dict(_terms(one)), 0
    found: Dim = quotient
    for _ in range(64):
        if not rest:
            return found
        at = max(rest, key=_degree)
        part = _without(at, leading)
        if part is None or rest[at] % divisor[leading]:
            return None
        factor = _made({part: rest[at] // divisor[leading]})
        found = add(found, factor)
        rest = dict(_terms(subtract(_made(rest), multiply(factor, other))))
    return None


def _degree(monomial: Monomial) -> tuple[int, tuple[str, ...]]:
    return len(monomial), tuple(a.text for a in monomial)


def _without(whole: Monomial, part: Monomial) -> Monomial | None:
    """Return the monomial that is left of ``whole`` when ``part`` is taken out."""
    left = list(whole)
    for atom in part:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def floor_divide(one: Dim, other: Dim) -> Dim | None:
    """Return the quotient rounded down; None by 0 and where nothing is known of the divisor."""
    if isinstance(one, int) and isinstance(other, int):
        return one // other if other else None
    if isinstance(other, int):
        return _divided(one, other) if other > 0 and isinstance(one, Expr) else None
    exact = exact_quotient(one, other)
    if exact is not None:
        return exact
    bottom = least(other)
    if bottom is None or bottom < 0:
        return None
    return _call("//", one, other, _nonnegative(one))


def _nonnegative(dim: Dim) -> int | None:
    bottom = least(dim)
    return 0 if bottom is not None and bottom >= 0 else None


def _divided(one: Expr, divisor: int) -> Dim:
    """Divide by a number: what it divides comes out of the brackets, and quotients nest."""
    if divisor == 1:
        return one
    outside: Terms = {}
    inside: Terms = {}
    for monomial, count in one.terms.items():
        whole, left = divmod(count, divisor)
        outside[monomial], inside[monomial] = whole, left
    # (x + 1) // 4 of x = h // 2 is (h + 2) // 8.
    rest = _made(inside)
    if isinstance(rest, int):
        return _made(outside)
    bottom = least(rest)
    floor: Dim = _nested(rest, divisor) or _call(
        "//", rest, divisor, None if bottom is None else bottom // divisor
    )
    return add(_made(outside), floor)


def _nested(rest: Dim, divisor: int) -> Dim | None:
    if not isinstance(rest, Expr):
        return None
    free = rest.terms.get((), 0)
    others = {m: c for m, c in rest.terms.items() if m}
    if len(others) != 1:
        return None
    (monomial, count), *_ = others.items()
    if count != 1 or len(monomial) != 1 or monomial[0].function != "//":
        return None
    numerator, under = monomial[0].operands
    if not isinstance(under, int):
        return None
    return floor_divide(add(numerator, free * under), under * divisor)


def ceil_divide(one: Dim, other: int) -> Dim | None:
    """Return the quotient rounded up, of a positive divisor."""
    return floor_divide(add(one, other - 1), other)


def smaller(one: Dim, other: Dim) -> Dim:
    """Return the minimum."""
    if is_at_least(one, other):
        return other
    if is_at_least(other, one):
        return one
    bottoms = [least(one), least(other)]
    known = None if None in bottoms else min(b for b in bottoms if b is not None)
    return _call("min", *_ordered(one, other), known)


def larger(one: Dim, other: Dim) -> Dim:
    """Return the maximum."""
    if is_at_least(one, other):
        return one
    if is_at_least(other, one):
        return other
    bottoms = [b for b in (least(one), least(other)) if b is not None]
    return _call("max", *_ordered(one, other), max(bottoms, default=None))


def broadcast(one: Dim, other: Dim) -> Dim:
    """Return the length of an axis that two tensors are stretched along, which must fit.

    With different symbols either may be 1: that length is a function of both.
    """
    if one == other or other == 1:
        return one
    if one == 1:
        return other
    for dim in (one, other):
        if isinstance(dim, int):
            return dim
    # A table cut to T rows has T rows, or the sum with a tensor of T rows is an error.
    for long, short in ((one, other), (other, one)):
        atom = short.atom if isinstance(short, Expr) else None
        if atom is not None and atom.function == "min" and long in atom.operands:
            return long
    known = [0 if (b := least(d)) is None else min(b, 1) for d in (one, other)]
    return _call("broadcast", *_ordered(one, other), max(min(known), 0))


def _ordered(one: Dim, other: Dim) -> tuple[Dim, Dim]:
    """Order the operands of a function that does not: expressions first, then by their text."""
    pair = sorted((one, other), key=lambda d: (isinstance(d, int), str(show(d))))
    return pair[0], pair[1]


def _call(function: str, one: Dim, other: Dim, bottom: int | None) -> Expr:
    if function == "//":
        text = f"{_operand(one)}//{_operand(other)}"
    else:
        text = f"{function}({_text(one)},{_text(other)})"
    return Expr({(Atom(text, bottom, function, (one, other)),): 1})


def _text(dim: Dim) -> str:
    return str(dim) if isinstance(dim, int) else dim.text


def _operand(dim: Dim) -> str:
    """Return a text that a quotient can be taken of, or by."""
    atom = dim.atom if isinstance(dim, Expr) else None
    bare = isinstance(dim, int) or (atom is not None and atom.function != "//")
    return _text(dim) if bare else f"({_text(dim)})"
