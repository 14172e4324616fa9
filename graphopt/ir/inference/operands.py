"""What a shape rule sees of a node, and where rules are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.ir.inference.fact import UNKNOWN, as_dims, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.fact import Dims, Elements, Fact
    from graphopt.ir.node import Node
    from graphopt.types import DType

    Result = tuple[DType | None, Sequence[Dim | None] | None]
    """Element type and dimensions of one output; None for what is not known."""

    Rule = Callable[["Operands"], Sequence[Result] | None]

RULES: dict[tuple[str, str], Rule] = {}
MICROSOFT = "com.microsoft"


def rule(*ops: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Return a decorator that makes a function the rule of some operators."""

    def keep(function: Rule) -> Rule:
        for op in ops:
            RULES[domain, op] = function
        return function

    return keep


class Operands:
    """The operands of one node, by position."""

    __slots__ = ("facts", "is_length", "node", "opset")

    def __init__(
        self,
        node: Node,
        facts: Sequence[Fact | None],
        opset: int,
        is_length: Callable[[Dim], bool] = lambda _: False,
    ) -> None:
        self.node = node
        self.facts = facts
        self.opset = opset
        self.is_length = is_length

    def has(self, index: int) -> bool:
        """Whether the operand is there."""
        return index < len(self.facts) and self.facts[index] is not None

    def fact(self, index: int) -> Fact:
        """Return what is known of an operand; of one that is missing nothing is."""
        found = self.facts[index] if index < len(self.facts) else None
        return UNKNOWN if found is None else found

    def dims(self, index: int) -> Dims | None:
        """Return the dimensions of an operand."""
        return self.fact(index).dims

    def dtype(self, index: int) -> DType | None:
        """Return the element type of an operand."""
        return self.fact(index).dtype

    def elements(self, index: int) -> Elements | None:
        """Return what an operand holds, where that is followed."""
        return self.fact(index).elements

    def sizes(self, index: int) -> list[Dim] | None:
        """Return an operand of few whole numbers, flat."""
        return as_dims(self.elements(index))

    def numbers(self, index: int) -> list[int] | None:
        """Return an operand whose whole numbers are all known, flat."""
        return numbers(self.elements(index))

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the node."""
        return self.node.attribute(name, default)

    def listed(self, name: str, index: int) -> tuple[bool, list[int] | None]:
        """Return what older operator sets keep in an attribute and newer ones in an operand.

        First, whether it is given at all; second, the numbers, where they are known.
        """
        if self.has(index):
            return True, self.numbers(index)
        found = self.attribute(name)
        return found is not None, found


def arguments(node: Node, *names: str) -> Mapping[str, Any]:
    """Return the attributes of those names that the node has."""
    return {n: node.attribute(n) for n in names if n in node.attribute_names}
