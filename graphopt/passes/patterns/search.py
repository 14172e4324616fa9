"""What the search of a pattern has found so far, and what stopped it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.analysis import scalar
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from graphopt.ir import Graph, Node, Value

_ROUNDOFF = {DType.FLOAT: 1e-6, DType.DOUBLE: 1e-7, DType.FLOAT16: 2**-11, DType.BFLOAT16: 2**-8}
"""How far a constant may be from the number it stands for, relative; integers are exact.

float32 and double leave room for numbers that were written down with seven or eight digits.
"""


@dataclass
class Trace:
    """How far the search at one operator got, and why no further."""

    depth: int = 0
    text: str = "it is another operator"
    about: tuple[object, ...] = ()

    @property
    def told(self) -> str:
        """What stopped the search, as a sentence."""
        about = (" or ".join(sorted(a)) if isinstance(a, frozenset) else a for a in self.about)
        return self.text.format(*about)


@dataclass(frozen=True)
class State:
    """What a pattern has bound so far: values by name, and the operators that it covers."""

    graph: Graph
    trace: Trace = field(default_factory=Trace)
    values: Mapping[str, Value] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()

    def miss(self, text: str, *about: object) -> None:
        """Note why the search ends here; the furthest one is what is told."""
        if len(self.nodes) > self.trace.depth:
            self.trace.depth, self.trace.text, self.trace.about = len(self.nodes), text, about

    def bind(self, name: str, value: Value) -> Iterator[State]:
        """Yield the state in which ``name`` is ``value``; nothing when it is another one."""
        bound = self.values.get(name)
        if not name or bound is value:
            yield self
        elif bound is None:
            yield State(self.graph, self.trace, {**self.values, name: value}, self.nodes)
        else:
            self.miss("`{}` would be both `{}` and `{}`", name, bound.name, value.name)

    def maker(self, value: Value | None, ops: Collection[str], domain: str = "") -> Node | None:
        """Return the operator of this level that makes ``value`` if it is one of ``ops``."""
        node = value.producer if value is not None else None
        if node is None or node.graph is not self.graph or node.outputs[0] is not value:
            self.miss("`{}` is not made by {}", value.name if value is not None else "", ops)
        elif node.domain != domain or node.op not in ops:
            self.miss("`{}` is made by {}, not by {}", node.outputs[0].name, node.op, ops)
        else:
            return node
        return None

    def enter(self, node: Node) -> State:
        """Return the state that covers ``node`` too."""
        if node in self.nodes:
            return self
        return State(self.graph, self.trace, self.values, (*self.nodes, node))


def number_in(value: Value | None, node: Node) -> float | None:
    """Return the number of a constant of one element, an operand of ``node``.

    None where it has more axes than the other operands, which the result would then have too.
    """
    if value is None or value.tensor is None:
        return None
    ranks = [len(v.shape) for v in node.inputs if v is not None and v is not value and v.shape]
    return scalar(value) if len(value.tensor.shape) <= max(ranks, default=0) else None


def roundoff(value: Value) -> float:
    """Return the relative error that a constant of this type may have; 0 for integers."""
    return _ROUNDOFF.get(value.dtype, 0.0) if value.dtype is not None else 0.0


def is_near(number: float, wanted: float, error: float) -> bool:
    """Whether a number is the wanted one up to a relative error; False for NaN."""
    return number == wanted or abs(number - wanted) <= error * abs(wanted)
