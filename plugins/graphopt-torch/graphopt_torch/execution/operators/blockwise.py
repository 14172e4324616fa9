"""Products and look-ups with matrices that are stored in blocks of few bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from graphopt.types import DType
from graphopt_torch.execution.element_types import declared_type
from graphopt_torch.execution.operators.indexing import gathered
from graphopt_torch.execution.registry import MICROSOFT, operator
from graphopt_torch.execution.rounding import round_through

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor
_STORED = {"MatMulNBits": 1, "GatherBlockQuantized": 0}
"""The input that holds the codes."""


def dequantized_name(name: str) -> str:
    """Return the name under which ``values`` takes the matrix whose codes have this name."""
    return f"{name}#dequantized"


def is_split(node: Node) -> bool:
    """Whether a node is executed in two steps: dequantize, then multiply or look up."""
    return node.domain == MICROSOFT and node.op in _STORED


def split(
    node: Node, inputs: tuple[str, ...]
) -> tuple[tuple[Kernel, tuple[str, ...], tuple[str, ...]], tuple[str, ...]]:
    """Return kernel, inputs and outputs of the first step, and the inputs of the second."""
    place = _STORED[node.op]
    name = dequantized_name(inputs[place])
    if node.op == "MatMulNBits":
        second = (inputs[0], name, *inputs[5:6])
        return (_matrix_kernel(node), inputs[1:4], (name,)), second
    parts = (inputs[0], *inputs[2:4])
    return (_table_kernel(node), parts, (name,)), (name, inputs[1])


def unpacked(codes: Tensor, bits: int, count: int) -> Tensor:
    """Return the first ``count`` codes of the last axis; the first of a byte is in its low bits."""
    if bits == 8:
        return codes[..., :count]
    places = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
    parts = (codes.unsqueeze(-1) >> places) & ((1 << bits) - 1)
    return parts.reshape(*codes.shape[:-1], -1)[..., :count]


def _matrix_kernel(node: Node) -> Kernel:
    """Make the kernel that returns the matrix [N, K] of codes [N, blocks, bytes of a block]."""
    rows, columns = node.attribute("N"), node.attribute("K")
    bits, block = node.attribute("bits", 4), node.attribute("block_size")
    count = -(-columns // block)

    def kernel(codes: Tensor, scales: Tensor, zeros: Tensor | None = None) -> Tensor:
        kind = scales.dtype
        steps = unpacked(codes.reshape(rows, count, -1), bits, block).to(kind)
        if zeros is None:
            points = torch.full((), float(1 << (bits - 1)), dtype=kind, device=codes.device)
        elif zeros.is_floating_point():
            points = zeros.reshape(rows, count, 1).to(kind)
        else:
            points = unpacked(zeros.reshape(rows, -1), bits, count).unsqueeze(-1).to(kind)
        made = (steps - points) * scales.reshape(rows, count, 1)
        return made.reshape(rows, -1)[:, :columns]

    return kernel


def _without_groups(node: Node, _version: int) -> str | None:
    order = node.inputs[4] if len(node.inputs) > 4 else None
    return "has columns in an order of their own" if order is not None else None


@operator("MatMulNBits", domain=MICROSOFT, refuse=_without_groups)
def _multiply(node: Node, _version: int) -> Kernel:
    block = node.attribute("block_size")
    in_bytes = node.attribute("accuracy_level", 0) == _INT8_LEVEL

    def kernel(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        rows = _rounded_in_blocks(x, block) if in_bytes else x
        return functional.linear(rows, matrix.to(x.dtype), bias)

    return kernel


_INT8_LEVEL = 4
"""The accuracy level at which the runtime rounds what is multiplied to 8 bits as well."""


def _rounded_in_blocks(x: Tensor, block: int) -> Tensor:
    """Return x as the runtime rounds it: blocks of the last axis to 255 even steps around 0."""
    short = -x.shape[-1] % block
    padded = functional.pad(x, [0, short])
    parts = padded.reshape(*x.shape[:-1], -1, block)
    largest = parts.detach().abs().amax(-1, keepdim=True)
    scale = largest / 127
    inverse = torch.where(largest > 0, 127 / largest, 0)
    made: Tensor = (round_through(parts * inverse) * scale).reshape(padded.shape)
    return made[..., : x.shape[-1]]


def _table_kernel(node: Node) -> Kernel:
    """Make the kernel that returns the table of codes, packed along their last axis or not."""
    bits, block = node.attribute("bits", 4), node.attribute("block_size", 128)
    axis = node.attribute("quantize_axis", 1)

    def kernel(codes: Tensor, scales: Tensor, zeros: Tensor | None = None) -> Tensor:
        along = axis % codes.dim()
        last = codes.dim() - 1
        # Codes of uint8 lie several to a byte, those of 4-bit types one to an element.
        parts = codes
        if codes.dtype is torch.uint8 and bits < 8 and packed:
            parts = unpacked(codes, bits, codes.shape[last] * 8 // bits)
        size = parts.shape[along]
        steps = parts.to(scales.dtype)
        if zeros is not None:
            count = scales.shape[along]
            points = unpacked(zeros, bits, count) if packed and bits < 8 else zeros
            steps = steps - _in_blocks(points.to(scales.dtype), along, block, size)
        elif codes.dtype is torch.uint8 and packed:
            steps = steps - float(1 << (bits - 1))
        return steps * _in_blocks(scales, along, block, size)

    stored = node.inputs[0]
    packed = declared_type(stored) in {None, DType.UINT8}
    return kernel


def _in_blocks(values: Tensor, axis: int, block: int, size: int) -> Tensor:
    return values.repeat_interleave(block, axis).narrow(axis, 0, size)


@operator("GatherBlockQuantized", domain=MICROSOFT)
def _look_up(node: Node, _version: int) -> Kernel:
    axis = node.attribute("gather_axis", 0)
    return lambda table, indices: gathered(table, indices, axis)
