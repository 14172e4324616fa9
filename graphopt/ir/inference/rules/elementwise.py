"""Operators that compute each element by itself, and those that keep the shape of their input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import MICROSOFT, rule
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.operands import Operands, Result

_SAME = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu"),
    *("Clip", "Cos", "Cosh", "CumSum", "Elu", "Erf", "Exp", "Floor", "Gelu", "GroupNormalization"),
    *("HardSigmoid", "HardSwish", "Hardmax", "InstanceNormalization", "LRN", "LeakyRelu", "Log"),
    *("LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Mish", "Neg", "Not", "PRelu"),
    *("RMSNormalization", "Reciprocal", "Relu", "ReverseSequence", "RotaryEmbedding", "Round"),
    *("Scatter", "ScatterElements", "ScatterND", "Selu", "Shrink", "Sigmoid", "Sign", "Sin"),
    *("Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh"),
    *("ThresholdedRelu", "Trilu", "SimplifiedLayerNormalization", "TensorScatter"),
)
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "BitShift", "BitwiseAnd", "BitwiseOr",
               "BitwiseXor", "Max", "Min", "Mean", "Sum")  # fmt: skip
_TESTS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor")
_BROADCAST_BY_ATTRIBUTE = 7
"""Before this operator set the second operand was stretched to the first, where asked for."""
_VARIADIC_WITHOUT_BROADCAST = 8
_VARIADIC = frozenset({"Max", "Min", "Mean", "Sum"})


def broadcast_all(shapes: Sequence[Dims | None]) -> Dims | None:
    """Return the shape that all are stretched to; None when one has no known rank."""
    made: Dims = ()
    for shape in shapes:
        if shape is None:
            return None
        rank = max(len(made), len(shape))
        one, other = ((*[1] * (rank - len(s)), *s) for s in (made, shape))
        made = tuple(d.broadcast(a, b) for a, b in zip(one, other, strict=True))
    return made


@rule(*_SAME)
@rule("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "RotaryEmbedding", "Trilu", domain=MICROSOFT)
def keep(o: Operands) -> list[Result]:
    """The result is as the first operand."""
    return [(o.dtype(0), o.dims(0))]


@rule("BatchNormalization")
def normalize_batch(o: Operands) -> list[Result]:
    """The first result is as the first operand; the others are as the running statistics."""
    return [(o.dtype(0), o.dims(0)), *((o.dtype(3), o.dims(3)) for _ in o.node.outputs[1:])]


@rule("LayerNormalization")
def normalize_layer(o: Operands) -> list[Result] | None:
    """The first result is as the first operand; the means have ones on the normalized axes."""
    dims = o.dims(0)
    if len(o.node.outputs) == 1 or dims is None:
        return [(o.dtype(0), dims)]
    axis = int(o.attribute("axis", -1)) % max(len(dims), 1)
    means = (*dims[:axis], *[1] * (len(dims) - axis))
    kind = DType(o.attribute("stash_type", 1))
    return [(o.dtype(0), dims), (kind, means), (kind, means)]


@rule("Dropout")
def drop(o: Operands) -> list[Result]:
    """The mask has the shape of the data; before opset 10 its type too."""
    mask = DType.BOOL if o.opset >= 10 else o.dtype(0)
    return [(o.dtype(0), o.dims(0)), (mask, o.dims(0))]


@rule("IsInf", "IsNaN")
def examine(o: Operands) -> list[Result]:
    """One truth value an element."""
    return [(DType.BOOL, o.dims(0))]


def _stretched(o: Operands) -> Dims | None:
    old = o.opset < (
        _VARIADIC_WITHOUT_BROADCAST if o.node.op in _VARIADIC else _BROADCAST_BY_ATTRIBUTE
    )
    if old:
        return o.dims(0)
    return broadcast_all([o.dims(i) for i in range(len(o.facts))])


@rule(*_ARITHMETIC)
def combine(o: Operands) -> list[Result]:
    """The result has the type of the first operand and the shape that both are stretched to."""
    return [(o.dtype(0), _stretched(o))]


@rule(*_TESTS)
def compare(o: Operands) -> list[Result]:
    """One truth value an element."""
    return [(DType.BOOL, _stretched(o))]


@rule("Where")
def choose(o: Operands) -> list[Result]:
    """The result has the type of what is chosen from."""
    return [(o.dtype(1) or o.dtype(2), _stretched(o))]


@rule("Cast")
def cast(o: Operands) -> list[Result]:
    """Another element type, the same shape."""
    return [(DType(o.attribute("to")), o.dims(0))]


@rule("CastLike")
def cast_like(o: Operands) -> list[Result]:
    """The element type of the second operand."""
    return [(o.dtype(1), o.dims(0))]
