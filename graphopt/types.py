"""Frozen value types and enums that every layer speaks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

Dim = int | str | None
"""One dimension: a size, a symbol, or unknown."""

Shape = tuple[Dim, ...]
"""A tensor's shape; ``None`` in its place means that not even the rank is known."""


class DType(enum.IntEnum):
    """Element types, numbered as ``TensorProto.DataType`` numbers them."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26
    FLOAT6E2M3 = 27
    FLOAT6E3M2 = 28

    @property
    def bits(self) -> int:
        """Width of one element in bits; 0 for strings and undefined."""
        return _BITS[self]

    @property
    def is_float(self) -> bool:
        """True for every floating-point type."""
        return self in _FLOATS

    @property
    def numpy_name(self) -> str:
        """Name of the numpy type that holds it; ``object`` for strings."""
        return {"FLOAT": "float32", "DOUBLE": "float64", "STRING": "object"}.get(
            self.name, self.name.lower()
        )

    def nbytes(self, count: int) -> int:
        """Bytes that ``count`` elements take when stored as ONNX packs them."""
        return (count * self.bits + 7) // 8


_BITS = {
    DType.UNDEFINED: 0,
    DType.FLOAT: 32,
    DType.UINT8: 8,
    DType.INT8: 8,
    DType.UINT16: 16,
    DType.INT16: 16,
    DType.INT32: 32,
    DType.INT64: 64,
    DType.STRING: 0,
    DType.BOOL: 8,
    DType.FLOAT16: 16,
    DType.DOUBLE: 64,
    DType.UINT32: 32,
    DType.UINT64: 64,
    DType.COMPLEX64: 64,
    DType.COMPLEX128: 128,
    DType.BFLOAT16: 16,
    DType.FLOAT8E4M3FN: 8,
    DType.FLOAT8E4M3FNUZ: 8,
    DType.FLOAT8E5M2: 8,
    DType.FLOAT8E5M2FNUZ: 8,
    DType.UINT4: 4,
    DType.INT4: 4,
    DType.FLOAT4E2M1: 4,
    DType.FLOAT8E8M0: 8,
    DType.UINT2: 2,
    DType.INT2: 2,
    DType.FLOAT6E2M3: 6,
    DType.FLOAT6E3M2: 6,
}
_FLOATS = frozenset(d for d in DType if d.name.startswith(("FLOAT", "BFLOAT", "DOUBLE")))


class Effect(enum.Enum):
    """What a pass promises about the function that the graph computes."""

    EXACT = "exact"
    """The same function up to rounding; checked on probe inputs."""

    APPROXIMATE = "approximate"
    """Measured against a noise budget: the signal-to-noise ratio of the outputs."""

    REDUCED = "reduced"
    """Another, smaller function, fitted to the first; measured against a divergence budget. What
    follows is compared with the smaller one."""


@dataclass(frozen=True)
class QuantParams:
    """Affine quantization of one tensor: real = scale * (integer - zero_point).

    ``scale`` and ``zero_point`` have one entry per tensor, or one per channel along ``axis``.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    dtype: DType
    axis: int | None = None


Source = Literal["estimated", "measured"]
"""Whether a figure was computed from a model of the hardware, or timed on it."""


@dataclass(frozen=True)
class Figure:
    """One number about a model, with its interval, and how it was obtained.

    ``low`` and ``high`` bound the value at about 90 %; units are in the field's name that holds it.
    """

    value: float
    low: float
    high: float
    source: Source
    basis: str
