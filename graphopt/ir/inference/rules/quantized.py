"""Operators on quantized tensors of the standard, and of onnxruntime's own domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import MICROSOFT, rule
from graphopt.ir.inference.rules.convolution import convolved, windows
from graphopt.ir.inference.rules.elementwise import broadcast_all
from graphopt.ir.inference.rules.product import multiplied
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.operands import Operands, Result


@rule("QuantizeLinear")
@rule("QuantizeLinear", domain=MICROSOFT)
def quantize(o: Operands) -> list[Result]:
    """The type of the zero point, or the one that is named, or uint8."""
    named = o.attribute("output_dtype", 0)
    kind = o.dtype(2) if o.has(2) else DType(named) if named else DType.UINT8
    return [(kind, o.dims(0))]


@rule("DequantizeLinear")
@rule("DequantizeLinear", domain=MICROSOFT)
def dequantize(o: Operands) -> list[Result]:
    """The type of the scale, or the one that is named."""
    named = o.attribute("output_dtype", 0)
    kind = DType(named) if named else o.dtype(1)
    return [(kind, o.dims(0))]


@rule("DynamicQuantizeLinear")
def quantize_dynamically(o: Operands) -> list[Result]:
    """Bytes, their scale, and their zero point."""
    return [(DType.UINT8, o.dims(0)), (DType.FLOAT, ()), (DType.UINT8, ())]


@rule("QLinearMatMul")
def multiply(o: Operands) -> list[Result]:
    """A matrix product of bytes."""
    return [(o.dtype(7), multiplied(o.dims(0), o.dims(3)))]


@rule("QLinearConv")
@rule("QLinearConv", domain=MICROSOFT)
def convolve(o: Operands) -> list[Result] | None:
    """A convolution of bytes."""
    if o.attribute("channels_last", 0):
        return [(o.dtype(7), None)]
    return [(o.dtype(7), convolved(o, o.dims(0), o.dims(3)))]


@rule("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def combine(o: Operands) -> list[Result]:
    """Both operands stretched to each other."""
    return [(o.dtype(0), broadcast_all([o.dims(0), o.dims(3)]))]


@rule("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=MICROSOFT)
def keep(o: Operands) -> list[Result]:
    """As the first operand."""
    return [(o.dtype(0), o.dims(0))]


@rule("QLinearConcat", domain=MICROSOFT)
def concatenate(o: Operands) -> list[Result]:
    """Every third operand from the third on is joined."""
    shapes = [o.dims(i) for i in range(2, len(o.facts), 3)]
    known = [s for s in shapes if s]
    if not known or len(known) != len(shapes) or len({len(s) for s in known}) != 1:
        return [(o.dtype(2), None)]
    axis = int(o.attribute("axis", 0)) % len(known[0])
    made: list[Dim | None] = list(known[0])
    made[axis] = d.total(s[axis] for s in known)
    return [(o.dtype(2), made)]


@rule("QLinearGlobalAveragePool", domain=MICROSOFT)
def pool_all(o: Operands) -> list[Result]:
    """Everything but batch and channels is of length 1."""
    dims = o.dims(0)
    if dims is None or len(dims) < 3:
        return [(o.dtype(0), None)]
    ones = [1] * (len(dims) - 2)
    last = bool(o.attribute("channels_last", 0))
    return [(o.dtype(0), [dims[0], *ones, dims[-1]] if last else [*dims[:2], *ones])]


@rule("QLinearAveragePool", domain=MICROSOFT)
def pool(o: Operands) -> list[Result]:
    """Batch and channels stay."""
    dims, kernel = o.dims(0), o.attribute("kernel_shape")
    if dims is None or kernel is None or o.attribute("channels_last", 0):
        return [(o.dtype(0), None if dims is None else [None] * len(dims))]
    return [(o.dtype(0), [*dims[:2], *windows(o, dims[2:], kernel, len(dims) - 2)])]


@rule("QLinearReduceMean", domain=MICROSOFT)
def reduce(o: Operands) -> list[Result] | None:
    """The axes are gone, or of length 1."""
    dims, axes = o.dims(0), o.attribute("axes")
    if dims is None:
        return [(o.dtype(0), None)]
    gone = {a % len(dims) for a in axes} if axes else set(range(len(dims)))
    if o.attribute("keepdims", 1):
        return [(o.dtype(0), [1 if i in gone else s for i, s in enumerate(dims)])]
    return [(o.dtype(0), [s for i, s in enumerate(dims) if i not in gone])]


@rule("QGemm", domain=MICROSOFT)
def multiply_matrices(o: Operands) -> list[Result]:
    """Bytes where there is a zero point for the result, floats otherwise."""
    one, other = o.dims(0), o.dims(3)
    rows = one[1 if o.attribute("transA", 0) else 0] if one else None
    columns = other[0 if o.attribute("transB", 0) else 1] if other else None
    return [(o.dtype(8) if o.has(8) else DType.FLOAT, [rows, columns])]


@rule("MatMulIntegerToFloat", domain=MICROSOFT)
def multiply_to_float(o: Operands) -> list[Result]:
    """A matrix product of bytes, scaled."""
    return [(o.dtype(2), multiplied(o.dims(0), o.dims(1)))]


@rule("DynamicQuantizeMatMul", domain=MICROSOFT)
def multiply_dynamically(o: Operands) -> list[Result]:
    """A matrix product of floats with bytes."""
    return [(o.dtype(0), multiplied(o.dims(0), o.dims(1)))]


@rule("MatMulNBits", domain=MICROSOFT)
@rule("MatMulBnb4", domain=MICROSOFT)
def multiply_packed(o: Operands) -> list[Result]:
    """As wide as the attribute says: the matrix is stored in blocks."""
    dims = o.dims(0)
    width = int(o.attribute("N"))
    return [(o.dtype(0), None if not dims else [*dims[:-1], width])]
