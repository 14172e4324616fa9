"""Write quantized matrices into the graph: as operators of onnxruntime, or as plain ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt import ir
from graphopt.passes.quantize.weight_only.packing import pack_bits
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.quantize.weight_only.blocks import Array, Blocks, Grid
    from graphopt.passes.quantize.weight_only.matrices import Matrix

DOMAIN = "com.microsoft"
OPSETS = {2: 25, 4: 21, 8: 21}
"""The first default operator set with blockwise DequantizeLinear of so many bits."""
_UNSIGNED = {2: DType.UINT2, 4: DType.UINT4, 8: DType.UINT8}
_SIGNED = {2: DType.INT2, 4: DType.INT4, 8: DType.INT8}


@dataclass(frozen=True)
class Stored:
    """A quantized matrix as the graph stores it: codes, scales, zero points if any."""

    codes: Value
    scales: Value
    zero_points: Value | None
    grid: Grid


def stored_bytes(outputs: int, inputs: int, grid: Grid, width: int = 4) -> int:
    """Return what a quantized matrix takes; ``width`` is the size of a scale in bytes."""
    blocks = grid.count(inputs)
    zero = 0 if grid.symmetric else -(-blocks * grid.bits // 8)
    if grid.fractional and not grid.symmetric:
        zero = blocks * width
    return outputs * (blocks * (grid.block_size * grid.bits // 8 + width) + zero)


# -- operators of onnxruntime ----------------------------------------------------------------


def store_packed(graph: Graph, matrix: Matrix, blocks: Blocks, grid: Grid) -> Stored:
    """Store codes as MatMulNBits reads them.

    Codes: uint8 [outputs, blocks, block size * bits / 8]; scales: [outputs, blocks] in the type of
    the weights; zero points: packed like the codes, uint8 [outputs, ceil(blocks * bits / 8)],
    absent when symmetric, or as many numbers as scales when fractional.
    """
    name, kind = matrix.weight.name, _float_kind(matrix)
    zero_points = None
    if not grid.symmetric:
        points = blocks.zero_points
        packed = (
            points.astype(kind)
            if grid.fractional
            else pack_bits(points.astype(np.uint8), grid.bits)
        )
        zero_points = graph.add_constant(f"{name}_zero_points", packed)
    return Stored(
        graph.add_constant(f"{name}_q{grid.bits}", pack_bits(blocks.codes, grid.bits)),
        graph.add_constant(f"{name}_scales", blocks.scales.astype(kind)),
        zero_points,
        grid,
    )


def multiply_packed(graph: Graph, matrix: Matrix, stored: Stored, accuracy_level: int) -> None:
    """Turn the matrix's MatMul or Gemm into MatMulNBits."""
    graph.opsets.setdefault(DOMAIN, 1)
    node = matrix.node
    bias = _take_bias(graph, node, matrix.outputs)
    _become(
        node,
        "MatMulNBits",
        {
            "K": matrix.inputs,
            "N": matrix.outputs,
            "bits": stored.grid.bits,
            "block_size": stored.grid.block_size,
            "accuracy_level": accuracy_level,
        },
    )
    node.domain = DOMAIN
    inputs = [matrix.source, stored.codes, stored.scales, stored.zero_points]
    node.set_inputs([*inputs, None, bias] if bias is not None else _trimmed(inputs))


def look_up_packed(graph: Graph, matrix: Matrix, stored: Stored) -> None:
    """Turn the matrix's Gather into GatherBlockQuantized."""
    graph.opsets.setdefault(DOMAIN, 1)
    node, grid = matrix.node, stored.grid
    width = -(-matrix.inputs * grid.bits // 8)
    codes = _flat(graph, stored.codes, matrix.outputs, width)
    indices = matrix.source
    _become(
        node,
        "GatherBlockQuantized",
        {
            "bits": grid.bits,
            "block_size": grid.block_size,
            "gather_axis": 0,
            "quantize_axis": 1,
        },
    )
    node.domain = DOMAIN
    node.set_inputs(_trimmed([codes, indices, stored.scales, stored.zero_points]))
    graph.sort()


def _flat(graph: Graph, codes: Value, rows: int, width: int) -> Value:
    """Return the codes as a matrix, without a second copy where somebody else reads them."""
    tensor = codes.tensor
    assert tensor is not None
    if codes.shape == (rows, width):
        return codes
    if not codes.uses:
        flat = tensor.array().reshape(rows, -1)[:, :width]
        graph.set_tensor(codes, ir.Tensor.from_array(np.ascontiguousarray(flat)))
        return codes
    for reader in codes.consumers:
        if reader.op == "Reshape" and reader.graph is graph:
            return reader.outputs[0]
    shape = graph.add_constant(f"{codes.name}_shape", np.array([rows, width], np.int64))
    reshape = graph.add_node("Reshape", [codes, shape], [graph.unique_name(f"{codes.name}_rows")])
    reshape.outputs[0].dtype, reshape.outputs[0].shape = codes.dtype, (rows, width)
    return reshape.outputs[0]


# -- plain ONNX ------------------------------------------------------------------------------


def store_plain(graph: Graph, matrix: Matrix, blocks: Blocks, grid: Grid, by_row: bool) -> Stored:
    """Store codes as DequantizeLinear reads them.

    A factor is stored as [inputs, outputs] with scales [blocks, outputs], a table as it is looked
    up, [outputs, inputs] with scales [outputs, blocks]. Symmetric codes are signed and have no
    zero points. One block to a column makes the scales [outputs].
    """
    name = matrix.weight.name
    codes = blocks.codes.reshape(matrix.outputs, -1)[:, : matrix.inputs]
    scales, points = blocks.scales, blocks.zero_points.astype(np.uint8)
    if not by_row:
        codes, scales, points = codes.T, scales.T, points.T
    if grid.count(matrix.inputs) == 1 and not by_row:  # one scale for each column
        scales, points = scales.reshape(-1), points.reshape(-1)
    scales = np.ascontiguousarray(scales.astype(_float_kind(matrix)))
    if grid.symmetric:
        # Two's complement of code - middle.
        signed = codes ^ np.uint8(grid.middle)
        return Stored(
            graph.add_constant(f"{name}_q{grid.bits}", _tensor(signed, _SIGNED[grid.bits], grid)),
            graph.add_constant(f"{name}_scales", scales),
            None,
            grid,
        )
    kind = _UNSIGNED[grid.bits]
    return Stored(
        graph.add_constant(f"{name}_q{grid.bits}", _tensor(codes, kind, grid)),
        graph.add_constant(f"{name}_scales", scales),
        graph.add_constant(f"{name}_zero_points", _tensor(points, kind, grid)),
        grid,
    )


def multiply_plain(graph: Graph, matrix: Matrix, stored: Stored) -> None:
    """Put a DequantizeLinear of its own before the matrix's MatMul or Gemm."""
    node = matrix.node
    per_column = len(stored.scales.shape or ()) == 1
    size = stored.grid.block_size
    attributes = {"axis": 1} if per_column else {"axis": 0, "block_size": size}
    inputs = _trimmed([stored.codes, stored.scales, stored.zero_points])
    name = graph.unique_name(f"{matrix.weight.name}_dequantized")
    added = graph.add_node("DequantizeLinear", inputs, [name], attributes)
    added.outputs[0].dtype, added.outputs[0].shape = stored.scales.dtype, matrix.shape[::-1]
    node.set_input(1, added.outputs[0])
    if node.op == "Gemm":
        node.set_attribute("transB", None)
    graph.sort()


def look_up_plain(graph: Graph, matrix: Matrix, stored: Stored) -> None:
    """Look up codes, scales and zero points, and dequantize what was found.

    A DequantizeLinear before the Gather would compute the whole table in every run.
    """
    node, indices, output = matrix.node, matrix.source, matrix.node.outputs[0]
    found: list[Value | None] = []
    for part in _trimmed([stored.codes, stored.scales, stored.zero_points]):
        assert part is not None
        name = graph.unique_name(f"{output.name}_{len(found)}")
        gather = graph.add_node("Gather", [part, indices], [name], {"axis": 0})
        gather.outputs[0].dtype = part.dtype
        found.append(gather.outputs[0])
    size = min(stored.grid.block_size, matrix.inputs)
    _become(node, "DequantizeLinear", {"axis": -1, "block_size": size})
    node.set_inputs(found)
    graph.sort()


def _tensor(codes: Array, kind: DType, grid: Grid) -> ir.Tensor:
    data = pack_bits(np.ascontiguousarray(codes).reshape(-1), grid.bits)
    return ir.Tensor.packed(kind, codes.shape, data.tobytes())


# -- both ------------------------------------------------------------------------------------


def _float_kind(matrix: Matrix) -> np.dtype[np.floating]:
    return np.dtype("float16" if matrix.weight.dtype is DType.FLOAT16 else "float32")


def _become(node: Node, op: str, attributes: dict[str, int]) -> None:
    for key in node.attribute_names:
        node.set_attribute(key, None)
    node.op = op
    for key, value in attributes.items():
        node.set_attribute(key, value)


def _trimmed(inputs: list[Value | None]) -> list[Value | None]:
    while inputs and inputs[-1] is None:
        inputs.pop()
    return inputs


def _take_bias(graph: Graph, node: Node, outputs: int) -> Value | None:
    """Return a Gemm's bias as MatMulNBits takes it; any other becomes an addition of its own."""
    bias = node.inputs[2] if node.op == "Gemm" and len(node.inputs) > 2 else None
    if bias is None:
        return None
    beta = node.attribute("beta", 1.0)
    if beta == 1.0 and bias.shape in {(outputs,), (1, outputs)} and bias.is_constant:
        if bias.shape == (outputs,):
            return bias
        flat = bias.array().reshape(-1)
        return graph.add_constant(f"{bias.name}_row", ir.Tensor.from_array(flat, bias.dtype))
    output = node.outputs[0]
    addend = bias if beta == 1.0 else _scaled(graph, bias, beta)
    total = graph.add_node("Add", [output, addend], [graph.unique_name(f"{output.name}_sum")])
    total.outputs[0].dtype, total.outputs[0].shape = output.dtype, output.shape
    graph.replace_uses(output, total.outputs[0])
    total.set_input(0, output)
    graph.sort()
    return None


def _scaled(graph: Graph, bias: Value, beta: float) -> Value:
    factor = graph.add_constant(
        f"{bias.name}_beta", ir.Tensor.from_array(np.array(beta, np.float32), bias.dtype)
    )
    node = graph.add_node("Mul", [bias, factor], [graph.unique_name(f"{bias.name}_scaled")])
    node.outputs[0].dtype, node.outputs[0].shape = bias.dtype, bias.shape
    return node.outputs[0]
