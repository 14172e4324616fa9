"""Conv, ConvTranspose, Gemm and MatMul as what they are: rows of inputs times a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.recover.layers.inputs import pads_of
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = (*CONVOLUTIONS, "Gemm", "MatMul")
_FLOATS = (DType.FLOAT, DType.FLOAT16, DType.DOUBLE)


@dataclass(frozen=True)
class MatrixProduct:
    """An operator that computes y = x W + b for every row x of its input.

    Args:
        node: the operator.
        source: the activation that it reads.
        weight: its constant operand.
        output: where y + b is found: the operator's output, or that of the Add behind a MatMul.
        bias_of: the node, and which of its inputs, that holds the bias; None where there is no
            place for one.
    """

    node: Node
    source: Value
    weight: Value
    output: Value
    bias_of: tuple[Node, int] | None

    @property
    def is_convolution(self) -> bool:
        """Whether channels are along axis 1 rather than the last."""
        return self.node.op in CONVOLUTIONS

    @property
    def groups(self) -> int:
        """Number of separate products that the operator consists of."""
        return int(self.node.attribute("group", 1)) if self.is_convolution else 1

    @property
    def source_axis(self) -> int:
        """Axis of the activation that is summed over."""
        return 1 if self.is_convolution else len(self.source.shape or (0,)) - 1

    @property
    def output_axis(self) -> int:
        """Axis of the output that the columns of the matrix make."""
        return 1 if self.is_convolution else len(self.output.shape or (0,)) - 1

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else 0 for d in self.weight.shape or ())

    @property
    def taps(self) -> int:
        """Features that one channel of the input owns."""
        return prod(self._shape[2:]) if self.is_convolution else 1

    @property
    def features(self) -> int:
        """Length of a row."""
        if self.node.op == "Conv":
            return prod(self._shape[1:])
        if self.node.op == "ConvTranspose":
            return self._shape[0] // self.groups * self.taps
        return self._shape[1 if self._is_transposed else 0]

    @property
    def outputs(self) -> int:
        """Columns of the matrix of one group."""
        if self.node.op == "Conv":
            return self._shape[0] // self.groups
        if self.node.op == "ConvTranspose":
            return self._shape[1]
        return self._shape[0 if self._is_transposed else 1]

    @property
    def _is_transposed(self) -> bool:
        return self.node.op == "Gemm" and bool(self.node.attribute("transB", 0))

    @property
    def _alpha(self) -> float:
        return float(self.node.attribute("alpha", 1.0)) if self.node.op == "Gemm" else 1.0

    @property
    def _beta(self) -> float:
        return float(self.node.attribute("beta", 1.0)) if self.node.op == "Gemm" else 1.0

    # -- weights -------------------------------------------------------------------------

    def matrix(self) -> Array:
        """Return W; float64 [groups, features, outputs]."""
        weight = self.weight.array().astype(np.float64)
        groups = self.groups
        if self.node.op == "Conv":
            split = weight.reshape(groups, self.outputs, -1)
            return np.ascontiguousarray(split.transpose(0, 2, 1))
        if self.node.op == "ConvTranspose":
            taps_last = weight.reshape(groups, -1, self.outputs, self.taps)
            return taps_last.transpose(0, 1, 3, 2).reshape(groups, -1, self.outputs)
        return self._alpha * (weight.T if self._is_transposed else weight)[None]

    def weight_of(self, matrix: Array, shape: Sequence[int]) -> Array:
        """Return what ``matrix`` took apart, float64; ``shape`` is the weight's."""
        if self.node.op == "Conv":
            return np.ascontiguousarray(matrix.transpose(0, 2, 1)).reshape(shape)
        if self.node.op == "ConvTranspose":
            groups, _, outputs = matrix.shape
            split = matrix.reshape(groups, -1, self.taps, outputs)
            return np.ascontiguousarray(split.transpose(0, 1, 3, 2)).reshape(shape)
        plain = matrix[0] / self._alpha
        return np.ascontiguousarray(plain.T if self._is_transposed else plain)

    def bias(self) -> Array:
        """Return b; float64 [groups, outputs], zeros where there is none."""
        shape = (self.groups, self.outputs)
        if self.bias_of is None:
            return np.zeros(shape)
        node, index = self.bias_of
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            return np.zeros(shape)
        flat = self._beta * value.array().astype(np.float64).reshape(-1)
        return np.broadcast_to(flat, prod(shape)).reshape(shape)

    def stored_bias(self, bias: Array) -> Array:
        """Return what the bias input must hold for ``bias`` to be added; [groups * outputs]."""
        return np.asarray(bias.reshape(-1) / self._beta)

    # -- rows ----------------------------------------------------------------------------

    def count(self, output: Array) -> int:
        """Return how many rows a run had, given its output."""
        columns = output.shape[self.output_axis]
        return int(output.size // columns) if columns else 0

    def inputs(self, values: Array, space: Sequence[int], picked: Array) -> Array:
        """Return some rows of what the matrix is multiplied with.

        Args:
            values: the activation, [samples, channels, space...] or [..., features].
            space: the spatial sizes of the output; not used unless it is a convolution.
            picked: numbers of rows, in the order of the output's positions.

        Returns:
            float32 [groups, rows, features].
        """
        if not self.is_convolution:
            flat = values.reshape(-1, values.shape[-1])
            return np.asarray(flat[picked], dtype=np.float32)[None]
        windows = self._windows(values, space)
        rows = windows[np.unravel_index(picked, windows.shape[: 1 + len(space)])]
        if self.node.op == "ConvTranspose":
            rows = np.flip(rows, axis=tuple(range(2, rows.ndim)))
        grouped = rows.reshape(len(picked), self.groups, -1).transpose(1, 0, 2)
        return np.ascontiguousarray(grouped, dtype=np.float32)

    def outputs_at(self, values: Array, picked: Array) -> Array:
        """Return the same rows of what came out; float32 [rows, columns]."""
        if self.is_convolution:
            values = np.moveaxis(values, 1, -1)
            where = np.unravel_index(picked, values.shape[:-1])
            return np.asarray(values[where], dtype=np.float32)
        return np.asarray(values.reshape(-1, values.shape[-1])[picked], dtype=np.float32)

    def space(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial sizes of the output of a Conv, given those of the input."""
        kernel = self._shape[2:]
        dilations = self.node.attribute("dilations") or [1] * len(kernel)
        strides = self.node.attribute("strides") or [1] * len(kernel)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = pads_of(self.node, sizes, reach, strides)
        each = zip(sizes, pads, reach, strides, strict=True)
        return tuple((size + sum(pad) - r) // s + 1 for size, pad, r, s in each)

    def seen_by(self, values: Array, space: Sequence[int], picked: Array) -> Array:
        """Return what each tap sees of one channel, [rows, taps]; see ``inputs``."""
        windows = self._windows(values, space)
        rows = windows[np.unravel_index(picked, windows.shape[: 1 + len(space)])]
        return np.asarray(rows.reshape(len(picked), -1))

    def _windows(self, values: Array, space: Sequence[int]) -> Array:
        """Return the windows under the kernel; [samples, positions..., channels, taps...]."""
        kernel = self._shape[2:]
        dilations = self.node.attribute("dilations") or [1] * len(kernel)
        strides = self.node.attribute("strides") or [1] * len(kernel)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        if self.node.op == "Conv":
            pads = pads_of(self.node, values.shape[2:], reach, strides)
            padded = np.pad(values, [(0, 0), (0, 0), *pads])
        else:
            padded, strides = self._spread(values, space, reach, strides), [1] * len(kernel)
        axes = tuple(range(2, 2 + len(kernel)))
        view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
        steps = [slice(None, None, s) for s in strides]
        view = view[(slice(None), slice(None), *steps, *(slice(None, None, d) for d in dilations))]
        inside = view[(slice(None), slice(None), *(slice(0, n) for n in space))]
        return np.moveaxis(inside, 1, 1 + len(kernel))

    def _spread(
        self, values: Array, space: Sequence[int], reach: Sequence[int], strides: Sequence[int]
    ) -> Array:
        """Return the input of a transposed convolution with zeros between and around."""
        sizes = [(n - 1) * s + 1 for n, s in zip(values.shape[2:], strides, strict=True)]
        begins = self._begins(values.shape[2:], space, reach, strides)
        wide = [
            abs(r - 1 - b) + max(n, size) + r
            for r, b, n, size in zip(reach, begins, space, sizes, strict=True)
        ]
        spread = np.zeros((*values.shape[:2], *wide), dtype=np.float32)
        at = [
            slice(max(r - 1 - b, 0), max(r - 1 - b, 0) + size, s)
            for r, b, size, s in zip(reach, begins, sizes, strides, strict=True)
        ]
        spread[(slice(None), slice(None), *at)] = values
        crop = [slice(max(b - (r - 1), 0), None) for r, b in zip(reach, begins, strict=True)]
        return spread[(slice(None), slice(None), *crop)]

    def _begins(
        self,
        sizes: Sequence[int],
        space: Sequence[int],
        reach: Sequence[int],
        strides: Sequence[int],
    ) -> list[int]:
        """Return the padding before each axis of a transposed convolution."""
        mode = self.node.attribute("auto_pad", "NOTSET")
        given = self.node.attribute("pads")
        fixed = self.node.attribute("output_shape") is None and mode in {"NOTSET", ""}
        if fixed or mode == "VALID":
            return list(given[: len(sizes)]) if given and fixed else [0] * len(sizes)
        extra = self.node.attribute("output_padding") or [0] * len(sizes)
        total = [
            s * (n - 1) + e + r - out
            for n, s, e, r, out in zip(sizes, strides, extra, reach, space, strict=True)
        ]
        upper = mode == "SAME_UPPER"
        return [t // 2 if upper else t - t // 2 for t in total]


def product_of(node: Node) -> MatrixProduct | None:
    """Return an operator as a matrix product.

    None when it is no product of a float activation with a constant matrix, or when something about
    it is not understood.
    """
    if node.op not in PRODUCTS or node.domain or len(node.inputs) < 2:
        return None
    source, weight = node.inputs[:2]
    if source is None or weight is None or source.is_constant or not weight.is_constant:
        return None
    if weight.dtype not in _FLOATS or not _fits(node, source, weight):
        return None
    if node.op == "MatMul":
        output, bias_of = _added_bias(node, weight)
        return MatrixProduct(node, source, weight, output, bias_of)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not _is_row(bias, weight, node):
        return None
    return MatrixProduct(node, source, weight, node.outputs[0], (node, 2))


def _fits(node: Node, source: Value, weight: Value) -> bool:
    rank = len(weight.shape or ())
    if source.shape is None or node.outputs[0].shape is None:
        return False
    if node.op in CONVOLUTIONS:
        return rank > 2 and len(source.shape) == rank
    plain = not node.attribute("transA", 0) and node.attribute("alpha", 1.0) != 0
    return rank == 2 and bool(source.shape) and plain and node.attribute("beta", 1.0) != 0


def _is_row(bias: Value, weight: Value, node: Node) -> bool:
    if not bias.is_constant or bias.shape is None:
        return False
    if node.op in CONVOLUTIONS:
        return True
    columns = (weight.shape or ())[0 if node.attribute("transB", 0) else 1]
    sizes = bias.shape
    return not sizes or (sizes[-1] in {1, columns} and all(d == 1 for d in sizes[:-1]))


def _added_bias(node: Node, weight: Value) -> tuple[Value, tuple[Node, int] | None]:
    """Return where the bias of a MatMul is added, if the only reader does that."""
    output = node.outputs[0]
    if len(output.uses) != 1 or output.is_output:
        return output, None
    adding, index = output.uses[0]
    other = adding.inputs[1 - index] if adding.op == "Add" else None
    if other is None or adding.graph is not node.graph or not other.is_constant:
        return output, None
    sizes, columns = other.shape or (), (weight.shape or ())[1]
    fits = bool(sizes) and sizes[-1] == columns and all(d == 1 for d in sizes[:-1])
    if not fits or len(sizes) > len(output.shape or ()):
        return output, None
    return adding.outputs[0], (adding, 1 - index)
