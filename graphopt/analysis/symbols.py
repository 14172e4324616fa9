"""Symbolic shapes and shape arithmetic: what a Reshape by a computed shape really does.

Exporters compute the target of every Reshape from the Shape of some tensor, with Gather, Div,
Concat and the like. A dimension keeps its symbol through that arithmetic, so that two tensors can
be known to be as long as each other whatever the input is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.dims import Expr, show
from graphopt.ir.inference import inference_of
from graphopt.ir.inference.fact import COUNTS, MOST_ELEMENTS, as_dims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph, Value
    from graphopt.ir.inference import Fact

Dim = int | str
Dims = tuple[Dim, ...]


class Symbols:
    """Symbolic shapes of all tensors of a graph, and the values of those that are shapes.

    A dimension is a number or a text: an expression of the model's symbols (``2*seq``), or, where
    it depends on data, a symbol that was made up, which begins with ``?``. Elements that were made
    up begin with ``~``: they may be negative, which a length is not. Equal texts are equal numbers.

    Args:
        graph: in topological order; inner graphs see what is around them.
    """

    def __init__(self, graph: Graph) -> None:
        self._inference = inference_of(graph)

    def shape(self, value: Value | None) -> Dims | None:
        """Return the dimensions: numbers, and symbols that mean the same length everywhere."""
        if value is None:
            return None
        dims = self._inference.fact(value).dims
        return None if dims is None else tuple(map(show, dims))

    def vector(self, value: Value | None) -> Dims | None:
        """Return the elements of an integer tensor of at most one axis, where all are known."""
        if value is None:
            return None
        fact = self._inference.fact(value)
        return self._vector(fact) if fact.computed or fact.tensor is not None else None

    def _vector(self, fact: Fact) -> Dims | None:
        if fact.dtype not in COUNTS or fact.dims is None or len(fact.dims) > 1:
            return None
        size = fact.size()
        if size is None or size > MOST_ELEMENTS:
            return None
        found = as_dims(fact.elements)
        return None if found is None else tuple(show(d) for d in found)

    def computed(self) -> Iterator[tuple[Value, Dims]]:
        """Yield every integer tensor that operators make of shapes, with its elements."""
        for value, fact in self._inference.computed():
            if value.producer is None or value.producer.op == "Constant":
                continue
            found = self._vector(fact)
            if found is not None:
                yield value, found


def learn_sizes(graph: Graph) -> None:
    """Write down the sizes that shape arithmetic tells and inference did not, in place.

    Dimensions that were not known become numbers where they are; nothing else changes.
    """
    inference = inference_of(graph)
    for value in graph.values():
        found = inference.fact(value).dims
        if found is None or value.is_input:
            continue
        known = value.shape if value.shape is not None else (None,) * len(found)
        if len(found) == len(known):
            pairs = zip(known, found, strict=True)
            value.shape = tuple(
                old if isinstance(old, int) or isinstance(new, Expr) else new for old, new in pairs
            )
