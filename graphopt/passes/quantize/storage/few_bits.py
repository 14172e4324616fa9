"""Which weights get four bits, and how they are rounded: where the outputs change least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.quantize.weight_only.blocks import Blocks, Grid
from graphopt.passes.quantize.weight_only.gptq import Curvature
from graphopt.passes.quantize.weight_only.methods import quantize_rows, relative_error, try_methods
from graphopt.passes.recover.layers.inputs import layer_inputs
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.passes.quantize.storage.weights import Weight

    Array = np.ndarray[Any, Any]

_BITS = 4
_BLOCK = 32
_LARGEST = 127.0
_BLOCKS = (16, 64)
"""Features that may share a scale; the divisor of a row that is nearest to 32 in proportion."""
_METHODS = ("search", "descent", "gptq-ordered")


@dataclass(frozen=True)
class FewBits:
    """A weight in few bits.

    Args:
        codes: int8 [rows, blocks, block size].
        dtype: what they are stored as.
        scales: float32 [rows, blocks].
        error: relative squared error of what the operator computes; of the weights without data.
    """

    codes: Array
    dtype: DType
    scales: Array
    error: float


def in_four_bits(weight: Weight, known: Sequence[Curvature]) -> FewBits:
    """Return a weight rounded to four bits, block by block.

    Args:
        weight: integers are rounded as they are; a scale for each row changes nothing.
        known: second moments of what rows are multiplied with, one for each group of rows; none
            where the data do not tell.
    """
    rows = weight.rows(np.asarray(weight.value.array(), np.float32))
    grid = Grid(_BITS, _block_size(rows.shape[1]), symmetric=True)
    made = _rounded(rows, grid, known[0] if len(known) == 1 else None)
    codes = made.codes.astype(np.int16) - grid.middle
    scales = made.scales.astype(np.float16).astype(np.float32)
    found = (codes * scales[..., None]).reshape(rows.shape)
    return FewBits(codes.astype(np.int8), DType.INT4, scales, _error(rows, found, known))


def _rounded(rows: Array, grid: Grid, curvature: Curvature | None) -> Blocks:
    """Return a matrix in blocks, by the method that leaves the least error."""
    methods = _METHODS if curvature is not None else _METHODS[:1]
    best = try_methods(rows, grid, methods, curvature)[0]
    shape = (len(rows), rows.shape[1])
    return quantize_rows(lambda a, b: rows[a:b], shape, grid, best.method, curvature)


def _error(rows: Array, found: Array, known: Sequence[Curvature]) -> float:
    """Return the error that matrices of several groups leave together."""
    if not known:
        return relative_error(rows, found, None)
    pairs = zip(np.split(rows, len(known)), np.split(found - rows, len(known)), known, strict=True)
    sums = np.sum([(c.error(d), c.error(r)) for r, d, c in pairs], axis=0)
    return float(sums[0] / sums[1]) if sums[1] > 0 else 0.0


def in_eight_bits(weight: Weight) -> FewBits:
    """Return a float weight rounded to eight bits, with one scale for each row."""
    rows = weight.rows(np.asarray(weight.value.array(), np.float32))
    peak = np.abs(rows).max(axis=1, keepdims=True)
    scales = np.where(peak > 0, peak / _LARGEST, 1.0).astype(np.float16).astype(np.float32)
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    codes = np.clip(np.rint(rows / scales), -_LARGEST, _LARGEST).astype(np.int8)
    error = relative_error(rows, codes * scales, None)
    return FewBits(codes[:, None], DType.INT8, scales, error)


def curvatures(
    graph: Graph, weights: Sequence[Weight], context: Context
) -> Mapping[Value, Sequence[Curvature]]:
    """Return the second moments of what each weight is multiplied with, group by group.

    Args:
        graph: is run on the calibration data, integers dequantized; not changed.
        weights: of it.
        context: has the data.
    """
    if not context.has_data or not weights:
        return {}
    plain = graph.copy()
    nodes = {_place(node): node for node in plain.nodes()}
    wanted: dict[Node, Value] = {}
    for weight in weights:
        node = nodes.get(_place(weight.node))
        source = None if node is None else node.inputs[1] if len(node.inputs) > 1 else None
        if node is None or source is None:
            continue
        if source.producer is not None:  # integers, dequantized
            value = weight.value.array().astype(np.float32)
            node.set_input(1, plain.add_constant(f"{weight.value.name}_plain", value))
        wanted[node] = weight.value
    found = layer_inputs(plain, context)
    return {
        value: [Curvature(group) for group in found[node].second]
        for node, value in wanted.items()
        if node in found
    }


def chosen(found: Mapping[Weight, FewBits], share: float) -> list[Weight]:
    """Return the weights that get four bits: up to a share of all elements, least error first.

    Errors of different operators add up about as shares of the noise in the outputs, so the least
    error per element goes first.

    Args:
        found: all that could.
        share: of their elements, 0 to 1.
    """
    room = share * sum(f.codes.size for f in found.values())
    taken: list[Weight] = []
    for weight, each in sorted(found.items(), key=lambda item: item[1].error / item[1].codes.size):
        if each.codes.size <= room * (1 + 1e-9):
            taken.append(weight)
            room -= each.codes.size
    return taken


def _place(node: Node) -> str:
    return node.outputs[0].name if node.outputs else node.name


def _block_size(features: int) -> int:
    able = [b for b in range(_BLOCKS[0], _BLOCKS[1] + 1) if features % b == 0]
    return min(able, key=lambda b: max(b / _BLOCK, _BLOCK / b), default=features)
