"""What an operator has to do: its class, its multiply-accumulates, its work per element."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.shapes import dims, elements

if TYPE_CHECKING:
    from graphopt.ir import Node, Value

CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Position of the weights, by operator."""

MATRIX_PRODUCTS = frozenset(
    {"MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul", "MatMulNBits", "MatMulBnb4",
     "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "Gemm", "FusedGemm", "QGemm"}
)  # fmt: skip
RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators that give the same memory another shape."""

REMOVED = frozenset({"Identity", "Dropout", "Constant"})
"""Operators that a runtime removes before it runs the graph."""

_GEMV_ROWS = 8
"""Products with fewer rows than this are bound by reading the weights."""

_KINDS: dict[str, str] = {
    op: kind
    for kind, ops in {
        "reduction": "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 "
        "ReduceLogSum ReduceLogSumExp ReduceSumSquare ArgMax ArgMin Softmax LogSoftmax "
        "LayerNormalization SimplifiedLayerNormalization InstanceNormalization CumSum TopK "
        "GroupNormalization RMSNormalization SkipLayerNormalization LpNormalization "
        "SkipSimplifiedLayerNormalization QLinearSoftmax",
        "pool": "MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool NhwcMaxPool "
        "QLinearAveragePool QLinearGlobalAveragePool",
        "movement": "Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Pad Expand "
        "Tile DepthToSpace SpaceToDepth Identity Shape Resize Upsample QLinearConcat "
        "ReorderInput ReorderOutput",
        "quantize": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
        "gather": "Gather GatherElements GatherND ScatterElements ScatterND GatherBlockQuantized",
        "elementwise": "Abs Acos Add And Atan BatchNormalization BiasGelu BitShift Cast Ceil Celu "
        "Clip Cos Div Elu Equal Erf Exp FastGelu Floor Gelu Greater GreaterOrEqual HardSigmoid "
        "HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or "
        "PRelu Pow QLinearAdd QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearWhere QuickGelu "
        "Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tan Tanh "
        "ThresholdedRelu Where Xor RotaryEmbedding",
    }.items()
    for op in ops.split()
}

# Work per output element in units of one float32 multiply-accumulate at the machine's elementwise
# rate. Measured: onnxruntime 1.31.1 on Zen 4, 200,704 elements, one thread; what is not listed is
# bound by memory there (0). Elements per second were: Sigmoid 3.7e9, Tanh 3.9e9, Exp 6.2e9,
# Erf 2.0e9, Sqrt 2.9e9, Div 4.8e9, Pow 1.7e9, Softmax 1.3e9 to 2.7e9, LayerNormalization 1.9e9,
# HardSwish 2.8e9; integers: Add 7.2e9, Mul 4.6e9, Sigmoid and LeakyRelu 4.4e9, Q or DQ 9e9.
_FLOAT_WORK = {
    "Sigmoid": 15.0, "Tanh": 14.0, "Exp": 9.0, "Log": 15.0, "Erf": 28.0, "Sqrt": 19.0, "Div": 11.0,
    "Pow": 32.0, "Softmax": 30.0, "LogSoftmax": 30.0, "LayerNormalization": 29.0,
    "SimplifiedLayerNormalization": 20.0, "InstanceNormalization": 29.0, "HardSwish": 19.0,
    "Gelu": 40.0, "FastGelu": 30.0, "QuickGelu": 25.0, "BiasGelu": 40.0, "Softplus": 30.0,
    "Mish": 45.0, "Elu": 15.0, "Selu": 15.0, "Celu": 15.0, "Sin": 30.0, "Cos": 30.0,
    "SkipLayerNormalization": 30.0, "SkipSimplifiedLayerNormalization": 22.0,
}  # fmt: skip
_INTEGER_WORK = {
    "QLinearAdd": 7.0, "QLinearMul": 11.0, "QLinearSigmoid": 12.0, "QLinearLeakyRelu": 12.0,
    "QLinearSoftmax": 30.0, "QLinearConcat": 4.0, "QLinearWhere": 4.0,
}  # fmt: skip
_QUANTIZE_WORK = 6.0
_COPY_WORK = 5.0
"""A copy that changes the order of elements: 0.1 ns each, measured at the borders of integers."""

_POOL_WORK = 1.5
"""Per element of the window: 4.4e9 outputs of a 3x3 pool per second."""


@dataclass(frozen=True)
class Product:
    """Multiply-accumulates as ``outputs`` sums of ``reduction`` products.

    Args:
        rows: outputs per output channel and group.
        columns: output channels of one group.
        inputs: input channels of one group.
        window: products per input channel (kernel height times width).
        groups: independent groups.
    """

    rows: int
    columns: int
    inputs: int
    window: int = 1
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates without padding."""
        return self.rows * self.columns * self.reduction * self.groups

    @property
    def reduction(self) -> int:
        """Products behind one output."""
        return self.inputs * self.window


def kind_of(node: Node) -> str:
    """Return the cost class of an operator; ``other`` when nothing is known about it."""
    if node.op in CONVOLUTIONS:
        return _convolution_kind(node)
    if node.op == "ConvTranspose":
        return "conv"
    if node.op in RECURRENT:
        return "gemv"
    found = product_of(node)
    if found is not None:
        return "gemv" if found.rows < _GEMV_ROWS else "gemm"
    return _KINDS.get(node.op, "other")


def product_of(node: Node) -> Product | None:
    """Return the matrix product inside an operator; None when it has none or nothing is known."""
    if node.op in CONVOLUTIONS:
        return _convolution(node, node.inputs[CONVOLUTIONS[node.op]])
    if node.op == "ConvTranspose":
        return _transposed(node)
    if node.op in MATRIX_PRODUCTS:
        return _matrix_product(node)
    if node.op in RECURRENT:
        return _recurrent(node)
    if node.op == "Einsum":
        return _einsum(node)
    return None


def macs_of(node: Node) -> int:
    """Return the multiply-accumulates of an operator, attention included."""
    found = product_of(node)
    if found is not None:
        return found.macs
    if node.op in {"Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention"}:
        return _attention(node)
    return 0


def element_work(node: Node, kernel: str) -> float:
    """Return the work of an operator without products, in float32 multiply-accumulates."""
    count = sum(elements(v) for v in node.outputs if v.name)
    kind = _KINDS.get(node.op, "other")
    if kind == "quantize":
        return count * _QUANTIZE_WORK
    if kind == "pool":
        return _pool_work(node)
    if node.op == "Transpose":
        return count * _COPY_WORK
    return count * _INTEGER_WORK.get(kernel, _FLOAT_WORK.get(kernel, 0.0))


def copy_work(count: int) -> float:
    """Return the work of changing the memory layout of ``count`` elements."""
    return count * _COPY_WORK


def is_channels_last(node: Node) -> bool:
    """Whether an operator of onnxruntime takes its images with the channels at the end."""
    return node.op.startswith("Nhwc") or bool(node.attribute("channels_last", 0))


def _convolution_kind(node: Node) -> str:
    found = _convolution(node, node.inputs[CONVOLUTIONS[node.op]])
    if found is None:
        return "conv"
    if found.groups > 1:
        return "depthwise" if found.inputs == 1 else "grouped"
    return "pointwise" if found.window == 1 else "conv"


def _convolution(node: Node, weight: Value | None) -> Product | None:
    shape, out = dims(weight), dims(node.outputs[0])
    if len(shape) < 3 or not out:
        return None
    groups = max(int(node.attribute("group", 1)), 1)
    channels = out[-1] if is_channels_last(node) else out[1] if len(out) > 1 else 1
    rows = math.prod(out) // max(channels, 1) if len(out) > 1 else 1
    return Product(rows, max(shape[0] // groups, 1), shape[1], math.prod(shape[2:]), groups)


def _transposed(node: Node) -> Product | None:
    """Return the product of a ConvTranspose: every input element meets every weight of it."""
    shape, given = dims(node.inputs[1]), dims(node.inputs[0])
    if len(shape) < 3 or len(given) < 3:
        return None
    groups = max(int(node.attribute("group", 1)), 1)
    rows = math.prod(given) // max(given[1], 1)
    return Product(rows, shape[1] * math.prod(shape[2:]), shape[0] // groups, 1, groups)


def _matrix_product(node: Node) -> Product | None:
    left, out = dims(node.inputs[0]), dims(node.outputs[0])
    if not left or not out:
        return None
    transposed = node.attribute("transA", 0) and len(left) > 1
    inner = int(node.attribute("K", 0)) or (left[-2] if transposed else left[-1])
    columns = out[-1]
    return Product(math.prod(out) // max(columns, 1), columns, inner)


def _recurrent(node: Node) -> Product | None:
    given, weight, back = (dims(v) for v in node.inputs[:3])
    if len(given) != 3 or len(weight) != 3 or len(back) != 3:
        return None
    rows = given[1] * weight[0]
    # One product per step and direction: its rows are the batch, whatever the sequence is.
    return Product(rows, weight[1], weight[2] + back[2], groups=given[0])


def _einsum(node: Node) -> Product | None:
    equation = str(node.attribute("equation", "")).replace(" ", "")
    if "->" not in equation or "." in equation:
        return None
    operands, result = equation.split("->")
    sizes: dict[str, int] = {}
    for labels, value in zip(operands.split(","), node.inputs, strict=False):
        sizes.update(zip(labels, dims(value), strict=False))
    summed = math.prod(size for label, size in sizes.items() if label not in result)
    outputs = math.prod(sizes.get(label, 1) for label in result)
    columns = sizes.get(result[-1], 1) if result else 1
    return Product(outputs // max(columns, 1), columns, summed)


def _attention(node: Node) -> int:
    if node.domain == "":
        return _standard_attention(node)
    query = dims(node.inputs[0])
    if len(query) != 3:
        return 0
    batch, length, width = query
    products = 2 * batch * length * length * width
    projected = dims(node.inputs[1]) if node.op in {"Attention", "QAttention"} else ()
    return products + (batch * length * math.prod(projected) if projected else 0)


def _standard_attention(node: Node) -> int:
    """Return the products of queries and keys, and of weights and values, of opset 23."""
    query, key, value = (dims(v) for v in node.inputs[:3])
    past = dims(node.inputs[4]) if len(node.inputs) > 4 else ()
    if len(query) not in {3, 4} or len(key) != len(query) or len(value) != len(query):
        return 0
    length = key[-2] + (past[-2] if past else 0)
    if len(query) == 4:
        return math.prod(query[:3]) * length * (query[3] + value[3])
    heads = int(node.attribute("q_num_heads", 1)), int(node.attribute("kv_num_heads", 1))
    widths = query[2] + value[2] * heads[0] // max(heads[1], 1)
    return query[0] * query[1] * length * widths


def _pool_work(node: Node) -> float:
    window = node.attribute("kernel_shape")
    if window is None:  # a global pool reads its input once and is bound by that
        return elements(node.inputs[0]) * 1.0
    return elements(node.outputs[0]) * float(math.prod(window)) * _POOL_WORK
