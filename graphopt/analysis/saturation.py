"""Pairs of int8 weights whose products an x86 CPU without VNNI adds in 16 bits.

vpmaddubsw multiplies uint8 activations with int8 weights and adds neighbouring products with signed
saturation: a sum above 32767 or below -32768 is cut off. Activations reach 255, so that two weights
a and b are safe whenever |a + b| <= 128; weights of opposite sign always are.

Neighbours are those of the order in which the kernels multiply: along K for matrices, kernel
position by kernel position with the input channels innermost for convolutions. Under emulation of
such a CPU, onnxruntime 1.31.1 added pairs that start at even positions only; as packing may differ,
pairs at odd positions count here as well. Its depthwise kernel, ConvInteger, int8 activations and
uint8 weights add in 32 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphopt.ir import Node

    Array = np.ndarray[Any, Any]

PAIR_LIMIT = 128
"""Largest |a + b| of two int8 weights whose products with uint8 activations fit into 16 bits."""

_CONVOLUTIONS = frozenset({"Conv", "QLinearConv"})
_MATRICES = frozenset(
    {"Gemm", "MatMul", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
     "DynamicQuantizeMatMul"}
)  # fmt: skip
_WEIGHT = {"QLinearConv": 3, "QGemm": 3, "QLinearMatMul": 3}


def adds_pairs(node: Node) -> bool:
    """Whether an integer kernel of ``node`` adds neighbouring products in 16 bits."""
    if node.op in _MATRICES:
        return True
    if node.op not in _CONVOLUTIONS:
        return False
    index = _WEIGHT.get(node.op, 1)
    weight = node.inputs[index] if len(node.inputs) > index else None
    shape = weight.shape if weight is not None else None
    if not shape or len(shape) < 2 or shape[1] != 1:
        return True
    groups = node.attribute("group", 1)  # with a channel each: the depthwise kernel
    return bool(groups == 1 or groups != shape[0])


def reduction_rows(weight: Array, output_axis: int) -> Array:
    """Return a weight as [outputs, products], the products in the order of the kernels.

    Args:
        weight: of a matrix product, or of a convolution: [outputs, channels, *kernel].
        output_axis: 0 for convolutions; the axis of the columns of matrices.
    """
    moved = np.moveaxis(weight, output_axis, 0)
    if weight.ndim > 2 and output_axis == 0:
        moved = np.moveaxis(moved, 1, -1)
    return moved.reshape(moved.shape[0], -1)


def from_reduction_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """Return ``rows`` as [outputs, channels, *kernel]: the inverse of ``reduction_rows``."""
    if len(shape) <= 2:
        return rows.reshape(shape)
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def largest_pairs(rows: Array) -> Array:
    """Return the largest |a + b| of two neighbours of one sign, per row; 0 where there is none."""
    if rows.shape[1] < 2:
        return np.zeros(rows.shape[0], dtype=rows.dtype)
    left, right = rows[:, :-1], rows[:, 1:]
    found: Array = np.where(left * right > 0, np.abs(left + right), 0).max(axis=1, initial=0)
    return found


def pairs_exceed(rows: Array) -> Array:
    """Say of each row of int8 weights, in the order of the kernels, whether a pair saturates."""
    return np.asarray(largest_pairs(rows.astype(np.int64)) > PAIR_LIMIT)


def scale_needed(rows: Array) -> Array:
    """Return the scale, per row of float weights, with which no pair exceeds the limit.

    max |a + b| / 128, before rounding; rounding to the integers on either side of each weight may
    then exceed the limit by one step at most.
    """
    return np.asarray(largest_pairs(rows.astype(np.float64)) / PAIR_LIMIT)
