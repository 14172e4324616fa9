"""Which operators return their first input, whatever it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.analysis import integers
from graphopt.analysis.symbols import Symbols

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node, Value

_INPUTS_SINCE = 13
"""Opset from which all of these operators take axes, pads and sizes as inputs."""
_FAR = (1 << 31) - 1
"""No axis is as long as this."""

ALONE = ("Concat", "Max", "Mean", "Min", "Sum")
"""Operators that return their input when they have only one."""
SHAPED = ("Expand", "Flatten", "Pad", "Reshape", "Resize", "Slice", "Split", "Tile")
"""Operators that return their input for some shapes."""


class NoOps:
    """Tells which nodes of one graph do nothing; shapes are derived when the first one asks.

    Args:
        graph: with types inferred, in topological order.
        shapes: whether its shapes can be relied on; else only what needs none is told.
    """

    def __init__(self, graph: Graph, *, shapes: bool = True) -> None:
        self._graph = graph
        self._shapes = shapes
        self._known: Symbols | None = None

    @property
    def symbols(self) -> Symbols:
        """Shapes of all values."""
        if self._known is None:
            self._known = Symbols(self._graph)
        return self._known

    def returns_input(self, node: Node) -> bool:
        """Whether the first output is the first input, for every input that the node accepts."""
        if node.op in ALONE:
            return len(node.inputs) == 1
        rule = _RULES.get(node.op)
        if rule is not None:
            return rule(node)
        shaped = _SHAPED_RULES.get(node.op)
        if shaped is None or not self._shapes or node.graph.opset < _INPUTS_SINCE:
            return False
        return bool(node.inputs) and shaped(node, self.symbols)


def _is_inference_dropout(node: Node) -> bool:
    if len(node.outputs) > 1 and (node.outputs[1].uses or node.outputs[1].is_output):
        return False
    if node.graph.opset < 7:
        return bool(node.attribute("is_test", 0))
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    return mode is None or (mode.is_constant and not bool(mode.array()))


def _is_own_type(node: Node) -> bool:
    source = node.inputs[0]
    if source is None or source.dtype is None:
        return False
    if node.op == "Cast":
        return bool(source.dtype == node.attribute("to"))
    like = node.inputs[1]
    return like is not None and like.dtype == source.dtype


def _is_in_order(node: Node) -> bool:
    order = node.attribute("perm")
    if order is not None:
        return bool(order == sorted(order))
    source = node.inputs[0]
    return source is not None and source.shape is not None and len(source.shape) < 2


def _keeps_blocks(node: Node) -> bool:
    return bool(node.attribute("blocksize", 0) == 1)


def _is_reshaped_to_itself(node: Node, symbols: Symbols) -> bool:
    """Each axis is copied or has its size; one that is left over can then only have its own."""
    source, target = symbols.shape(node.inputs[0]), symbols.vector(node.inputs[1])
    if source is None or target is None or len(source) != len(target):
        return False
    copies = not node.attribute("allowzero", 0)
    rest = [t for s, t in zip(source, target, strict=True) if t != s and not (copies and t == 0)]
    return rest in ([], [-1])


def _is_flat(node: Node, symbols: Symbols) -> bool:
    source = symbols.shape(node.inputs[0])
    return source is not None and len(source) == 2 and node.attribute("axis", 1) in {1, -1}


def _is_expanded_to_itself(node: Node, symbols: Symbols) -> bool:
    source, target = symbols.shape(node.inputs[0]), symbols.vector(node.inputs[1])
    if source is None or target is None or len(target) > len(source):
        return False
    pairs = zip(source[len(source) - len(target) :], target, strict=True)
    return all(t in {1, s} for s, t in pairs)


def _is_tiled_once(node: Node, symbols: Symbols) -> bool:
    repeats = integers(node.inputs[1])
    return repeats is not None and all(r == 1 for r in repeats)


def _is_padded_by_nothing(node: Node, symbols: Symbols) -> bool:
    pads = integers(node.inputs[1])
    return pads is not None and not any(pads)


def _is_whole_slice(node: Node, symbols: Symbols) -> bool:
    given = [integers(v) for v in node.inputs[1:]]
    source, ends = symbols.shape(node.inputs[0]), symbols.vector(node.inputs[2])
    starts = given[0]
    steps = given[3] if len(given) > 3 and node.inputs[4] is not None else [1] * len(starts or ())
    axes = given[2] if len(given) > 2 and node.inputs[3] is not None else None
    if source is None or starts is None or ends is None or steps is None:
        return False
    if axes is None:
        if len(given) > 2 and node.inputs[3] is not None:
            return False
        axes = list(range(len(starts)))
    if not len(starts) == len(ends) == len(axes) == len(steps):
        return False
    sizes = [source[a] if -len(source) <= a < len(source) else None for a in axes]
    return all(
        step == 1 and _starts_at_first(start, size) and _ends_at_last(end, size)
        for start, end, size, step in zip(starts, ends, sizes, steps, strict=True)
    )


def _starts_at_first(start: int, size: Any) -> bool:
    return start == 0 or (isinstance(size, int) and start <= -size)


def _ends_at_last(end: Any, size: Any) -> bool:
    if isinstance(end, int):
        return end >= _FAR or (isinstance(size, int) and end >= size)
    return bool(end == size)


def _is_one_part(node: Node, symbols: Symbols) -> bool:
    return len(node.outputs) == 1


def _is_resized_to_itself(node: Node, symbols: Symbols) -> bool:
    if node.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    if node.attribute("antialias", 0) or node.attribute("axes") is not None:
        return False
    scales, sizes = (node.inputs[i] if len(node.inputs) > i else None for i in (2, 3))
    if sizes is not None:
        source, target = symbols.shape(node.inputs[0]), symbols.vector(sizes)
        return source is not None and source == target
    return _are_ones(scales)


def _are_ones(value: Value | None) -> bool:
    if value is None or value.tensor is None or not value.tensor.size:
        return False
    return bool((value.array() == 1).all())


_RULES: dict[str, Callable[[Node], bool]] = {
    "Cast": _is_own_type,
    "CastLike": _is_own_type,
    "DepthToSpace": _keeps_blocks,
    "Dropout": _is_inference_dropout,
    "Identity": lambda _: True,
    "SpaceToDepth": _keeps_blocks,
    "Transpose": _is_in_order,
}
_SHAPED_RULES: dict[str, Callable[[Node, Symbols], bool]] = {
    "Expand": _is_expanded_to_itself,
    "Flatten": _is_flat,
    "Pad": _is_padded_by_nothing,
    "Reshape": _is_reshaped_to_itself,
    "Resize": _is_resized_to_itself,
    "Slice": _is_whole_slice,
    "Split": _is_one_part,
    "Tile": _is_tiled_once,
}
CANDIDATES = (*ALONE, *_RULES, *_SHAPED_RULES)
"""Operators that a rule exists for."""
