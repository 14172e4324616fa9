"""Multiply by one constant instead of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.analysis import only_consumer
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import replace_constant
from graphopt.passes.patterns.matching import made_by
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_TYPES = frozenset({DType.FLOAT, DType.DOUBLE})
_LEAST, _MOST = 2.0**-20, 2.0**20


@dataclass(frozen=True)
class JoinScales:
    """Turn x * a * b into x * (a * b) for constants a and b that broadcast into each other.

    The constants are float32 or float64 between 2^-20 and 2^20, so that only numbers next to the
    end of the range, which they would have left on the way, come out otherwise. Where it rounded
    twice it rounds once, and once in a * b: a relative difference of at most 2^-23 in float32.
    """

    name: ClassVar[str] = "join-scales"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Join each Mul with the one before it that nothing else reads, in order."""
        joined = sum(_join(graph, node) for node in graph.nodes("Mul") if not node.domain)
        if not joined:
            return PassResult(False)
        return PassResult(True, (counted(joined, "pair", "of scales joined"),), {"nodes": joined})


def _join(graph: Graph, node: Node) -> bool:
    place = _scale(node)
    if place is None:
        return False
    before = made_by(node.inputs[1 - place], "Mul")
    first = _scale(before) if before is not None else None
    if before is None or first is None or only_consumer(before.outputs[0]) is not node:
        return False
    factors = [_values(before, first), _values(node, place)]
    product = factors[0].astype(np.float64) * factors[1]
    if product.size > max(f.size for f in factors) or factors[0].dtype != factors[1].dtype:
        return False
    source = before.inputs[1 - first]
    replace_constant(graph, node, place, product, "joined")
    node.set_input(1 - place, source)
    graph.remove(before)
    return True


def _scale(node: Node) -> int | None:
    """Return which operand is a constant that scales in moderation."""
    found = [i for i, v in enumerate(node.inputs) if v is not None and v.is_constant]
    constant = node.inputs[found[0]] if len(found) == 1 else None
    if constant is None or constant.dtype not in _TYPES or not constant.array().size:
        return None
    sizes = np.abs(constant.array())
    return found[0] if bool(((sizes >= _LEAST) & (sizes <= _MOST)).all()) else None


def _values(node: Node, place: int) -> Array:
    value = node.inputs[place]
    assert value is not None
    return value.array()
