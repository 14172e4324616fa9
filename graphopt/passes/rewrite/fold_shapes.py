"""Compute sizes at compile time wherever they do not depend on a symbolic dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis.symbols import Symbols
from graphopt.passes.base import PassResult, counted
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_COPIED, _LEFT_OVER = 0, -1
_KINDS = {DType.INT64: np.int64, DType.INT32: np.int32, DType.BOOL: np.bool_}
_SOURCES = ("Shape", "Reshape")


@dataclass(frozen=True)
class FoldShapes:
    """Replace sizes that are known, and shapes of Reshape that are known but for one dimension.

    A symbolic batch makes exporters compute shapes at every inference, although only the batch is
    open. A Reshape to [N, -1] copies N (a 0 in its shape) or leaves it over (-1).
    """

    name: ClassVar[str] = "fold-shapes"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fold until nothing new is known: a size that is found may tell further shapes."""
        folded = fixed = 0
        shaped = any(n.domain == "" and n.op in _SOURCES for n in graph.nodes())
        while shaped:
            ir.infer_shapes(graph)
            symbols = Symbols(graph)
            step = [_fix(graph, n, symbols) for n in graph.nodes("Reshape")]
            found = sum(_store(graph, value, sizes) for value, sizes in symbols.computed())
            if not found and not any(step):
                break
            folded, fixed = folded + found, fixed + sum(step)
        notes = []
        if folded:
            notes.append(counted(folded, "size", "computed"))
        if fixed:
            notes.append(counted(fixed, "shape", "of Reshape fixed"))
        return PassResult(bool(notes), tuple(notes), {"sizes": folded, "shapes": fixed})


def _store(graph: Graph, value: Value, sizes: Dims) -> bool:
    """Let a constant take the place of a size that is wholly known."""
    rank = len(value.shape) if value.shape is not None else None
    if value.is_output or rank not in {0, 1} or not value.uses or value.dtype not in _KINDS:
        return False
    if not all(isinstance(s, int) for s in sizes) or (rank == 0 and len(sizes) != 1):
        return False
    array: np.ndarray[Any, Any] = np.array(sizes, dtype=_KINDS[value.dtype])
    array = array.reshape([-1] * (rank or 0))
    graph.replace_uses(
        value, graph.add_constant(f"{value.name}_known", ir.Tensor.from_array(array))
    )
    producer = value.producer
    if producer is not None and not any(v.uses or v.is_output for v in producer.outputs):
        graph.remove(producer)
    return True


def _fix(graph: Graph, node: Node, symbols: Symbols) -> bool:
    """Give a Reshape a constant shape; return whether it had none and one is known."""
    wanted = node.inputs[1] if len(node.inputs) > 1 else None
    if node.domain or wanted is None or wanted.is_constant or wanted.is_input:
        return False
    shape = _constant_shape(node, symbols)
    if shape is None:
        return False
    name = f"{node.label}_shape"
    node.set_input(1, graph.add_constant(name, np.array(shape, dtype=np.int64)))
    node.set_attribute("allowzero", None)
    return True


def _constant_shape(node: Node, symbols: Symbols) -> list[int] | None:
    """Return the shape with 0 where a dimension is copied; None with two that are open."""
    source = symbols.shape(node.inputs[0])
    sizes = symbols.vector(node.inputs[1])
    if sizes is None:
        # Inference follows a few operators that symbols do not.
        sizes = symbols.shape(node.outputs[0])
    if source is None or sizes is None:
        return None
    if any(s == 0 for s in sizes):
        # It may mean a copied dimension, or, with allowzero, an empty one.
        return None
    shape: list[int] = []
    for axis, size in enumerate(sizes):
        if isinstance(size, int):
            shape.append(size)
            continue
        same = axis < len(source) and size == source[axis]
        shape.append(_COPIED if same else _LEFT_OVER)
    if shape.count(_LEFT_OVER) > 1:
        return None
    # Beside a copied size of 0 nothing says what -1 is, where the computed shape did.
    guessed = _LEFT_OVER in shape and _LEFT_OVER not in sizes
    return None if guessed and _COPIED in shape else shape
