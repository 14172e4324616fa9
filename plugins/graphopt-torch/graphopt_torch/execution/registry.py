"""The table of operators: how each, in each version of its operator set, is computed by torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from graphopt.ir import Node

Kernel = Callable[..., Any]
"""Takes a node's inputs by position, None where one is omitted; returns a tensor or a tuple."""

Builder = Callable[["Node", int], Kernel]
"""Makes the kernel of a node in a version of the operator set: attributes are read only once."""

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Operator:
    """One row of the table.

    Args:
        build: makes the kernel of a node.
        lists: positions of inputs whose values decide about shapes; the kernel gets them as Python
            numbers and lists of numbers.
        irregular: the shape of what is made depends on values.
        refuse: says why a node cannot be executed although its operator is listed; or None.
    """

    build: Builder
    lists: frozenset[int] = frozenset()
    irregular: bool = False
    refuse: Callable[[Node, int], str | None] | None = None


_table: dict[tuple[str, str], dict[int, Operator]] = {}


def operator(
    *names: str,
    since: int = 1,
    domain: str = "",
    lists: Iterable[int] = (),
    irregular: bool = False,
    refuse: Callable[[Node, int], str | None] | None = None,
) -> Callable[[Builder], Builder]:
    """List a builder under the names of its operators, from a version of the set on."""

    def add(build: Builder) -> Builder:
        row = Operator(build, frozenset(lists), irregular, refuse)
        for name in names:
            _table.setdefault((domain, name), {})[since] = row
        return build

    return add


def plain(kernels: Mapping[str, Kernel], *, since: int = 1, domain: str = "") -> None:
    """List operators that are one function of their inputs, without attributes."""
    for name, kernel in kernels.items():
        _table.setdefault((domain, name), {})[since] = Operator(_always(kernel))


def _always(kernel: Kernel) -> Builder:
    return lambda _node, _version: kernel


def find(domain: str, name: str, version: int) -> Operator | None:
    """Return the row that holds in a version of the operator set, or None."""
    rows = _table.get((domain, name), {})
    known = [since for since in rows if since <= version]
    return rows[max(known)] if known else None


def names() -> tuple[tuple[str, str], ...]:
    """Return domain and name of every operator that is listed, sorted."""
    return tuple(sorted(_table))
