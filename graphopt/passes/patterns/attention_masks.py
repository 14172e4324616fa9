"""What is added to the scores of an attention, as the operator Attention takes it.

onnxruntime returns zeros for a query whose keys are all masked, which is what ONNX asks for since
onnx/onnx#8068 and what torch's safe softmax does: a row of the mask counts as masked where every
element is false, -inf or the lowest float32. A softmax that is spelled out gives equal weights
instead where all are the lowest float32, so that number is replaced by its neighbour, which is
added to scores with the same result. Where all are -inf it gives NaN: such masks are left alone
unless the first key is open to every query, or a test for NaN follows the softmax.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis import scalar
from graphopt.passes.patterns import building
from graphopt.passes.patterns.bounds import LOWEST, Bounds, BoundsOf, is_overflow
from graphopt.passes.patterns.matching import made_by
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from graphopt.analysis.symbols import Dim, Dims, Symbols
    from graphopt.ir import Graph, Value

    Array = np.ndarray[Any, Any]

_NEIGHBOUR = float(np.nextafter(np.float32(LOWEST), np.float32(0.0)))
ABSORBING = -1e30
"""Scores vanish in the rounding of numbers from here on, so that adding them is replacing."""


@dataclass(frozen=True)
class Added:
    """A float mask that is added to the scores.

    Args:
        value: the mask.
        windows: B * W for scores [B * W, h, T, S] and a constant [1, W, 1, T, S] with one mask for
            each of the W windows of an image; 0 otherwise.
    """

    value: Value
    windows: int = 0


@dataclass(frozen=True)
class Chosen:
    """Scores that are replaced by a number where a condition is true, or where it is false."""

    condition: Value
    number: Value
    where: bool


Part = Added | Chosen


@dataclass(frozen=True)
class Fit:
    """What a mask must be stretched to.

    Args:
        mask: its shape, of four axes.
        rank: how many axes it has.
        scores: the shape of the scores.
        source: of what tensors, and which axes of them, rows and columns are as many, together.
    """

    mask: Dims
    rank: int
    scores: Dims
    source: tuple[tuple[tuple[Value, int], ...], tuple[tuple[Value, int], ...]]

    @property
    def wider(self) -> tuple[bool, ...]:
        """Which axes are stretched: rows and columns must all be there."""
        return (False, False, *(not _same(self.mask[i], self.scores[i]) for i in (2, 3)))


def chosen_parts(scores: Value) -> list[tuple[Value, Chosen]]:
    """Return (scores, mask) of Where(condition, scores, number), either way round."""
    node = made_by(scores, "Where")
    if node is None or len(node.inputs) != 3:
        return []
    condition, one, other = node.inputs
    if condition is None or one is None or other is None:
        return []
    found = []
    for plain, number, where in ((one, other, False), (other, one, True)):
        filled = scalar(number)
        if filled is not None and filled <= ABSORBING:
            found.append((plain, Chosen(condition, number, where)))
    return found


@dataclass
class Masks:
    """Makes the masks of all attentions of a graph; what two of them share is made once."""

    graph: Graph
    symbols: Symbols
    bounds: BoundsOf = field(default_factory=BoundsOf)
    _made: dict[object, Value] = field(default_factory=dict)

    # -- before anything changes -----------------------------------------------------------

    def shape(self, parts: tuple[Part, ...], scores: Dims) -> Dims | None:
        """Return the shape [B', h', T', S'] of the sum of all parts if it fits the scores.

        Columns may be as many as an unknown number says: what is multiplied by the values has S, so
        that they are S or one.
        """
        joined: list[Dim] = [1, 1, 1, 1]
        for part in parts:
            shape = self._shape(part)
            if shape is None or len(shape) > 4:
                return None
            padded = (*[1] * (4 - len(shape)), *shape)
            for axis, (one, other) in enumerate(zip(padded, scores, strict=True)):
                if _same(one, other):
                    joined[axis] = other
                elif one != 1:
                    if axis < 3 or not isinstance(one, str) or joined[3] not in {1, one}:
                        return None
                    joined[3] = one
        return tuple(joined)

    def _shape(self, part: Part) -> Dims | None:
        if isinstance(part, Chosen):
            return self.symbols.shape(part.condition)
        shape = self.symbols.shape(part.value)
        return (part.windows, 1, *shape[-2:]) if part.windows and shape is not None else shape

    def rank(self, parts: tuple[Part, ...]) -> int:
        """Return how many axes the sum of all parts has."""
        return max(len(self._shape(p) or ()) for p in parts)

    def is_safe(self, parts: tuple[Part, ...], *, guarded: bool) -> bool:
        """Whether no row of -inf gives NaN where the operator gives zeros."""
        if guarded or not self._infinite([self._all(p) for p in parts]):
            return True
        # One key that is open in each row is enough.
        if not self._infinite([self._first(p) for p in parts]):
            return True
        return len(parts) == 1 and isinstance(parts[0], Added) and _open_rows(parts[0].value)

    def _all(self, part: Part) -> Bounds:
        if isinstance(part, Added):
            return self.bounds.all(part.value)
        return _of_number(scalar(part.number)).joined(Bounds(0.0, 0.0))

    def _first(self, part: Part) -> Bounds:
        if isinstance(part, Added):
            return self.bounds.first_column(part.value)
        test = self.bounds.first_column(part.condition)
        is_open = test.high <= 0.0 if part.where else test.low >= 1.0
        return Bounds(0.0, 0.0) if is_open else self._all(part)

    def _infinite(self, each: list[Bounds]) -> bool:
        """Whether the sum may be -inf; what is not known is taken to be the lowest float32."""
        lows = [max(b.low, LOWEST) for b in each]
        return any(b.infinite for b in each) or is_overflow(sum(lows))

    # -- afterwards ------------------------------------------------------------------------

    def operand(
        self, parts: tuple[Part, ...], *, guarded: bool, fit: Fit | None = None
    ) -> Value | None:
        """Return the mask that stands for all parts: boolean where that is the same, or float.

        Args:
            parts: what is done to the scores.
            guarded: whether a row without any open key gives zeros.
            fit: what the mask is stretched to.
        """
        if not parts:
            return None
        mask = self._condition(parts[0]) if guarded and len(parts) == 1 else None
        if mask is None:
            mask, *others = (self._float(p) for p in parts)
            for other in others:
                mask = self._once("Add", mask, other)
            mask = self._lifted(mask)
        return mask if fit is None else self._fitted(mask, fit)

    def _fitted(self, mask: Value, fit: Fit) -> Value:
        """Return the mask with all rows and columns, and of two or four axes."""
        if mask.tensor is not None and all(isinstance(d, int) for d in fit.scores[2:]):
            wide = [s if w else m for m, s, w in zip(fit.mask, fit.scores, fit.wider, strict=True)]
            if all(isinstance(d, int) for d in wide):
                return self._kept(
                    ("fitted", mask, tuple(wide)), lambda: self._stretched(mask, wide)
                )
        if any(fit.wider):
            key = ("fitted", mask, fit.wider, fit.scores[2:])
            return self._kept(key, lambda: self._expanded(mask, fit))
        if fit.rank == 3:
            axes = self._vector("mask_axes", [0])
            return self._once("Unsqueeze", mask, axes)
        return mask

    def _stretched(self, mask: Value, wide: list[Dim]) -> Value:
        array = np.broadcast_to(mask.array(), [int(d) for d in wide])
        return self.graph.add_constant(
            self.graph.unique_name(f"{mask.name}_fitted"), np.ascontiguousarray(array)
        )

    def _expanded(self, mask: Value, fit: Fit) -> Value:
        sizes = [self._vector("mask_ones", [1, 1])]
        for axis in (2, 3):
            size = fit.scores[axis]
            if not fit.wider[axis]:
                sizes.append(self._vector("mask_one", [1]))
            elif isinstance(size, int):
                sizes.append(self._vector("mask_size", [size]))
            else:
                lengths = [self._length(*each) for each in fit.source[axis - 2]]
                sizes.append(lengths[0] if len(lengths) == 1 else self._once("Add", *lengths))
        shape = building.add_operator(self.graph, "Concat", sizes, (4,), {"axis": 0}, like=sizes[0])
        return building.add_operator(self.graph, "Expand", [mask, shape], None, like=mask)

    def _length(self, source: Value, axis: int) -> Value:
        attributes = {"start": axis, "end": axis + 1}
        made = building.add_operator(self.graph, "Shape", [source], (1,), attributes, like=source)
        made.dtype = DType.INT64
        return made

    def _vector(self, name: str, numbers: list[int]) -> Value:
        def make() -> Value:
            return self.graph.add_constant(
                self.graph.unique_name(name), np.array(numbers, np.int64)
            )

        return self._kept((name, *numbers), make)

    def _condition(self, part: Part) -> Value | None:
        """Return what is true where the mask is 0 and false where it is -inf."""
        if isinstance(part, Chosen):
            if scalar(part.number) != -math.inf:
                return None
            return self._once("Not", part.condition) if part.where else part.condition
        node = made_by(part.value, "Where")
        if node is None or node.inputs[0] is None:
            return None
        if self.symbols.shape(node.inputs[0]) != self.symbols.shape(part.value):
            return None
        numbers = [scalar(v) for v in node.inputs[1:]]
        if numbers == [0.0, -math.inf]:
            return node.inputs[0]
        return self._once("Not", node.inputs[0]) if numbers == [-math.inf, 0.0] else None

    def _float(self, part: Part) -> Value:
        if isinstance(part, Added):
            return self._windows(part) if part.windows else part.value
        zero = self._number(0.0)
        filled = self._number(scalar(part.number) or 0.0)
        sides = (filled, zero) if part.where else (zero, filled)
        return self._once("Where", part.condition, *sides)

    def _windows(self, part: Added) -> Value:
        """Return the masks of all windows of all images of the batch, one after the other."""
        array = part.value.array()[0]
        whole = np.tile(array, (part.windows // array.shape[0], 1, 1, 1))
        name = self.graph.unique_name(f"{part.value.name}_windows")
        return self._kept(("windows", part), lambda: self.graph.add_constant(name, whole))

    def _number(self, number: float) -> Value:
        return self._kept(
            ("number", number),
            lambda: self.graph.add_constant(
                self.graph.unique_name("mask_number"), np.array(number, np.float32)
            ),
        )

    def _once(self, op: str, *operands: Value) -> Value:
        """Return the result of an operator that is added when it is first asked for."""
        return self._kept((op, *operands), lambda: self._added(op, operands))

    def _kept(self, key: object, make: Callable[[], Value]) -> Value:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _added(self, op: str, operands: tuple[Value, ...]) -> Value:
        made = building.add_operator(self.graph, op, operands, None, like=operands[0])
        if op == "Equal":
            made.dtype = DType.BOOL
        elif op == "Where":
            made.dtype = operands[1].dtype
        return made

    def _lifted(self, mask: Value) -> Value:
        """Return the mask with the neighbour in the place of the lowest float32."""
        found = self.bounds.all(mask)
        if found.low > LOWEST:
            return mask
        return self._kept(("lifted", mask), lambda: self._lift(mask))

    def _lift(self, mask: Value) -> Value:
        if mask.tensor is not None:
            array = mask.array()
            return self.graph.add_constant(
                self.graph.unique_name(f"{mask.name}_lifted"), _without_lowest(array)
            )
        node = made_by(mask, "Where")
        if node is not None and all(
            v is not None and v.tensor is not None for v in node.inputs[1:]
        ):
            sides = [self._lifted(v) for v in node.inputs[1:] if v is not None]
            assert node.inputs[0] is not None
            return self._once("Where", node.inputs[0], *sides)
        if not self.bounds.all(mask).infinite and self.bounds.all(mask).low > -math.inf:
            return self._once("Max", mask, self._number(_NEIGHBOUR))
        lowest = self._once("Equal", mask, self._number(LOWEST))
        return self._once("Where", lowest, self._number(_NEIGHBOUR), mask)


def _same(one: Dim, other: Dim) -> bool:
    """Whether two lengths are equal: a table cut to T rows has T, or the sum would be an error."""
    return one == other or (isinstance(one, str) and one.startswith(f"min({other},"))


def _of_number(number: float | None) -> Bounds:
    low = -math.inf if number is None else number
    return Bounds(low, low, infinite=low == -math.inf)


def _open_rows(value: Value) -> bool:
    """Whether a constant has a number above the lowest in every row."""
    return value.tensor is not None and bool((value.array() > LOWEST).any(axis=-1).all())


def _without_lowest(array: Array) -> Array:
    return np.where(array == np.float32(LOWEST), np.float32(_NEIGHBOUR), array)
