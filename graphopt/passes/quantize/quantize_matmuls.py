"""Compute products with constant matrices in 8-bit integers whose scales are found at run time.

Transformers and recurrent cells are often faster and nearer to the original so than with ranges
fixed in advance. How depends on the number of rows M of the left operand: with one row (a
recurrent cell, a decoder at generation) reading the weights is what costs, and MatMulNBits reads
a quarter of the bytes; with more rows DynamicQuantizeMatMul does the arithmetic in integers too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.qdq.operands import bias_add_after
from graphopt.passes.quantize.qdq.parameters import (
    quantize_weight,
    separates_pairs,
    weight_params,
)
from graphopt.passes.quantize.weight_only.blocks import Grid
from graphopt.passes.quantize.weight_only.operators import DOMAIN
from graphopt.passes.quantize.weight_only.packing import pack_bits
from graphopt.passes.quantize.weight_only.round_to_nearest import round_to_nearest
from graphopt.runtime.arithmetic import has_packed_integers
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]

_MODES = ("auto", "off", "by-rows", "dynamic", "weight-only")
_BLOCK = 128
_INTEGER_ACTIVATIONS = 4
"""MatMulNBits: compute on 8-bit activations, scaled per block."""

# onnxruntime 1.31.1, AVX-512 VNNI, one thread, products of 64 x 64 to 768 x 3072
# (benchmarks/matmul_rows.py): below these sizes the float product is faster.
_ONE_ROW_ELEMENTS = 48_000
_FEW_ROWS = 3
_FEW_ROWS_ELEMENTS = 65_536
_PRODUCTS = 100_000
_ASSUMED_ROWS = 64
"""Rows where the model leaves them open: a sequence, or a batch of them."""


@dataclass(frozen=True)
class QuantizeMatmuls:
    """Compute products with constant matrices in 8-bit integers scaled at run time.

    Args:
        mode: "by-rows" (weight-only where the left operand has one row, dynamic where it has more,
            float where neither pays), "dynamic", "weight-only", "off" (leave them to the other
            passes), or "auto" (the planner compares "by-rows" and "off" and writes the winner
            here).
        exclude: glob patterns of node names that stay as they are.
    """

    name: ClassVar[str] = "quantize-matmuls"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    mode: str = "auto"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise RecipeError(
                f"`{self.mode}` is not a mode of `quantize-matmuls`", hint=", ".join(_MODES)
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every product that gains by it; say why others stay."""
        if self.mode in {"off", "auto"}:
            return PassResult(False, ("left to the other passes",))
        if not context.target.runs_onnxruntime:
            return PassResult(False, (f"{context.target.name} has no such operators",))
        ir.infer_shapes(graph)
        counts = {"dynamic": 0, "weight-only": 0}
        for node in graph.nodes("MatMul", "Gemm"):
            reason = self._obstacle(node)
            choice = "float" if reason else self._choice(node, context.target)
            if choice == "float":
                context.explain(node, reason or "too small to gain from integers")
                continue
            _replace(graph, node, choice, context)
            counts[choice] += 1
        if not any(counts.values()):
            return PassResult(False, ("no product gains by it",))
        graph.root.opsets.setdefault(DOMAIN, 1)
        notes = tuple(f"{n} {choice}" for choice, n in counts.items() if n)
        return PassResult(True, notes, {k.replace("-", "_"): n for k, n in counts.items()})

    def _obstacle(self, node: Node) -> str | None:
        name = node.label
        if any(fnmatchcase(name, pattern) for pattern in self.exclude):
            return "excluded by the recipe"
        return product_obstacle(node)

    def _choice(self, node: Node, target: Target) -> str:
        if self.mode != "by-rows":
            return self.mode
        choice = choose_kernel(rows_of(node), _size(node))
        # Without dot products the runtime expands packed weights and multiplies in float.
        slow = choice == "weight-only" and not has_packed_integers(target)
        return "dynamic" if slow else choice


def product_obstacle(node: Node) -> str | None:
    """Return why a product has no kernel that scales at run time, or None when it has one."""
    left, weight = node.inputs[0], node.inputs[1]
    if node.domain or left is None or left.dtype is not DType.FLOAT or left.is_constant:
        return "its left operand is not a float32 activation"
    if weight is None or not weight.is_constant or weight.dtype is not DType.FLOAT:
        return "its weight is computed at run time, or is not float32"
    if len(weight.shape or ()) != 2 or len(left.shape or ()) < 2:
        return "its weight is not a matrix, or the rank of its left operand is unknown"
    if node.op == "Gemm":
        if node.attribute("alpha", 1.0) != 1.0 or node.attribute("beta", 1.0) != 1.0:
            return "alpha and beta are not 1"
        if node.attribute("transA", 0):
            return "its left operand is transposed"
    return None


def rows_of(node: Node) -> int | None:
    """Return the number of rows of the left operand; None where the model leaves it open."""
    left = node.inputs[0]
    sizes = (left.shape or ())[:-1] if left is not None else ()
    return math.prod(d for d in sizes if isinstance(d, int)) if _all_known(sizes) else None


def choose_kernel(rows: int | None, size: int) -> str:
    """Return "weight-only", "dynamic" or "float": what is fastest for a matrix of ``size``."""
    if rows == 1:
        return "weight-only" if size >= _ONE_ROW_ELEMENTS else "float"
    count = rows if rows is not None else _ASSUMED_ROWS
    if count <= _FEW_ROWS:
        return "dynamic" if size >= _FEW_ROWS_ELEMENTS else "float"
    return "dynamic" if count * size >= _PRODUCTS else "float"


def gains(node: Node) -> bool:
    """Whether "by-rows" would quantize a product whose types are known."""
    return product_obstacle(node) is None and choose_kernel(rows_of(node), _size(node)) != "float"


def _size(node: Node) -> int:
    weight = node.inputs[1]
    shape = weight.shape if weight is not None else None
    return math.prod(d for d in shape or () if isinstance(d, int))


def _all_known(sizes: tuple[object, ...]) -> bool:
    return all(isinstance(d, int) for d in sizes)


def _replace(graph: Graph, node: Node, choice: str, context: Context) -> None:
    weight, left = node.inputs[1], node.inputs[0]
    assert weight is not None
    matrix = np.asarray(weight.array())
    if node.op == "Gemm" and node.attribute("transB", 0):
        matrix = matrix.T
    bias, after = _bias(node, matrix.shape[1])
    output = after.outputs[0] if after is not None else node.outputs[0]
    stem = weight.name
    bias_value = graph.add_constant(f"{stem}_bias", bias) if bias is not None else None
    if choice == "dynamic":
        operands, attributes = _dynamic_operands(graph, stem, matrix, context)
        inputs = [left, *operands, None, bias_value] if bias_value else [left, *operands]
        op = "DynamicQuantizeMatMul"
    else:
        operands, attributes = _blocked_operands(graph, stem, matrix)
        inputs = [left, *operands, None, None, bias_value] if bias_value else [left, *operands]
        op = "MatMulNBits"
    made = graph.add_node(
        op,
        inputs,
        [graph.unique_name(f"{output.name}_integer")],
        attributes,
        name=node.name or graph.unique_name(f"{op}_{output.name}"),
        domain=DOMAIN,
    )
    made.outputs[0].dtype, made.outputs[0].shape = output.dtype, output.shape
    graph.replace_uses(output, made.outputs[0])
    if after is not None:
        graph.remove(after)
    graph.remove(node)
    graph.drop_constant(weight)
    graph.sort()


def _bias(node: Node, columns: int) -> tuple[Array | None, Node | None]:
    """Return the row that is added to the product, and the Add that does it when it is a node."""
    if node.op == "Gemm":
        held = node.inputs[2] if len(node.inputs) > 2 else None
        if held is None:
            return None, None
        values = np.asarray(held.array(), dtype=np.float32)
        return np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (columns,))), None
    add = bias_add_after(node)
    if add is None:
        return None, None
    held = next(v for v in add.inputs if v is not None and v is not node.outputs[0])
    values = np.asarray(held.array(), dtype=np.float32)
    return (values, add) if values.shape == (columns,) else (None, None)


def _dynamic_operands(
    graph: Graph, stem: str, matrix: Array, context: Context
) -> tuple[list[Value], dict[str, Any]]:
    """Return weight and scales per column; the left operand's are found at run time."""
    rules = context.target.quantization
    params = weight_params(matrix, 1, rules, None, 1.0)
    stored = quantize_weight(matrix, 1, params, pairs=separates_pairs(rules))
    scales = np.array(params.scale, dtype=np.float32)
    return [
        graph.add_constant(f"{stem}_quantized", stored),
        graph.add_constant(f"{stem}_scale", scales),
    ], {}


def _blocked_operands(graph: Graph, stem: str, matrix: Array) -> tuple[list[Value], dict[str, Any]]:
    """Return codes [N, blocks, block] around 128 and scales [N * blocks] for MatMulNBits."""
    rows, columns = matrix.shape
    grid = Grid(8, min(_BLOCK, max(16, 1 << (rows - 1).bit_length())), symmetric=True)
    blocks = round_to_nearest(matrix.T, grid)
    attributes = {
        "K": rows,
        "N": columns,
        "bits": grid.bits,
        "block_size": grid.block_size,
        "accuracy_level": _INTEGER_ACTIVATIONS,
    }
    return [
        graph.add_constant(f"{stem}_quantized", pack_bits(blocks.codes, grid.bits)),
        graph.add_constant(f"{stem}_scale", blocks.scales.reshape(-1)),
    ], attributes
