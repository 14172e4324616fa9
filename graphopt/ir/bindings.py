"""What a size is where its symbols have numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.dims import (
    Atom,
    Dim,
    Expr,
    add,
    broadcast,
    floor_divide,
    larger,
    multiply,
    product,
    smaller,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FUNCTIONS: Mapping[str, Callable[[int, int], int]] = {
    "//": lambda a, b: a // b,
    "min": min,
    "max": max,
    "broadcast": lambda a, b: b if a == 1 else a,
}
_SYMBOLIC: Mapping[str, Callable[[Dim, Dim], Dim | None]] = {
    "//": floor_divide,
    "min": smaller,
    "max": larger,
    "broadcast": broadcast,
}


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int | None:
    """Return the number that a size is where symbols have the given ones; None: one is missing."""
    if isinstance(dim, int):
        return dim
    found = substitute(dim, sizes)
    return found if isinstance(found, int) else None


def substitute(dim: Dim, sizes: Mapping[str, int]) -> Dim:
    """Put numbers in the place of symbols."""
    if isinstance(dim, int):
        return dim
    made: Dim = 0
    for monomial, count in dim.terms.items():
        made = add(made, multiply(count, product(_replaced(a, sizes) for a in monomial)))
    return made


def _replaced(atom: Atom, sizes: Mapping[str, int]) -> Dim:
    if not atom.function:
        found = sizes.get(atom.name)
        return Expr({(atom,): 1}) if found is None else found
    one, other = (substitute(d, sizes) for d in atom.operands)
    if isinstance(one, int) and isinstance(other, int) and (other or atom.function != "//"):
        return _FUNCTIONS[atom.function](one, other)
    made = _SYMBOLIC[atom.function](one, other)
    return Expr({(atom,): 1}) if made is None else made


def symbols_of(dim: Dim) -> frozenset[str]:
    """Return the names of all symbols of a size."""
    if isinstance(dim, int):
        return frozenset()
    found: set[str] = set()
    for monomial in dim.terms:
        for atom in monomial:
            found |= {atom.name} if not atom.function else set()
            for operand in atom.operands:
                found |= symbols_of(operand)
    return frozenset(found)
