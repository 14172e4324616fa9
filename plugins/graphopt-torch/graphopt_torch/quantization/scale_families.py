"""Which scales of a graph with Q and DQ must change together, and which must not change at all.

What holds them together:

- one initializer may be the scale of many Q and DQ;
- integers that a Q writes mean the same to every DQ that reads them, behind operators that only
  move integers; where a DQ reads them at another scale (a multiplication by a number that was
  folded into it), the ratio of the two stays;
- operators that only move data between DQ and Q are executed on integers as long as both have one
  scale; scales that are equal stay equal.

What holds them fixed: a DQ that reads integers with another zero point than they were written with
(Tanh written as Sigmoid), an Add that saturates on purpose (HardSigmoid written as Add), integers
that come from or go to something else than Q, DQ and moves, and every other use of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.quantization.pairs import (
    affine,
    dequantizer,
    is_dequantize,
    is_quantize,
    is_redundant,
    stored_constant,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graphopt.analysis.quantization.pairs import Affine
    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

MOVES = frozenset(
    {"Clip", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements",
     "Identity", "MaxPool", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Resize", "Slice",
     "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)  # fmt: skip
"""Operators whose outputs hold numbers of their first input only, or bounds of them."""

_ANSWERS = frozenset({"ArgMax", "ArgMin", "Shape", "Size"})
"""Operators that look at integers without returning any of them."""


@dataclass
class Family:
    """Scales that are multiplied with one factor.

    Args:
        names: of the scale initializers, in the order of the graph.
        fixed: whether they may not change.
        weights: whether stored integers are among what they scale.
    """

    names: list[str] = field(default_factory=list)
    fixed: bool = False
    weights: bool = False


class ScaleFamilies:
    """Groups the scales of the Q and DQ of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._leader: dict[str, str] = {}
        self._fixed: set[str] = set()
        self._weights: set[str] = set()
        self._read: dict[Node, Affine] = {}
        quantizers = [n for n in graph.walk() if is_quantize(n) or is_dequantize(n)]
        for node in quantizers:
            self._enter(node)
        for node in quantizers:
            if is_quantize(node):
                self._follow_integers(node)
                self._follow_source(node)
            else:
                self._check_source(node)
                self._follow_stored(node)

    def families(self) -> list[Family]:
        """Return the families, in the order of the graph."""
        found: dict[str, Family] = {}
        for name in self._leader:
            leader = self._find(name)
            family = found.setdefault(leader, Family())
            family.names.append(name)
            family.fixed |= name in self._fixed
            family.weights |= name in self._weights
        return list(found.values())

    def fix(self, names: Iterable[str]) -> None:
        """Keep the families of some scales as they are."""
        self._fixed.update(n for n in names if n in self._leader)

    # -- reading the graph ---------------------------------------------------------------------

    def _enter(self, node: Node) -> None:
        scale = node.inputs[1]
        facts = affine(node)
        if scale is None or not scale.is_initializer or facts is None:
            return
        self._read[node] = facts
        self._leader.setdefault(scale.name, scale.name)
        if is_dequantize(node) and stored_constant(node) is not None:
            self._weights.add(scale.name)
        if not _is_only_scale(scale) or not (np.isfinite(facts.scale).all() and facts.scale.size):
            self._fixed.add(scale.name)

    def _follow_integers(self, node: Node) -> None:
        """Tie a Q to every DQ that reads its integers."""
        facts, scale = self._read.get(node), node.inputs[1]
        if facts is None or scale is None:
            return
        for reader in _readers_of_integers(node.outputs[0]):
            other = self._read.get(reader) if reader is not None else None
            if reader is None or other is None:
                self._fixed.add(scale.name)
                continue
            wanted = reader.inputs[1]
            assert wanted is not None
            self._tie(scale.name, wanted.name)
            same = np.array_equal(np.unique(facts.zero), np.unique(other.zero))
            if not same or (_saturates(node) and not _equal(facts, other)):
                self._fixed.add(scale.name)

    def _follow_source(self, node: Node) -> None:
        """Tie a Q to the DQ whose numbers are only moved before it, where both are equal."""
        facts, scale = self._read.get(node), node.inputs[1]
        if facts is None or scale is None:
            return
        sources = list(_sources(node.inputs[0]))
        found = [self._read.get(s) for s in sources if s is not None]
        if not sources or len(found) < len(sources) or None in found:
            return
        if all(f is not None and _equal(f, facts) for f in found):
            for source in sources:
                assert source is not None
                other = source.inputs[1]
                assert other is not None
                self._tie(scale.name, other.name)

    def _check_source(self, node: Node) -> None:
        """Fix a DQ whose integers are not known to be stored or made by a Q."""
        scale = node.inputs[1]
        if node not in self._read or scale is None:
            return
        if not all(p is not None for p in _writers(node.inputs[0])):
            self._fixed.add(scale.name)

    def _follow_stored(self, node: Node) -> None:
        """Tie the scales at which several DQ read the same stored integers."""
        stored, scale = stored_constant(node), node.inputs[1]
        if stored is None or scale is None or node not in self._read:
            return
        for reader in stored.consumers:
            other = reader.inputs[1] if reader in self._read else None
            if other is not None:
                self._tie(scale.name, other.name)

    # -- sets that are joined ------------------------------------------------------------------

    def _find(self, name: str) -> str:
        while self._leader[name] != name:
            name = self._leader[name]
        return name

    def _tie(self, one: str, two: str) -> None:
        first, second = self._find(one), self._find(two)
        if first != second:
            order = list(self._leader)
            first, second = sorted((first, second), key=order.index)
            self._leader[second] = first


def _is_only_scale(scale: Value) -> bool:
    """Whether nothing but Q and DQ reads the scale, as a scale."""
    return not scale.is_output and all(
        index == 1 and (is_quantize(n) or is_dequantize(n)) for n, index in scale.uses
    )


def _equal(one: Affine, two: Affine) -> bool:
    """Whether both mean the same, one scale for all or the same for each channel."""
    return (
        one.dtype is two.dtype
        and np.array_equal(np.unique(one.scale), np.unique(two.scale))
        and np.array_equal(np.unique(one.zero), np.unique(two.zero))
    )


def _readers_of_integers(value: Value) -> Iterator[Node | None]:
    """Yield the DQ that read integers, behind moves; None for anything else that reads them."""
    stack, seen = [value], {value}
    while stack:
        current = stack.pop()
        if current.is_output:
            yield None
        for node, index in current.uses:
            if is_dequantize(node) and index == 0:
                yield node
            elif (node.op in MOVES and index == 0) or node.op == "Concat":
                fresh = [v for v in node.outputs if v not in seen]
                seen.update(fresh)
                stack += fresh
            elif node.op not in _ANSWERS:
                yield None


def _sources(value: Value | None) -> Iterator[Node | None]:
    """Yield the DQ whose numbers reach a value by moves alone; None where another operator is."""
    stack = [value]
    while stack:
        current = stack.pop()
        node = current.producer if current is not None else None
        if is_dequantize(node):
            yield node
        elif node is not None and node.op == "Concat":
            stack += list(node.inputs)
        elif node is not None and node.op in MOVES and not node.domain:
            stack.append(node.inputs[0])
        else:
            yield None


def _writers(value: Value | None) -> Iterator[Node | Value | None]:
    """Yield the Q or the constant that integers come from; None for anything else."""
    stack, seen = [value], 0
    while stack and seen < 1000:
        current, seen = stack.pop(), seen + 1
        if current is None:
            yield None
        elif current.is_constant:
            yield current
        elif is_quantize(current.producer):
            yield current.producer
        elif current.producer is not None and current.producer.op == "Concat":
            stack += list(current.producer.inputs)
        elif current.producer is not None and current.producer.op in MOVES:
            stack.append(current.producer.inputs[0])
        else:
            yield None


def _saturates(quantize: Node) -> bool:
    """Whether a Q cuts off an Add of one number: what HardSigmoid is written as."""
    value = quantize.inputs[0]
    add = value.producer if value is not None else None
    if add is None or add.op != "Add":
        return False
    for operand in add.inputs:
        source = dequantizer(operand)
        stored = stored_constant(source) if source is not None else None
        if stored is not None and stored.array().size == 1:
            return True
    return False


def largest_scales(graph: Graph) -> dict[str, float]:
    """Return by scale how large it may become before a Clip in front of its Q starts to matter.

    The runtime leaves a Clip out where the Q cuts off as much; a larger scale would bring it back.
    """
    found: dict[str, float] = {}
    for node in graph.walk():
        value, scale = node.inputs[0] if node.inputs else None, None
        if not is_quantize(node) or value is None or value.producer is None:
            continue
        clip, facts, scale = value.producer, affine(node), node.inputs[1]
        if clip.op != "Clip" or facts is None or scale is None or not is_redundant(clip, facts):
            continue
        limit = _largest(clip, facts)
        found[scale.name] = min(limit, found.get(scale.name, np.inf))
    return {name: limit for name, limit in found.items() if np.isfinite(limit)}


def _largest(clip: Node, facts: Affine) -> float:
    """Return the largest float32 scale with which the range of Q stays within the bounds."""
    zero, limit = int(facts.zero.reshape(-1)[0]), np.inf
    for bound, position, name in zip(facts.limits, (1, 2), ("min", "max"), strict=True):
        steps = bound - zero
        given = clip.inputs[position] if len(clip.inputs) > position else None
        number = clip.attribute(name, None) if given is None else given.array().reshape(-1)[0]
        if number is None or not np.isfinite(number) or not steps:
            continue
        limit = min(limit, _not_beyond(abs(float(number)), abs(steps)))
    return max(limit, float(facts.scale.reshape(-1)[0]))


def _not_beyond(bound: float, steps: int) -> float:
    scale = np.float32(bound / steps)
    while scale * np.float32(steps) > np.float32(bound):
        scale = np.nextafter(scale, np.float32(0))
    return float(scale)
