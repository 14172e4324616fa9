"""Change the shape once instead of twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import integers, only_consumer
from graphopt.analysis.symbols import Symbols
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.bypass import bypass, drop_unread
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
_AXES_AS_INPUT = 13
_COPIED, _LEFT_OVER = 0, -1


@dataclass(frozen=True)
class JoinReshapes:
    """Join chains of Reshape, Flatten, Squeeze and Unsqueeze into one, or none.

    A 0 in the shape of a Reshape copies a dimension of its input, so it is kept only where the
    first input has the same dimension there; -1 is what is left over in either case. Where a
    Squeeze or Unsqueeze ends a chain, the result must be known but for one dimension. Two
    Unsqueezes of a mask stay: runtimes know attention by them.
    """

    name: ClassVar[str] = "join-reshapes"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Look through the operator before each, in order, so that long chains collapse."""
        chained = [n for n in graph.nodes(*_RESHAPING) if _before(n) is not None]
        if not chained or graph.opset < _AXES_AS_INPUT:
            return PassResult(False)
        ir.infer_shapes(graph)
        symbols = Symbols(graph)
        joined = 0
        for node in chained:
            while _join(graph, node, symbols):
                joined += 1
        if not joined:
            return PassResult(False)
        graph.sort()
        return PassResult(True, (counted(joined, "reshape", "joined"),), {"reshapes": joined})


def _before(node: Node) -> Node | None:
    """Return the operator of these kinds whose result is reshaped again."""
    if node.domain or not node.inputs or node.op not in _RESHAPING:
        return None
    return made_by(node.inputs[0], *_RESHAPING)


def _join(graph: Graph, node: Node, symbols: Symbols) -> bool:
    """Look through the operator before a node, which goes unless others read it."""
    before = _before(node)
    joined = before is not None and _skip(graph, node, before, symbols)
    if joined and before is not None:
        drop_unread(graph, before)
    return joined


def _skip(graph: Graph, node: Node, before: Node, symbols: Symbols) -> bool:
    source = before.inputs[0]
    if source is None:
        return False
    if _is_unchanged(symbols.shape(source), symbols.shape(node.outputs[0]), before, node):
        return bypass(graph, node, source)
    if node.op == "Reshape":
        return _reread(graph, node, source, symbols)
    if only_consumer(before.outputs[0]) is None:
        return False
    if node.op == before.op == "Unsqueeze":
        return _unsqueeze_once(graph, node, before)
    return _reshape_once(graph, node, source, symbols)


# -- nothing -------------------------------------------------------------------------------


def _is_unchanged(source: Dims | None, made: Dims | None, before: Node, node: Node) -> bool:
    """Whether the result has the shape of what came in, or one operator undoes the other."""
    if source is not None and source == made:
        return True
    if {before.op, node.op} != {"Squeeze", "Unsqueeze"} or before.op == "Squeeze":
        return False
    # Squeeze of Unsqueeze along the same axes; the other way round checks that they are of size 1.
    axes = [integers(n.inputs[1]) if len(n.inputs) > 1 else None for n in (before, node)]
    return axes[0] is not None and axes[0] == axes[1]


# -- one -----------------------------------------------------------------------------------


def _reread(graph: Graph, node: Node, source: Value, symbols: Symbols) -> bool:
    """Let a Reshape read what was reshaped before, if its shape means the same there."""
    between = node.inputs[0]
    target = symbols.vector(node.inputs[1])
    if node.attribute("allowzero", 0):
        node.set_input(0, source)
        return True
    if target is None or between is None:
        return False
    shape = _resolved(target, symbols.shape(between), symbols.shape(source))
    if shape is None:
        return False
    given = integers(node.inputs[1])
    if given is None and list(shape) != list(target):
        return False
    if given is not None and given != list(shape):
        name = f"{node.label}_shape"
        node.set_input(1, graph.add_constant(name, np.array(shape, dtype=np.int64)))
    node.set_input(0, source)
    return True


def _resolved(target: Dims, between: Dims | None, source: Dims | None) -> Dims | None:
    """Return the shape with each 0 that would copy another dimension of ``source`` as a number.

    None where that dimension is open. An element that is open is 0 itself when the dimension is
    empty, and must then copy the same.
    """
    shape: list[int | str] = []
    for axis, size in enumerate(target):
        copied = source[axis] if source is not None and axis < len(source) else None
        if isinstance(size, str):
            if size != copied:
                return None
            shape.append(size)
            continue
        if size != _COPIED:
            shape.append(size)
            continue
        own = between[axis] if between is not None and axis < len(between) else None
        if own is not None and own == copied:
            shape.append(_COPIED)
        elif isinstance(own, int) and own > 0:
            shape.append(own)
        else:
            return None
    return tuple(shape)


def _unsqueeze_once(graph: Graph, node: Node, before: Node) -> bool:
    """Add all axes at once, numbered as in the result."""
    axes = [integers(n.inputs[1]) for n in (before, node)]
    shape = node.outputs[0].shape
    if axes[0] is None or axes[1] is None or shape is None or _is_mask(node):
        return False
    last = [axis % len(shape) for axis in axes[1]]
    places = [axis for axis in range(len(shape)) if axis not in last]
    joint = sorted([*last, *(places[axis % len(places)] for axis in axes[0])])
    node.set_input(0, before.inputs[0])
    name = f"{node.label}_axes"
    node.set_input(1, graph.add_constant(name, np.array(joint, dtype=np.int64)))
    return True


def _is_mask(node: Node) -> bool:
    """Whether a few operators lead from here to what is added before a Softmax."""
    reached = [node.outputs[0]]
    for _ in range(5):
        readers = [n for v in reached for n in v.consumers]
        if any(n.op == "Softmax" for n in readers):
            return True
        reached = [n.outputs[0] for n in readers[:8] if n.outputs]
    return False


def _reshape_once(graph: Graph, node: Node, source: Value, symbols: Symbols) -> bool:
    """Write one Reshape to the result, if at most one dimension of it is open."""
    shape = _constant_shape(symbols.shape(source), symbols.shape(node.outputs[0]))
    if shape is None:
        return False
    name = f"{node.label}_shape"
    node.op = "Reshape"
    node.set_attribute("axis", None)
    node.set_inputs([source, graph.add_constant(name, np.array(shape, dtype=np.int64))])
    return True


def _constant_shape(source: Dims | None, made: Dims | None) -> list[int] | None:
    """Return what a Reshape is told to make ``made``, whatever the open dimensions are, even 0."""
    if source is None or made is None or 0 in made:
        return None
    shape = []
    for axis, size in enumerate(made):
        same = axis < len(source) and size == source[axis]
        shape.append(size if isinstance(size, int) else _COPIED if same else _LEFT_OVER)
    # Beside a copied size of 0 nothing says what -1 is.
    left_over = shape.count(_LEFT_OVER)
    return shape if left_over == 0 or (left_over == 1 and _COPIED not in shape) else None
