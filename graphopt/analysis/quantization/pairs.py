"""QuantizeLinear and DequantizeLinear as facts: scale, zero point, type, and who stands around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

EIGHT_BITS = (DType.INT8, DType.UINT8)
_DOMAINS = frozenset({"", "com.microsoft"})
_ACTIVATIONS = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Affine:
    """Constant parameters of one Q or DQ: real = scale * (integer - zero).

    Args:
        scale: as stored, any shape.
        zero: as stored, or a zero of the type where the input is omitted.
        dtype: of the integers.
        axis: that per-channel parameters run over; meaningless with one scale.
        has_zero: whether the zero point is there.
        block: elements that share a scale along the axis; 0 without blocks.
    """

    scale: Array
    zero: Array
    dtype: DType
    axis: int
    has_zero: bool
    block: int = 0

    @property
    def is_scalar(self) -> bool:
        """Whether one scale holds for the tensor, in whatever shape it is stored."""
        return self.scale.size == 1 and not self.block

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer of the type."""
        half = 1 << (self.dtype.bits - 1)
        return (0, 2 * half - 1) if self.dtype.name.startswith("U") else (-half, half - 1)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value of a per-tensor quantization."""
        scale, zero = float(self.scale.reshape(-1)[0]), int(self.zero.reshape(-1)[0])
        low, high = self.limits
        return (low - zero) * scale, (high - zero) * scale

    def same(self, other: Affine) -> bool:
        """Whether both mean the same numbers by the same integers."""
        return (
            self.dtype is other.dtype
            and np.array_equal(self.scale.reshape(-1), other.scale.reshape(-1))
            and np.array_equal(self.zero.reshape(-1), other.zero.reshape(-1))
        )


def is_quantize(node: Node | None) -> bool:
    """Whether a node is a QuantizeLinear, of ONNX or of onnxruntime."""
    return node is not None and node.op == "QuantizeLinear" and node.domain in _DOMAINS


def is_dequantize(node: Node | None) -> bool:
    """Whether a node is a DequantizeLinear, of ONNX or of onnxruntime."""
    return node is not None and node.op == "DequantizeLinear" and node.domain in _DOMAINS


def affine(node: Node) -> Affine | None:
    """Return the parameters of a Q or DQ; None where they are not 8, 16 or 4 bit constants."""
    scale = node.inputs[1] if len(node.inputs) > 1 else None
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or not scale.is_constant or (zero is not None and not zero.is_constant):
        return None
    dtype = _integer_type(node, zero)
    if dtype is None or dtype.is_float or dtype.bits > 32 or dtype is DType.BOOL:
        return None
    values = np.asarray(scale.array())
    zeros = np.zeros(values.shape, np.int64) if zero is None else zero.array().astype(np.int64)
    return Affine(
        scale=values,
        zero=zeros,
        dtype=dtype,
        axis=int(node.attribute("axis", 1)),
        has_zero=zero is not None,
        block=int(node.attribute("block_size", 0)),
    )


def _integer_type(node: Node, zero: Value | None) -> DType | None:
    if zero is not None and zero.dtype is not None:
        return zero.dtype
    if is_quantize(node):
        named = int(node.attribute("output_dtype", 0))
        return DType(named) if named else DType.UINT8
    stored = node.inputs[0]
    if stored is not None and stored.dtype is None and is_quantize(stored.producer):
        found = affine(stored.producer) if stored.producer is not None else None
        return found.dtype if found is not None else None
    return stored.dtype if stored is not None else None


def dequantizer(value: Value | None) -> Node | None:
    """Return the DQ that makes ``value``, if one does."""
    node = value.producer if value is not None else None
    return node if is_dequantize(node) else None


def stored_constant(dequantize: Node) -> Value | None:
    """Return the constant integers that a DQ reads, if they are constant."""
    stored = dequantize.inputs[0] if dequantize.inputs else None
    return stored if stored is not None and stored.is_constant else None


def quantizer_behind(dequantize: Node) -> Node | None:
    """Return the Q whose integers a DQ reads, if it reads them directly."""
    stored = dequantize.inputs[0] if dequantize.inputs else None
    node = stored.producer if stored is not None else None
    return node if is_quantize(node) else None


@dataclass(frozen=True)
class Tail:
    """What follows an operator: the activation before the Q, the Qs, and who else reads.

    Args:
        value: the tensor that is, or should be, quantized.
        activation: Relu or Clip that stands between.
        quantized: the Q nodes that read it.
        others: further readers.
        returned: whether a graph output shows it as float.
    """

    value: Value
    activation: Node | None
    quantized: tuple[Node, ...]
    others: tuple[Node, ...]
    returned: bool

    @property
    def is_clean(self) -> bool:
        """Whether everything that reads the output quantizes it."""
        return bool(self.quantized) and not self.others and not self.returned


def tail(node: Node) -> Tail:
    """Return what follows the first output of ``node``."""
    value, activation = node.outputs[0], None
    while len(value.uses) == 1 and not value.is_output and activation is None:
        reader = value.consumers[0]
        if reader.op not in _ACTIVATIONS or reader.domain or reader.graph is not node.graph:
            break
        activation, value = reader, reader.outputs[0]
    found = tuple(n for n in value.consumers if is_quantize(n))
    others = tuple(n for n in value.consumers if not is_quantize(n))
    if activation is not None and not found:
        value, activation = node.outputs[0], None
        others = value.consumers
    return Tail(value, activation, found, others, value.is_output)


def is_redundant(activation: Node, parameters: Affine) -> bool:
    """Whether the range of the Q behind a Relu or Clip already implies it."""
    if not parameters.is_scalar:
        return False
    low, high = parameters.range
    if activation.op == "Relu":
        return int(parameters.zero.reshape(-1)[0]) == parameters.limits[0]
    bounds = (_bound(activation, 1, "min", -np.inf), _bound(activation, 2, "max", np.inf))
    if bounds[0] is None or bounds[1] is None:
        return False
    slack = float(parameters.scale.reshape(-1)[0]) / 100
    return bounds[0] <= low + slack and bounds[1] >= high - slack


def _bound(clip: Node, position: int, attribute: str, default: float) -> float | None:
    value = clip.inputs[position] if len(clip.inputs) > position else None
    if value is None:
        return float(clip.attribute(attribute, default))
    return float(value.array().reshape(-1)[0]) if value.is_constant else None


def has_quantization(graph: Graph) -> bool:
    """Whether any operator of the graph, at any level, computes with or about integers."""
    return any(
        is_quantize(n) or is_dequantize(n) or n.op in QUANTIZED_OPERATORS for n in graph.walk()
    )


QUANTIZED_OPERATORS = frozenset(
    {"QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul", "QLinearSigmoid",
     "QLinearLeakyRelu", "QLinearConcat", "QLinearAveragePool", "QLinearGlobalAveragePool",
     "QLinearSoftmax", "QLinearWhere", "QAttention", "QEmbedLayerNormalization",
     "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeLinear",
     "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "MatMulBnb4",
     "GatherBlockQuantized"}
)  # fmt: skip
"""Operators that are quantized by themselves, without Q and DQ around them."""
