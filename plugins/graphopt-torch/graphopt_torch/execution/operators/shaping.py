"""Shapes, types, and tensors that are made of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from graphopt.types import DType
from graphopt_torch.execution.element_types import HELD, constant, declared_type
from graphopt_torch.execution.registry import operator, plain

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor

plain({"Identity": lambda x: x})


@operator("Shape")
def _shape(node: Node, _version: int) -> Kernel:
    start, end = node.attribute("start", 0), node.attribute("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


@operator("Size")
def _size(_node: Node, _version: int) -> Kernel:
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


@operator("Reshape", since=5, lists=(1,))
def _reshape(node: Node, _version: int) -> Kernel:
    keep_zero = bool(node.attribute("allowzero", 0))

    def kernel(x: Tensor, shape: list[int]) -> Tensor:
        if not keep_zero and 0 in shape:
            shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
        return x.reshape(shape)

    return kernel


@operator("Flatten")
def _flatten(node: Node, _version: int) -> Kernel:
    axis = node.attribute("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        first = axis + x.dim() if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:first]), math.prod(x.shape[first:]))

    return kernel


@operator("Squeeze")
def _squeeze_by_attribute(node: Node, _version: int) -> Kernel:
    axes = node.attribute("axes")
    return lambda x: _without(x, axes)


@operator("Squeeze", since=13, lists=(1,))
def _squeeze(_node: Node, _version: int) -> Kernel:
    return lambda x, axes=None: _without(x, axes)


def _without(x: Tensor, axes: list[int] | None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


@operator("Unsqueeze")
def _unsqueeze_by_attribute(node: Node, _version: int) -> Kernel:
    axes = node.attribute("axes")
    return lambda x: _with(x, axes)


@operator("Unsqueeze", since=13, lists=(1,))
def _unsqueeze(_node: Node, _version: int) -> Kernel:
    return lambda x, axes: _with(x, axes if isinstance(axes, list) else [axes])


def _with(x: Tensor, axes: list[int]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(a + rank if a < 0 else a for a in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Expand", lists=(1,))
def _expand(_node: Node, _version: int) -> Kernel:
    def kernel(x: Tensor, shape: list[int]) -> Tensor:
        rank = max(x.dim(), len(shape))
        own = [1] * (rank - x.dim()) + list(x.shape)
        stated = [1] * (rank - len(shape)) + shape
        return x.expand([n if s == 1 else s for n, s in zip(own, stated, strict=True)])

    return kernel


@operator("ConstantOfShape", lists=(0,))
def _constant_of_shape(node: Node, _version: int) -> Kernel:
    stored = node.attribute("value")
    fill = constant(stored, "cpu").reshape(()) if stored is not None else torch.tensor(0.0)
    return lambda shape: torch.full(shape, fill.item(), dtype=fill.dtype)


@operator("Range", irregular=True)
def _range(_node: Node, _version: int) -> Kernel:
    def kernel(start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
        bounds = [t.item() for t in (start, limit, step)]
        return torch.arange(*bounds, dtype=start.dtype, device=start.device)

    return kernel


@operator("EyeLike")
def _eye_like(node: Node, _version: int) -> Kernel:
    kind, offset = node.attribute("dtype"), node.attribute("k", 0)

    def kernel(x: Tensor) -> Tensor:
        rows, columns = x.shape
        across = torch.arange(columns, device=x.device)
        along = torch.arange(rows, device=x.device).unsqueeze(1) + offset
        made: Tensor = across == along
        return made.to(x.dtype if kind is None else HELD[DType(kind)])

    return kernel


# -- types -----------------------------------------------------------------------------------


def _no_such_type(node: Node, _version: int) -> str | None:
    kind = DType(node.attribute("to"))
    return None if kind in HELD else f"makes {kind.name.lower()}"


@operator("Cast", refuse=_no_such_type)
def _cast(node: Node, _version: int) -> Kernel:
    wanted = DType(node.attribute("to"))
    if wanted in _NARROW:
        return lambda x: narrowed(x, wanted)
    kind = HELD[wanted]
    return lambda x: x.to(kind)


@operator("CastLike")
def _cast_like(node: Node, _version: int) -> Kernel:
    like = node.inputs[1]
    wanted = declared_type(like)
    if wanted is not None and wanted in _NARROW:
        return lambda x, _like: narrowed(x, wanted)
    return lambda x, like: x.to(like.dtype)


_NARROW = {DType.INT2, DType.UINT2, DType.INT4, DType.UINT4}


def narrowed(x: Tensor, kind: DType) -> Tensor:
    """Return the lowest bits of integers, as a type of 2 or 4 bits keeps them."""
    wide = x.to(torch.int64) & ((1 << kind.bits) - 1)
    if kind.name.startswith("I"):
        wide = wide - ((wide >> (kind.bits - 1)) << kind.bits)
    return wide.to(HELD[kind])


def _drops(node: Node, _version: int) -> str | None:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is None or (training.is_constant and not training.array().any()):
        return None
    return "drops elements at random"


@operator("Dropout", since=7, refuse=_drops)
def _dropout(node: Node, _version: int) -> Kernel:
    masked = len(node.outputs) > 1

    def kernel(x: Tensor, *_: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (x, torch.ones_like(x, dtype=torch.bool)) if masked else x

    return kernel
