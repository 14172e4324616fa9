"""Remove arithmetic that changes nothing, and join what is done twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import only_consumer, scalar
from graphopt.passes.base import PassResult
from graphopt.passes.patterns.building import remove_unread
from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.bypass import bypass
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_NEUTRAL: dict[str, tuple[float, bool]] = {
    "Add": (0, True), "Sub": (0, False), "Mul": (1, True), "Div": (1, False), "Pow": (1, False),
    "And": (1, True), "Or": (0, True), "BitwiseOr": (0, True), "Xor": (0, True),
}  # fmt: skip
"""The number that changes nothing, and whether it may come first."""
_TWICE_IS_ONCE = frozenset({"Abs", "Ceil", "Floor", "Relu", "Round", "Sign"})
_TWICE_IS_NOTHING = frozenset({"BitwiseNot", "Neg", "Not"})
_WITH_ITSELF = frozenset({"And", "Max", "Min", "Or"})
_CLIP_INPUTS_SINCE = 11
_FLOATS = frozenset({DType.FLOAT, DType.FLOAT16, DType.DOUBLE})


@dataclass(frozen=True)
class SimplifyArithmetic:
    """Bypass x + 0, x * 1, x / 1, x ** 1, double negations, Relu of Relu and a known Where.

    Clip of Clip becomes one Clip, and so does Relu before or after one. All of it is exact, but for
    the sign of a zero: -0 + 0 is 0. Constants that would add axes to the result, or stretch one,
    are no neutral elements.
    """

    name: ClassVar[str] = "simplify-arithmetic"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Look at each operator once, in order: chains shrink from their beginning."""
        found = [n for n in graph.nodes(*_RULES) if not n.domain]
        if any(_needs_shapes(n) for n in found):
            ir.infer_shapes(graph)
        changed: Counter[str] = Counter()
        for node in found:
            op = node.op
            source = _RULES[op](node)
            if source is not None and bypass(graph, node, source):
                changed[op] += 1
        if not changed:
            return PassResult(False)
        remove_unread(graph)
        parts = ", ".join(f"{count} {op}" for op, count in sorted(changed.items()))
        return PassResult(True, (f"{parts} saved",), {"nodes": sum(changed.values())})


def _needs_shapes(node: Node) -> bool:
    """Whether it depends on a shape that is not known if an operand changes nothing."""
    given = [v for v in node.inputs if v is not None]
    if not any(v.is_constant for v in given) and node.op != "Where":
        return False
    return any(v.shape is None or v.dtype is None for v in given)


# -- neutral elements ----------------------------------------------------------------------


def _without_neutral(node: Node) -> Value | None:
    """Return the operand that the other one leaves as it is."""
    if len(node.inputs) != 2:
        return None
    one, other = node.inputs
    number, commutes = _NEUTRAL[node.op]
    if _is_filled(other, number) and _keeps_shape(one, [other], node):
        return one
    if commutes and _is_filled(one, number) and _keeps_shape(other, [one], node):
        return other
    return None


def _is_filled(value: Value | None, number: float) -> bool:
    if value is None or value.tensor is None or value.tensor.dtype is DType.STRING:
        return False
    if value.tensor.size == 0 or value.tensor.size > 1 << 16:
        return False
    return bool((value.array() == number).all())


def _keeps_shape(kept: Value | None, others: list[Value | None], node: Node) -> bool:
    """Whether broadcasting with the others leaves the shape of ``kept`` as it is."""
    if kept is None or kept.shape is None or kept.dtype is None:
        return False
    if node.outputs[0].dtype not in {None, kept.dtype}:
        return False
    for other in others:
        if other is None or other.shape is None or len(other.shape) > len(kept.shape):
            return False
        own = kept.shape[len(kept.shape) - len(other.shape) :]
        pairs = zip(own, other.shape, strict=True)
        if not all(b == 1 or (isinstance(b, int) and a == b) for a, b in pairs):
            return False
    return True


# -- twice ---------------------------------------------------------------------------------


def _twice(node: Node) -> Value | None:
    """Return what Abs of Abs, or Not of Not, comes to."""
    before = made_by(node.inputs[0], node.op)
    if before is None:
        return None
    return before.inputs[0] if node.op in _TWICE_IS_NOTHING else node.inputs[0]


def _relu(node: Node) -> Value | None:
    """Return the Clip that already lets nothing negative through, or the Relu before this one."""
    clip = made_by(node.inputs[0], "Clip")
    if clip is not None:
        bounds = _bounds(clip)
        return node.inputs[0] if bounds is not None and bounds[0] >= 0 else None
    return _twice(node)


def _with_itself(node: Node) -> Value | None:
    """Return what Max, Min, And and Or of one tensor with itself come to."""
    first = node.inputs[0] if node.inputs else None
    same = len(node.inputs) > 1 and all(v is first for v in node.inputs)
    return first if same else None


def _logical(node: Node) -> Value | None:
    return _with_itself(node) or (_without_neutral(node) if node.op in _NEUTRAL else None)


# -- bounds --------------------------------------------------------------------------------


def _clip(node: Node) -> Value | None:
    """Let the Clip or Relu before a Clip, if nothing else reads it, do the work of both."""
    before = made_by(node.inputs[0], "Clip", "Relu")
    own = _bounds(node)
    if before is None or own is None or only_consumer(before.outputs[0]) is not node:
        return None
    first = (0.0, np.inf) if before.op == "Relu" else _bounds(before)
    if first is None or first[0] > first[1] or own[0] > own[1]:
        return None
    low, high = (min(max(bound, own[0]), own[1]) for bound in first)
    if (low, high) != first:
        _set_bounds(before, low, high, node)
    return before.outputs[0]


def _bounds(node: Node) -> tuple[float, float] | None:
    """Return the constant bounds of a float Clip, infinite where there are none."""
    if node.graph.opset < _CLIP_INPUTS_SINCE:
        return None
    found = []
    for index, absent in ((1, -np.inf), (2, np.inf)):
        given = node.inputs[index] if len(node.inputs) > index else None
        bound = absent if given is None else scalar(given)
        if bound is None or np.isnan(bound) or (given is not None and given.dtype not in _FLOATS):
            return None
        found.append(bound)
    return found[0], found[1]


def _set_bounds(node: Node, low: float, high: float, like: Node) -> None:
    """Make a Clip of ``node``, with constants of the type that the bounds of ``like`` have."""
    kind = next(v.dtype for n in (like, node) for v in n.inputs[1:] if v is not None)
    assert kind is not None
    bounds: list[Value | None] = []
    for bound, name in ((low, "min"), (high, "max")):
        tensor = ir.Tensor.from_array(np.array(bound), kind)
        made = None if np.isinf(bound) else node.graph.add_constant(f"{node.label}_{name}", tensor)
        bounds.append(made)
    node.op = "Clip"
    node.set_inputs([node.inputs[0], *(bounds if bounds[1] is not None else bounds[:1])])


# -- choices -------------------------------------------------------------------------------


def _where(node: Node) -> Value | None:
    """Return the side that is chosen everywhere, or both when they are one."""
    test, chosen, other = node.inputs
    if chosen is other:
        return chosen if _keeps_shape(chosen, [test], node) else None
    if _is_filled(test, 0):
        chosen, other = other, chosen
    elif not _is_filled(test, 1):
        return None
    return chosen if _keeps_shape(chosen, [test, other], node) else None


_RULES: dict[str, Callable[[Node], Value | None]] = {
    **dict.fromkeys(_NEUTRAL, _without_neutral),
    **dict.fromkeys(_TWICE_IS_ONCE | _TWICE_IS_NOTHING, _twice),
    **dict.fromkeys(_WITH_ITSELF, _logical),
    "Clip": _clip,
    "Relu": _relu,
    "Where": _where,
}
