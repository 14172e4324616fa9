"""What onnxruntime computes an operator with many products in: integers, or floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt.targets.base import Target

Arithmetic = Literal["integer", "weight-only", "float"]

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators of the default domain that become integer, or could; they decide the speed."""

_FLOAT = frozenset({*HEAVY, "Attention", "GRU", "LSTM", "RNN"})
_FLOAT_OF_MICROSOFT = frozenset(
    {"Attention", "DecoderMaskedMultiHeadAttention", "FusedConv", "FusedGemm", "FusedMatMul",
     "GroupQueryAttention", "MultiHeadAttention", "PackedAttention", "PackedMultiHeadAttention"}
)  # fmt: skip
_INTEGER = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
_INTEGER_OF_MICROSOFT = frozenset(
    {"DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger16", "MatMulIntegerToFloat",
     "QAttention", "QGemm", "QLinearConv"}
)  # fmt: skip
_PACKED = "MatMulNBits"
_WEIGHT_ONLY = frozenset({"MatMulBnb4", "MatMulFpQ4"})

INTEGER_KERNELS = _INTEGER | _INTEGER_OF_MICROSOFT | {_PACKED}
"""Operators that compute in integers; MatMulNBits does where its attributes and the target let."""

_INTEGER_LEVEL = 4
"""accuracy_level of MatMulNBits at which activations are rounded to 8 bits, block by block."""

_DOT_PRODUCTS = frozenset({"avx2", "dotprod"})
"""Instruction sets that MatMulNBits has integer kernels for."""

_ZERO_POINTS, _GROUPS = 3, 4
"""Positions of inputs of MatMulNBits."""


def arithmetic(node: Node, target: Target | None = None) -> Arithmetic | None:
    """Return what a heavy operator computes in on ``target``; None for all other operators.

    Weight-only means float arithmetic on weights that are stored in few bits. Without a target the
    machine is taken to have what every x86-64 since AVX2 and every Arm with dot products has.
    """
    if node.domain == "":
        if node.op in _INTEGER:
            return "integer"
        return "float" if node.op in _FLOAT else None
    if node.domain != "com.microsoft":
        return None
    if node.op == _PACKED:
        return "integer" if why_weight_only(node, target) is None else "weight-only"
    if node.op in _INTEGER_OF_MICROSOFT:
        return "integer"
    if node.op in _WEIGHT_ONLY:
        return "weight-only"
    return "float" if node.op in _FLOAT_OF_MICROSOFT else None


def why_weight_only(node: Node, target: Target | None = None) -> str | None:
    """Return why packed weights are multiplied in float arithmetic, or None where they are not.

    Found by running MatMulNBits of onnxruntime 1.31.1 with every combination of width, block,
    zero points and level on x86 and, emulated, on Arm with and without dot products.
    """
    if node.op != _PACKED:
        return f"{node.op} computes in float"
    level, bits = node.attribute("accuracy_level", 0), node.attribute("bits", 4)
    if level != _INTEGER_LEVEL:
        return f"float arithmetic on {bits}-bit weights: accuracy_level is {level}"
    if target is not None and not has_packed_integers(target):
        return f"float arithmetic on {bits}-bit weights: {target.name} has no dot products"
    if bits == 2 and node.attribute("block_size", 0) == 16:
        return "float arithmetic on 2-bit weights: blocks of 16 have no integer kernel"
    inputs = [*node.inputs, None, None, None]
    zeros = inputs[_ZERO_POINTS]
    if zeros is not None and zeros.dtype is not DType.UINT8:
        return f"float arithmetic on {bits}-bit weights: fractional zero points"
    if inputs[_GROUPS] is not None:
        return f"float arithmetic on {bits}-bit weights: their order is permuted"
    return None


def has_packed_integers(target: Target) -> bool:
    """Whether MatMulNBits can compute in integers on a target."""
    return not _DOT_PRODUCTS.isdisjoint(target.isa)
