"""What is known of one tensor before the graph runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir.dims import Expr, symbol
from graphopt.types import DType

if TYPE_CHECKING:
    import onnx

    from graphopt.ir.dims import Dim
    from graphopt.ir.tensor import Tensor

Dims = tuple["Dim", ...]
Elements = np.ndarray[Any, Any]
"""An object array: numbers, booleans and expressions."""

MOST_ELEMENTS = 64
"""Larger tensors are no shapes: their elements are not followed."""

COUNTS = frozenset({DType.INT64, DType.INT32, DType.BOOL})
_FOLLOWED = COUNTS | {DType.FLOAT, DType.DOUBLE}


class Fact:
    """Element type, dimensions and elements of a tensor, as far as they are known.

    Args:
        dtype: element type.
        dims: every dimension, as a number or an expression; None: the rank is not known.
        tensor: the constant, where it is one.
        elements: what it holds; of few whole numbers, or of floats computed from such.
        proto: type of what is no tensor.
        label: what symbols for elements that are not known are called after.
    """

    __slots__ = ("_elements", "computed", "dims", "dtype", "label", "proto", "tensor")

    def __init__(
        self,
        dtype: DType | None,
        dims: Dims | None,
        *,
        tensor: Tensor | None = None,
        elements: Elements | None = None,
        proto: onnx.TypeProto | None = None,
        label: str = "",
    ) -> None:
        self.dtype = dtype
        self.dims = dims
        self.tensor = tensor
        self.proto = proto
        self.label = label
        self.computed = elements is not None
        self._elements = elements

    @property
    def elements(self) -> Elements | None:
        """What it holds: of few whole numbers always, of other constants where they are few."""
        if self._elements is None:
            if self.tensor is not None:
                self._elements = _read(self.tensor)
            elif self.dtype in COUNTS and self.label:
                self._elements = self._made_up()
        return self._elements

    def hold(self, elements: Elements) -> None:
        """Say what it holds; symbols take the place of elements that are None."""
        unknown = [i for i, e in enumerate(elements.reshape(-1)) if e is None]
        if unknown:
            made_up = self._made_up() if self.dtype in COUNTS else None
            if made_up is None or made_up.shape != elements.shape:
                return
            elements = elements.copy()
            for i in unknown:
                elements.reshape(-1)[i] = made_up.reshape(-1)[i]
        self._elements = elements
        self.computed = True

    def is_same(self, other: Fact) -> bool:
        """Whether the same is known of both."""
        if (self.dtype, self.dims, self.label) != (other.dtype, other.dims, other.label):
            return False
        if self.proto != other.proto or self.computed != other.computed:
            return False
        return not self.computed or _equal(self._elements, other._elements)

    def _made_up(self) -> Elements | None:
        """Return one symbol an element; numbers may be negative, truth values may not."""
        size = self.size()
        if size is None or size > MOST_ELEMENTS or self.dims is None:
            return None
        bottom = 0 if self.dtype is DType.BOOL else None
        made = np.empty(size, dtype=object)
        made[:] = [symbol(f"~{self.label}.{i}", bottom) for i in range(size)]
        return made.reshape([d for d in self.dims if isinstance(d, int)])

    def size(self) -> int | None:
        """Return how many elements it has, where all dimensions are numbers."""
        sizes = [d for d in self.dims if isinstance(d, int)] if self.dims is not None else None
        if sizes is None or self.dims is None or len(sizes) != len(self.dims):
            return None
        return math.prod(sizes)

    def __repr__(self) -> str:
        return f"Fact({self.dtype and self.dtype.name}, {self.dims}, {self._elements})"


UNKNOWN = Fact(None, None)


def _equal(one: Elements | None, other: Elements | None) -> bool:
    if one is None or other is None:
        return one is other
    pairs = zip(one.reshape(-1), other.reshape(-1), strict=False)
    return one.shape == other.shape and all(type(a) is type(b) and a == b for a, b in pairs)


def _read(tensor: Tensor) -> Elements | None:
    if tensor.dtype not in _FOLLOWED or tensor.size > MOST_ELEMENTS:
        return None
    return objects(tensor.array())


def objects(array: Any) -> Elements:
    """Return the array with Python numbers in it."""
    source = np.asarray(array)
    made = np.empty(source.shape, dtype=object)
    made.reshape(-1)[:] = [v.item() if isinstance(v, np.generic) else v for v in source.reshape(-1)]
    return made


def as_dims(elements: Elements | None) -> list[Dim] | None:
    """Return the elements of a tensor of whole numbers, flat."""
    if elements is None:
        return None
    found = elements.reshape(-1).tolist()
    return found if all(isinstance(e, int | Expr) for e in found) else None


def numbers(elements: Elements | None) -> list[int] | None:
    """Return elements that are all whole numbers, flat."""
    found = as_dims(elements)
    if found is None or any(isinstance(e, Expr) for e in found):
        return None
    return [int(e) for e in found if not isinstance(e, Expr)]
