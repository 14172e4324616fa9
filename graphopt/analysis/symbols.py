"""Shapes and shape arithmetic with symbols: what a Reshape by a computed shape really does.

Exporters compute the target of every Reshape from the Shape of some tensor, with Gather, Div,
Concat and the like. onnx's inference gives each result new unknown dimensions; here a dimension
keeps its symbol through that arithmetic, so that two tensors can be known to be as long as each
other whatever the input is.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from graphopt.analysis.values import integers
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from graphopt.ir import Graph, Node, Value

Dim = int | str
Dims = tuple[Dim, ...]

_UNARY = frozenset(
    {"Abs", "BatchNormalization", "Cast", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu",
     "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization",
     "LeakyRelu", "Log", "Neg", "PRelu", "RMSNormalization", "Reciprocal", "Relu", "Sigmoid",
     "Softmax", "Softplus", "Sqrt", "Tanh"}
)  # fmt: skip
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Equal", "Greater", "Less", "And", "Or"})
_INVENTED = ("unk__", "?", "~")
"""How names of dimensions begin that inference made up: the same name is not the same length."""
_MAX_VECTOR = 64
"""Longer integer tensors are no shapes."""
_INTEGERS = frozenset({DType.INT64, DType.INT32})


def _divide(one: int, other: int) -> int | None:
    """Divide as ONNX does: towards zero."""
    if other == 0:
        return None
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) == (other < 0) else -quotient


_ARITHMETIC: dict[str, Callable[[int, int], int | None]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": _divide,
}  # fmt: skip


class Symbols:
    """Symbolic shapes of all tensors of a graph, and the values of those that are shapes.

    Args:
        graph: with types inferred, in topological order; subgraphs are not entered.
    """

    def __init__(self, graph: Graph) -> None:
        self._shapes: dict[Value, Dims | None] = {}
        self._vectors: dict[Value, tuple[Dim, ...]] = {}
        self._fresh = 0
        for node in graph.nodes():
            if node.outputs:
                self._derive(node)

    def shape(self, value: Value | None) -> Dims | None:
        """Return the dimensions: numbers, and symbols that mean the same length everywhere."""
        if value is None:
            return None
        if value not in self._shapes:
            self._shapes[value] = self._declared(value)
        return self._shapes[value]

    def vector(self, value: Value | None) -> tuple[Dim, ...] | None:
        """Return the elements of an integer tensor of at most one axis, where all are known."""
        if value is None:
            return None
        if value in self._vectors:
            return self._vectors[value]
        if value.tensor is None or value.tensor.size > _MAX_VECTOR or len(value.tensor.shape) > 1:
            return None
        given = integers(value)
        return None if given is None else tuple(given)

    def computed(self) -> Iterator[tuple[Value, tuple[Dim, ...]]]:
        """Yield every integer tensor that operators make of shapes, with its elements."""
        yield from self._vectors.items()

    def _declared(self, value: Value) -> Dims | None:
        if value.tensor is not None:
            return tuple(value.tensor.shape)
        if value.shape is None:
            return None
        known = [d if isinstance(d, int) else d or "?" for d in value.shape]
        return tuple(
            self._new() if isinstance(d, str) and d.startswith(_INVENTED) else d for d in known
        )

    def _new(self, mark: str = "?") -> str:
        self._fresh += 1
        return f"{mark}{self._fresh}"

    # -- shapes ----------------------------------------------------------------------------

    def _derive(self, node: Node) -> None:
        if node.domain:
            return
        made = self._output(node)
        if made is not None:
            declared = self._declared(node.outputs[0])
            if declared is not None and len(declared) == len(made):
                made = tuple(
                    d if isinstance(d, int) else m for m, d in zip(made, declared, strict=True)
                )
            self._shapes[node.outputs[0]] = made
        found = self._evaluated(node)
        if found is not None and len(found) <= _MAX_VECTOR:
            self._vectors[node.outputs[0]] = found

    def _output(self, node: Node) -> Dims | None:
        shapes = [self.shape(v) for v in node.inputs]
        first = shapes[0] if shapes else None
        if first is None:
            return None
        if node.op in _UNARY:
            return first
        if node.op in _BINARY and len(shapes) == 2:
            return self._broadcast(first, shapes[1])
        rule: Callable[[Node, Dims], Dims | None] | None = {
            "Reshape": self._reshape, "Transpose": _transpose, "Unsqueeze": self._unsqueeze,
            "Slice": self._slice, "MatMul": self._matmul, "Expand": self._expand,
            "Concat": self._concat, "ReduceMean": self._reduce, "Gather": self._gather,
            "Attention": self._attention, "Shape": _rank,
        }.get(node.op)  # fmt: skip
        return rule(node, first) if rule is not None else None

    def _broadcast(self, one: Dims, other: Dims | None) -> Dims | None:
        if other is None:
            return None
        rank = max(len(one), len(other))
        one, other = ((*[1] * (rank - len(s)), *s) for s in (one, other))
        return tuple(self._joined(a, b) for a, b in zip(one, other, strict=True))

    def _joined(self, one: Dim, other: Dim) -> Dim:
        if one == other or other == 1:
            return one
        if one == 1:
            return other
        numbers = [d for d in (one, other) if isinstance(d, int)]
        if numbers:
            return numbers[0]
        # A table cut to T rows has T rows, or the sum with a tensor of T rows is an error.
        for long, short in ((one, other), (other, one)):
            if isinstance(short, str) and short.startswith(f"min({long},"):
                return long
        return self._new()

    def _reshape(self, node: Node, source: Dims) -> Dims | None:
        target = self._input(node, 1)
        if target is None or node.attribute("allowzero", 0):
            return None
        if any(d == 0 and i >= len(source) for i, d in enumerate(target)):
            return None
        made = [source[i] if d == 0 else d for i, d in enumerate(target)]
        if -1 in made:
            at = made.index(-1)
            made[at] = self._rest(source, [*made[:at], *made[at + 1 :]])
        return tuple(made)

    def _rest(self, source: Sequence[Dim], others: Sequence[Dim]) -> Dim:
        """Return the dimension that is left for -1."""
        symbols = [d for d in source if isinstance(d, str)]
        for dim in others:
            if isinstance(dim, str):
                if dim not in symbols:
                    return self._new()
                symbols.remove(dim)
        over = math.prod(d for d in source if isinstance(d, int))
        under = math.prod(d for d in others if isinstance(d, int))
        if not symbols:
            return over // under if under else 0
        return symbols[0] if len(symbols) == 1 and over == under else self._new()

    def _unsqueeze(self, node: Node, source: Dims) -> Dims | None:
        axes = _numbers(self._axes(node))
        if axes is None:
            return None
        made = list(source)
        rank = len(source) + len(axes)
        for axis in sorted(a % rank for a in axes):
            made.insert(axis, 1)
        return tuple(made)

    def _slice(self, node: Node, source: Dims) -> Dims | None:
        starts, ends = self._input(node, 1), self._input(node, 2)
        axes = _numbers(self._input(node, 3))
        steps = self._input(node, 4) if len(node.inputs) > 4 else (1,) * len(starts or ())
        if starts is None or ends is None or axes is None or steps is None:
            return None
        if not len(starts) == len(ends) == len(axes) == len(steps):
            return None
        made = list(source)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            at = axis % len(source)
            made[at] = self._cut(made[at], start, end, step)
        return tuple(made)

    def _cut(self, size: Dim, start: Dim, end: Dim, step: Dim) -> Dim:
        if step and all(isinstance(d, int) for d in (size, start, end, step)):
            return len(range(*slice(int(start), int(end), int(step)).indices(int(size))))
        if start == 0 and step == 1 and isinstance(end, str):
            return size if size == end else f"min({end},{size})"
        return self._new()

    def _matmul(self, node: Node, source: Dims) -> Dims | None:
        other = self.shape(node.inputs[1])
        if other is None or len(source) < 2 or len(other) < 2:
            return None
        outer = self._broadcast(source[:-2], other[:-2])
        return None if outer is None else (*outer, source[-2], other[-1])

    def _expand(self, node: Node, source: Dims) -> Dims | None:
        target = self.vector(node.inputs[1])
        return None if target is None else self._broadcast(source, target)

    def _concat(self, node: Node, source: Dims) -> Dims | None:
        shapes = [self.shape(v) for v in node.inputs]
        axis = int(node.attribute("axis", 0)) % max(len(source), 1)
        sizes = [s[axis] for s in shapes if s is not None and len(s) == len(source)]
        if len(sizes) != len(shapes) or not source:
            return None
        known = all(isinstance(d, int) for d in sizes)
        total = sum(int(d) for d in sizes) if known else self._new()
        return (*source[:axis], total, *source[axis + 1 :])

    def _reduce(self, node: Node, source: Dims) -> Dims | None:
        axes = _numbers(self._axes(node))
        if not axes or not node.attribute("keepdims", 1):
            return None
        reduced = {a % len(source) for a in axes}
        return tuple(1 if i in reduced else d for i, d in enumerate(source))

    def _gather(self, node: Node, source: Dims) -> Dims | None:
        index = self.shape(node.inputs[1])
        axis = int(node.attribute("axis", 0)) % max(len(source), 1)
        return None if index is None else (*source[:axis], *index, *source[axis + 1 :])

    def _attention(self, node: Node, source: Dims) -> Dims | None:
        values = self.shape(node.inputs[2])
        if values is None or len(values) != len(source):
            return None
        groups, heads = (node.attribute(f"{side}_num_heads", 1) for side in ("kv", "q"))
        size = values[-1]
        if len(source) == 3:
            size = size // groups * heads if isinstance(size, int) else self._new()
        return (*source[:-1], size)

    # -- shape arithmetic ------------------------------------------------------------------

    def _input(self, node: Node, index: int) -> tuple[Dim, ...] | None:
        return self.vector(node.inputs[index]) if len(node.inputs) > index else None

    def _axes(self, node: Node) -> Sequence[Dim] | None:
        return self._input(node, 1) if len(node.inputs) > 1 else node.attribute("axes")

    def _evaluated(self, node: Node) -> tuple[Dim, ...] | None:
        if node.op == "Shape":
            dims = self.shape(node.inputs[0])
            return None if dims is None else tuple(dims[i] for i in _window(node, dims))
        rule: Callable[[Node], tuple[Dim, ...] | None] | None = {
            "Concat": self._together, "Where": self._chosen, "Slice": self._part,
            "Gather": self._picked, **dict.fromkeys(_ARITHMETIC, self._calculated),
        }.get(node.op)  # fmt: skip
        if rule is not None:
            return rule(node)
        if node.op == "Cast" and node.attribute("to") not in _INTEGERS:
            return None
        return self._input(node, 0) if self._keeps_elements(node) else None

    def _keeps_elements(self, node: Node) -> bool:
        """Whether the elements of the input are those of a result of at most one axis."""
        if node.op in {"Cast", "Identity", "Squeeze"}:
            return True
        shape = self.shape(node.outputs[0])
        return node.op in {"Unsqueeze", "Reshape"} and shape is not None and len(shape) < 2

    def _together(self, node: Node) -> tuple[Dim, ...] | None:
        parts = [self.vector(v) for v in node.inputs]
        if any(p is None for p in parts):
            return None
        return tuple(d for part in parts for d in part or ())

    def _part(self, node: Node) -> tuple[Dim, ...] | None:
        source = self._input(node, 0)
        given = [_numbers(self._input(node, i)) for i in (1, 2)]
        given += [_numbers(self._input(node, 4))] if len(node.inputs) > 4 else [[1]]
        if source is None or any(g is None or len(g) != 1 for g in given):
            return None
        start, stop, step = (g[0] for g in given if g is not None)
        return source[start:stop:step] if step else None

    def _picked(self, node: Node) -> tuple[Dim, ...] | None:
        source, index = self._input(node, 0), _numbers(self._input(node, 1))
        if source is None or index is None or node.attribute("axis", 0) != 0:
            return None
        places = [i for i in index if -len(source) <= i < len(source)]
        return tuple(source[i] for i in places) if len(places) == len(index) else None

    def _calculated(self, node: Node) -> tuple[Dim, ...] | None:
        sides = [self._input(node, 0), self._input(node, 1)]
        longest = max((len(s) for s in sides if s is not None), default=0)
        wide = [s * longest if s is not None and len(s) == 1 else s for s in sides]
        if any(s is None or len(s) != longest for s in wide):
            return None
        pairs = zip(*(s or () for s in wide), strict=True)
        return tuple(self._combine(_ARITHMETIC[node.op], one, other) for one, other in pairs)

    def _combine(self, rule: Callable[[int, int], int | None], one: Dim, other: Dim) -> Dim:
        known = rule(one, other) if isinstance(one, int) and isinstance(other, int) else None
        # What is computed from a length may be negative, which a length is not.
        return self._new("~") if known is None else known

    def _chosen(self, node: Node) -> tuple[Dim, ...] | None:
        """Evaluate Where(Equal(x, y), a, b), as exporters guard the -1 of Expand."""
        test = node.inputs[0].producer if node.inputs[0] is not None else None
        if test is None or test.op != "Equal" or test.domain or len(node.inputs) != 3:
            return None
        sides = [self.vector(v) for v in (*test.inputs, *node.inputs[1:])]
        longest = max((len(s) for s in sides if s is not None), default=0)
        wide = [s * longest if s is not None and len(s) == 1 else s for s in sides]
        if any(s is None or len(s) != longest for s in wide):
            return None
        chosen: list[Dim] = []
        for x, y, one, other in zip(*(s or () for s in wide), strict=True):
            same = _equal(x, y)
            if same is None:
                return None
            chosen.append(one if same else other)
        return tuple(chosen)


def learn_sizes(graph: Graph) -> None:
    """Write down the sizes that shape arithmetic tells and inference did not, in place.

    Dimensions that were not known become numbers where they are; nothing else changes.
    """
    symbols = Symbols(graph)
    for value in graph.values():
        found = symbols.shape(value)
        if found is None or value.is_input:
            continue
        known = value.shape if value.shape is not None else (None,) * len(found)
        if len(found) == len(known):
            pairs = zip(known, found, strict=True)
            value.shape = tuple(new if isinstance(new, int) else old for old, new in pairs)


def _equal(one: Dim, other: Dim) -> bool | None:
    """Whether two lengths are the same; None when that depends on the input."""
    if one == other:
        return True
    numbers = [d for d in (one, other) if isinstance(d, int)]
    if len(numbers) == 2:
        return False
    symbols = [d for d in (one, other) if isinstance(d, str)]
    computed = any(s.startswith("~") for s in symbols)
    # A length is never negative.
    return False if any(n < 0 for n in numbers) and not computed else None


def _numbers(elements: Sequence[Dim] | None) -> list[int] | None:
    """Return elements that are all numbers."""
    found = [d for d in elements or () if isinstance(d, int)]
    return found if elements is not None and len(found) == len(elements) else None


def _window(node: Node, dims: Dims) -> range:
    """Return the axes that a Shape takes."""
    return range(len(dims))[node.attribute("start", 0) : node.attribute("end", len(dims))]


def _rank(node: Node, source: Dims) -> Dims:
    return (len(_window(node, source)),)


def _transpose(node: Node, source: Dims) -> Dims | None:
    order = node.attribute("perm") or list(range(len(source)))[::-1]
    return tuple(source[axis] for axis in order) if len(order) == len(source) else None
