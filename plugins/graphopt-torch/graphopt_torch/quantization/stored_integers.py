"""The weights that a graph stores as integers, in all the ways in which graphopt stores them.

- integers behind a DequantizeLinear: one scale, one for each index of an axis, or one for each
  block along it; 8 and 4 bits, int32 for biases;
- integers behind Cast and Mul, expanded when the model is loaded (``store-weights``);
- the matrix of DynamicQuantizeMatMul;
- codes of MatMulNBits and GatherBlockQuantized, packed into bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphopt.analysis.quantization.pairs import affine, is_dequantize
from graphopt.analysis.saturation import adds_pairs, pairs_exceed, reduction_rows
from graphopt.ir import Tensor
from graphopt.passes.quantize.weight_only.packing import pack_bits, unpack_bits
from graphopt.types import DType
from graphopt_torch.execution.operators.blockwise import dequantized_name
from graphopt_torch.quantization.roles import role_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph, Node, Value
    from graphopt_torch.quantization.roles import Role

    Array = np.ndarray[Any, Any]

_REDUCED = 64
"""Largest magnitude of weights that were quantized to 7 bits."""


@dataclass(frozen=True)
class StoredIntegers:
    """A weight of integers: real = scale * (integer - zero).

    Args:
        name: of the initializer.
        scale: name of the initializer of its scales.
        role: what it is.
        integers: unpacked; int64.
        scales: float32, in a shape that ``axis`` and ``block`` spread over the integers.
        zero: float32, spread over the integers already.
        axis: that scales run over; meaningless with one scale.
        block: integers that share a scale along the axis; 0 without blocks.
        low: smallest integer it may become.
        high: largest.
        layout: "plain" as it is given to the graph, or "blocks" of packed codes.
        given: names under which ``Program.run`` takes the weight: as integers, or dequantized.
        bits: of a packed code.
        columns: of a packed matrix; what is stored beyond them is padding.
        pairs: axis of the outputs where products with neighbours are added in 16 bits, and no two
            neighbours exceed what these hold; None otherwise.
    """

    name: str
    scale: str
    role: Role
    integers: Array
    scales: Array
    zero: Array
    axis: int
    block: int
    low: int
    high: int
    layout: Literal["plain", "blocks"] = "plain"
    given: tuple[str, ...] = ()
    bits: int = 8
    columns: int = 0
    pairs: int | None = None

    @property
    def per_scale(self) -> int:
        """Integers that share a scale."""
        return max(1, self.integers.size // max(1, self.scales.size))

    def tensor(self, integers: Array, like: Tensor) -> Tensor:
        """Return integers as the graph stores them, in the type and shape of ``like``."""
        if self.layout == "blocks":
            codes = integers.astype(np.uint8)
            if like.dtype is not DType.UINT8:
                data = pack_bits(codes.reshape(-1), self.bits)
                return Tensor.packed(like.dtype, like.shape, data.tobytes())
            if len(like.shape) == 3:
                codes = codes.reshape(like.shape[0], like.shape[1], -1)
            packed = pack_bits(codes, self.bits)
            return Tensor.from_array(np.ascontiguousarray(packed).reshape(like.shape))
        if like.dtype.bits < 8:
            mask = (1 << like.dtype.bits) - 1
            data = pack_bits((integers & mask).astype(np.uint8).reshape(-1), like.dtype.bits)
            return Tensor.packed(like.dtype, like.shape, data.tobytes())
        return Tensor.from_array(integers.reshape(like.shape), like.dtype)


def stored_integers(graph: Graph) -> list[StoredIntegers]:
    """Return the integer weights of a graph that may be trained, one for each initializer."""
    found: dict[str, StoredIntegers] = {}
    for node in graph.nodes():
        for made in _of_node(node):
            known = found.get(made.name)
            if known is None:
                found[made.name] = made
            elif known.scale == made.scale and known.layout == made.layout:
                given = tuple(dict.fromkeys((*known.given, *made.given)))
                found[made.name] = replace(known, given=given)
    return list(found.values())


def _of_node(node: Node) -> Iterator[StoredIntegers]:
    made = None
    if is_dequantize(node):
        made = _dequantized(node)
    elif node.op == "Cast" and not node.domain:
        made = _expanded(node)
    elif node.op == "DynamicQuantizeMatMul":
        made = _dynamic(node)
    elif node.op == "MatMulNBits":
        made = _matrix(node)
    elif node.op == "GatherBlockQuantized":
        made = _table(node)
    if made is not None:
        yield made


def _initializer(node: Node, index: int) -> Value | None:
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None or not value.is_initializer or value.tensor is None or value.is_output:
        return None
    return value


# -- plain integers --------------------------------------------------------------------------


def _dequantized(node: Node) -> StoredIntegers | None:
    stored, scale, facts = _initializer(node, 0), _initializer(node, 1), affine(node)
    if stored is None or scale is None or facts is None or not stored.array().size:
        return None
    integers = stored.array().astype(np.int64)
    axis = facts.axis % integers.ndim if integers.ndim else 0
    scales = np.asarray(facts.scale, dtype=np.float32)
    zero = spread(facts.zero.astype(np.float32), integers, axis, facts.block)
    real = (integers - zero) * spread(scales, integers, axis, facts.block)
    role = role_of(node.outputs[0], real)
    if role is None:
        return None
    low, high = bounds(integers, stored.tensor.dtype if stored.tensor else DType.INT8)
    return StoredIntegers(
        stored.name,
        scale.name,
        role,
        integers,
        scales,
        zero,
        axis,
        facts.block,
        low,
        high,
        given=(stored.name,),
        pairs=_pair_axis(node, integers, stored),
    )


def _expanded(node: Node) -> StoredIntegers | None:
    """Return integers that are cast to float and multiplied with their scales."""
    stored = _initializer(node, 0)
    output = node.outputs[0]
    if stored is None or stored.dtype is None or stored.dtype.is_float or len(output.uses) != 1:
        return None
    product, index = output.uses[0]
    scale = _initializer(product, 1 - index) if product.op == "Mul" else None
    integers = stored.array().astype(np.int64)
    if scale is None or scale.dtype is not DType.FLOAT or len(stored.uses) != 1:
        return None
    scales = scale.array()
    axis = next((i for i, size in enumerate(scales.shape) if size > 1), 0)
    if sum(size > 1 for size in scales.shape) > 1 or len(scale.uses) != 1:
        return None
    if scales.size > 1 and scales.ndim != integers.ndim:
        return None
    role = role_of(product.outputs[0], integers * np.asarray(scales, dtype=np.float32))
    low, high = bounds(integers, stored.dtype)
    if role is None:
        return None
    return StoredIntegers(
        stored.name,
        scale.name,
        role,
        integers,
        np.asarray(scales, dtype=np.float32).reshape(-1 if scales.size > 1 else ()),
        np.zeros((1,) * integers.ndim, np.float32),
        axis,
        0,
        low,
        high,
        given=(stored.name,),
    )


def _dynamic(node: Node) -> StoredIntegers | None:
    stored, scale = _initializer(node, 1), _initializer(node, 2)
    if stored is None or scale is None or len(stored.uses) != 1 or len(scale.uses) != 1:
        return None
    zero = node.inputs[3] if len(node.inputs) > 3 else None
    if zero is not None and not zero.is_constant:
        return None
    integers = stored.array().astype(np.int64)
    low, high = bounds(integers, stored.dtype or DType.INT8)
    scales = np.asarray(scale.array(), dtype=np.float32)
    points = np.zeros(1) if zero is None else zero.array()
    pairs = 1 if not pairs_exceed(reduction_rows(integers, 1)).any() else None
    return StoredIntegers(
        stored.name,
        scale.name,
        "weights",
        integers,
        scales.reshape(-1 if scales.size > 1 else ()),
        np.asarray(points, np.float32).reshape(1, -1) + np.zeros((1, 1), np.float32),
        1,
        0,
        low,
        high,
        given=(stored.name,),
        pairs=pairs if stored.dtype is DType.INT8 else None,
    )


def spread(values: Array, like: Array, axis: int, block: int) -> Array:
    """Return one value, or one for each index or block of an axis, in a shape that goes with it."""
    if values.size == 1 and not block:
        return np.asarray(values.reshape((1,) * like.ndim))
    if block:
        wide = np.repeat(values, block, axis=axis)
        return np.asarray(np.take(wide, np.arange(like.shape[axis]), axis=axis))
    return np.asarray(values.reshape([-1 if i == axis else 1 for i in range(like.ndim)]))


def bounds(integers: Array, dtype: DType) -> tuple[int, int]:
    """Return the range that integers must keep, told by what they are.

    That of the type; without its lowest number where none of signed integers is that low (ranges
    that are symmetric stay so), and [-64, 64] where no int8 is beyond: weights of 7 bits.
    """
    half = 1 << (dtype.bits - 1)
    if dtype is DType.INT32:
        return -(half - 1), half - 1
    if dtype.name.startswith("U"):
        return 0, 2 * half - 1
    lowest = int(integers.min(initial=0))
    if dtype is DType.INT8 and lowest >= -_REDUCED and int(integers.max(initial=0)) <= _REDUCED:
        return -_REDUCED, _REDUCED
    return (-half if lowest == -half else 1 - half), half - 1


def _pair_axis(node: Node, integers: Array, stored: Value) -> int | None:
    """Return the axis of the outputs where neighbours are kept small for 16-bit sums, or None."""
    if stored.dtype is not DType.INT8:
        return None
    axes = set()
    for reader, index in node.outputs[0].uses:
        if index != 1 or not adds_pairs(reader) or not _reads_unsigned(reader):
            return None
        own = 0 if reader.op == "Conv" else 1
        axes.add(0 if reader.op == "Gemm" and reader.attribute("transB", 0) else own)
    if len(axes) != 1:
        return None
    axis = axes.pop()
    return None if pairs_exceed(reduction_rows(integers, axis)).any() else axis


def _reads_unsigned(product: Node) -> bool:
    value = product.inputs[0]
    source = value.producer if value is not None else None
    facts = affine(source) if source is not None and is_dequantize(source) else None
    return facts is not None and facts.dtype is DType.UINT8


# -- packed codes ----------------------------------------------------------------------------


def _matrix(node: Node) -> StoredIntegers | None:
    rows, columns = int(node.attribute("N")), int(node.attribute("K"))
    ordered = len(node.inputs) > 4 and node.inputs[4] is not None
    return None if ordered else _codes(node, node.inputs[1], rows, columns, (2, 3))


def _table(node: Node) -> StoredIntegers | None:
    codes = node.inputs[0]
    scale = node.inputs[2]
    axes = (node.attribute("gather_axis", 0), node.attribute("quantize_axis", 1))
    if codes is None or scale is None or scale.shape is None or axes != (0, 1):
        return None
    bits, shape = int(node.attribute("bits", 4)), codes.shape or ()
    if len(shape) != 2 or codes.dtype is not DType.UINT8:
        return None
    rows, width = (int(d) if isinstance(d, int) else 0 for d in shape)
    return _codes(node, codes, rows, width * 8 // bits, (2, 3))


def _codes(
    node: Node, codes: Value | None, rows: int, columns: int, places: tuple[int, int]
) -> StoredIntegers | None:
    stored, scale = _behind_reshape(codes), _initializer(node, places[0])
    zero = node.inputs[places[1]] if len(node.inputs) > places[1] else None
    if stored is None or codes is None or scale is None or stored.dtype is not DType.UINT8:
        return None
    if zero is not None and (not zero.is_constant or _is_shared_oddly(stored, scale)):
        return None
    bits, block = int(node.attribute("bits", 4)), int(node.attribute("block_size"))
    count = -(-columns // block)
    packed = stored.array().reshape(rows, -1)
    integers = unpack_bits(packed, bits, packed.shape[1] * 8 // bits).astype(np.int64)
    scales = np.asarray(scale.array(), dtype=np.float32).reshape(rows, count)
    points = _zero_points(zero, rows, count, bits)
    wide = np.repeat(points, block, axis=1)[:, : integers.shape[1]]
    return StoredIntegers(
        stored.name,
        scale.name,
        "weights",
        integers,
        scales,
        wide.astype(np.float32),
        1,
        block,
        0,
        (1 << bits) - 1,
        "blocks",
        (dequantized_name(codes.name),),
        bits,
        columns,
    )


def _behind_reshape(codes: Value | None) -> Value | None:
    """Return the stored codes, which several operators may share in different shapes."""
    if codes is not None and codes.producer is not None and codes.producer.op == "Reshape":
        codes = codes.producer.inputs[0]
    stored = codes is not None and codes.is_initializer and codes.tensor is not None
    return codes if stored else None


def _is_shared_oddly(stored: Value, scale: Value) -> bool:
    readers = {n.op for n in (*stored.consumers, *scale.consumers)}
    return not readers <= {"MatMulNBits", "GatherBlockQuantized", "Reshape"}


def _zero_points(zero: Value | None, rows: int, count: int, bits: int) -> Array:
    if zero is None:
        return np.full((rows, count), 1 << (bits - 1), dtype=np.float32)
    stored = zero.array()
    if stored.dtype.kind == "f":
        return np.asarray(stored, dtype=np.float32).reshape(rows, count)
    return unpack_bits(stored.reshape(rows, -1), bits, count).astype(np.float32)
