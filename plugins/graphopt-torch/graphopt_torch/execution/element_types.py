"""Which torch types hold which element types of ONNX, and how stored constants become tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt import ir
    from graphopt.ir import Value

Array = np.ndarray[Any, Any]

HELD: dict[DType, torch.dtype] = {
    DType.FLOAT: torch.float32,
    DType.FLOAT16: torch.float16,
    DType.BFLOAT16: torch.bfloat16,
    DType.DOUBLE: torch.float64,
    DType.INT8: torch.int8,
    DType.INT16: torch.int16,
    DType.INT32: torch.int32,
    DType.INT64: torch.int64,
    DType.UINT8: torch.uint8,
    DType.BOOL: torch.bool,
    # Torch computes little with these: the next type that holds every value of theirs is used.
    DType.UINT16: torch.int32,
    DType.UINT32: torch.int64,
    DType.UINT64: torch.int64,
    DType.INT4: torch.int8,
    DType.INT2: torch.int8,
    DType.UINT4: torch.uint8,
    DType.UINT2: torch.uint8,
}
"""What a tensor of each element type is held as; types that are not listed cannot be executed."""

RANGES: dict[DType, tuple[int, int]] = {
    DType.INT2: (-2, 1),
    DType.UINT2: (0, 3),
    DType.INT4: (-8, 7),
    DType.UINT4: (0, 15),
    DType.INT8: (-128, 127),
    DType.UINT8: (0, 255),
    DType.INT16: (-(2**15), 2**15 - 1),
    DType.UINT16: (0, 2**16 - 1),
    DType.INT32: (-(2**31), 2**31 - 1),
}
"""Least and greatest number of the types that QuantizeLinear makes."""

_OF_TORCH = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
_DTYPE_OF = {torch.int8: DType.INT8, torch.uint8: DType.UINT8, torch.int16: DType.INT16}


def to_torch(array: Array, device: str | torch.device = "cpu") -> torch.Tensor:
    """Return a copy of ``array`` as a tensor; types that torch does not compute with are widened.

    Values of a listed type (see ``HELD``) keep their bits; 4- and 2-bit integers are unpacked.
    """
    kind = array.dtype.name
    if kind == "bfloat16":
        bits = np.array(array).view(np.int16)
        return torch.from_numpy(bits).view(torch.bfloat16).to(device)
    held = HELD[DType[_NAMES.get(kind, kind.upper())]]
    name = str(held).removeprefix("torch.")
    return torch.from_numpy(np.array(array, dtype=name, order="C")).to(device)


_NAMES = {"float32": "FLOAT", "float64": "DOUBLE"}


def is_held(dtype: DType) -> bool:
    """Whether tensors of the type can be executed; a type that is not known counts as one."""
    return dtype is DType.UNDEFINED or dtype in HELD


def declared_type(value: Value | None) -> DType | None:
    """Return the element type that the graph states for a value."""
    if value is None:
        return None
    return value.tensor.dtype if value.tensor is not None else value.dtype


def constant(tensor: ir.Tensor, device: str) -> torch.Tensor:
    """Return a stored constant as a tensor of its own memory."""
    return to_torch(np.asarray(tensor.array()), device)


def widened(values: torch.Tensor) -> torch.Tensor:
    """Return what a caller feeds in the type in which tensors of its kind are held."""
    held = _OF_TORCH.get(values.dtype)
    return values if held is None else values.to(held)


def integer_range(declared: DType | None, held: torch.dtype) -> tuple[int, int]:
    """Return the range of a quantized type, as declared or, where nothing is, as it is held."""
    kind = declared if declared in RANGES else _DTYPE_OF.get(held, DType.UINT8)
    return RANGES[kind]
