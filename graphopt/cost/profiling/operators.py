"""The layers that measured networks are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.cost.profiling.builder import PATTERN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.profiling.builder import Builder, Flow


def conv(
    b: Builder,
    x: Flow,
    outputs: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    groups: int = 1,
    activation: str = "",
) -> Flow:
    """Add a convolution over 2-D images with a bias, padded so that stride 1 keeps the size."""
    window = (kernel, kernel) if isinstance(kernel, int) else kernel
    pads = [side // 2 for side in window]
    sizes = [
        (n + 2 * p - k) // stride + 1 for n, p, k in zip(x.shape[2:], pads, window, strict=True)
    ]
    attributes = {
        "kernel_shape": list(window),
        "pads": [*pads, *pads],
        "strides": [stride, stride],
        "group": groups,
    }
    inputs = x.shape[1] // groups
    return b.product(
        "Conv",
        x,
        (outputs, inputs, *window),
        (x.shape[0], outputs, *sizes),
        attributes,
        outputs=outputs,
        fan_in=inputs * window[0] * window[1],
        activation=activation,
    )


def conv_transpose(b: Builder, x: Flow, outputs: int, kernel: int, stride: int) -> Flow:
    """Add a transposed convolution that enlarges images ``stride`` times; runs in float."""
    pad = (kernel - stride) // 2
    attributes: dict[str, Any] = {
        "kernel_shape": [kernel, kernel],
        "strides": [stride, stride],
        "pads": [pad] * 4,
    }
    shape = (x.shape[0], outputs, *(n * stride for n in x.shape[2:]))
    real = b.real(x)
    weight = b.weight(x.shape[1], outputs, kernel, kernel, fan_in=x.shape[1] * 4)
    (made,) = b.node("ConvTranspose", [real.value, weight, b.vector(outputs)], attributes)
    return type(x)(made, shape)


def linear(b: Builder, x: Flow, outputs: int, activation: str = "") -> Flow:
    """Add a fully connected layer: Gemm on matrices, MatMul and Add on anything else."""
    inputs = x.shape[-1]
    shape = (*x.shape[:-1], outputs)
    if len(x.shape) == 2:
        attributes = {"transB": 1}
        return b.product(
            "Gemm", x, (outputs, inputs), shape, attributes,
            outputs=outputs, fan_in=inputs, activation=activation,
        )  # fmt: skip
    made = b.product("MatMul", x, (inputs, outputs), shape, fan_in=inputs)
    if b.integer:
        return made  # a bias would take the product back to float
    (added,) = b.node("Add", [made.value, b.vector(outputs)])
    return type(x)(added, shape)


def times(b: Builder, x: Flow, outputs: int) -> Flow:
    """Add a MatMul with weights and no bias."""
    inputs = x.shape[-1]
    return b.product("MatMul", x, (inputs, outputs), (*x.shape[:-1], outputs), fan_in=inputs)


def real_times(b: Builder, x: Flow, outputs: int) -> Flow:
    """Add a MatMul of integers with a result in float, from which a vector is subtracted there."""
    inputs = x.shape[-1]
    return b.product(
        "MatMul", x, (inputs, outputs), (*x.shape[:-1], outputs), fan_in=inputs, real=True
    )


def matmul(b: Builder, x: Flow, y: Flow) -> Flow:
    """Add the product of two activations."""
    shape = (*x.shape[:-1], y.shape[-1])
    return b.apply("MatMul", [b.settled(x), b.settled(y)], shape)


def unary(b: Builder, op: str, x: Flow, *, quantizes: bool = False, **attributes: Any) -> Flow:
    """Add an elementwise operator of one input."""
    return b.apply(op, [x], x.shape, (), attributes, quantizes=quantizes)


def clip(b: Builder, x: Flow, low: float = 0.0, high: float = 6.0) -> Flow:
    """Add a Clip."""
    bounds = [b.constant(low, "float32"), b.constant(high, "float32")]
    return b.apply("Clip", [x], x.shape, bounds, quantizes=False)


def binary(b: Builder, op: str, x: Flow, y: Flow) -> Flow:
    """Add an elementwise operator of two inputs; the first is as large as the output."""
    integer = b.integer and op in {"Add", "Mul"}
    flows = [b.settled(x), b.settled(y)] if integer else [x, y]
    return b.apply(op, flows, x.shape, quantizes=integer)


def hard_swish(b: Builder, x: Flow, *, fused: bool = True) -> Flow:
    """Add x * HardSigmoid(x), as one operator or as the two that onnxruntime runs faster."""
    if fused:
        return b.apply("HardSwish", [x], x.shape, quantizes=False)
    gate = unary(b, "HardSigmoid", b.real(x), alpha=1 / 6)
    return binary(b, "Mul", x, gate)


def swish(b: Builder, x: Flow) -> Flow:
    """Add x * Sigmoid(x); one kernel in float."""
    return binary(b, "Mul", x, unary(b, "Sigmoid", x, quantizes=True))


def with_vector(b: Builder, op: str, x: Flow, axis: int) -> Flow:
    """Add an Add or Mul with one constant for each place of an axis."""
    shape = [n if i == axis else 1 for i, n in enumerate(x.shape)]
    values = np.resize(np.linspace(0.5, 1.0, 13), shape).astype(np.float32)
    constant = type(x)(b.parameter("v", values), tuple(shape))
    if b.integer:
        stored = b.parameter("v", np.resize(np.arange(90, 160), shape).astype(b.stored_type))
        constant = type(x)(stored, tuple(shape), b.zero)
    return binary(b, op, x, constant)


def local_norm(b: Builder, x: Flow) -> Flow:
    """Add an LRN over 5 channels."""
    return b.apply("LRN", [x], x.shape, (), {"size": 5}, quantizes=False)


def batch_norm(b: Builder, x: Flow) -> Flow:
    """Add a BatchNormalization that no convolution takes in."""
    size = x.shape[1]
    extra = [b.vector(size, 0.9, 1.1), b.vector(size), b.vector(size), b.vector(size, 0.9, 1.1)]
    return b.apply("BatchNormalization", [x], x.shape, extra, quantizes=False)


def rms_norm(b: Builder, x: Flow) -> Flow:
    """Add an RMSNormalization over the last axis (operator set 23)."""
    b.needs_opset(23)
    extra = [b.vector(x.shape[-1], 0.9, 1.1)]
    return b.apply("RMSNormalization", [x], x.shape, extra, {"axis": -1}, quantizes=False)


def attention(b: Builder, query: Flow, key: Flow, value: Flow) -> Flow:
    """Add one Attention over heads (operator set 23)."""
    b.needs_opset(23)
    return b.apply("Attention", [query, key, value], query.shape, quantizes=False)


def rotary(b: Builder, x: Flow) -> Flow:
    """Add a RotaryEmbedding of all features (operator set 23); tables are constants."""
    b.needs_opset(23)
    shape = (1, x.shape[2], x.shape[3] // 2)
    tables = [np.resize(np.linspace(low, 1, 17), shape).astype(np.float32) for low in (0.5, -1)]
    extra = [b.parameter("v", table) for table in tables]
    return b.apply("RotaryEmbedding", [x], x.shape, extra, quantizes=False)


def layer_norm(b: Builder, x: Flow) -> Flow:
    """Add a LayerNormalization over the last axis."""
    size = x.shape[-1]
    extra = [b.vector(size, 0.9, 1.1), b.vector(size)]
    return b.apply("LayerNormalization", [x], x.shape, extra, {"axis": -1}, quantizes=False)


def gelu(b: Builder, x: Flow) -> Flow:
    """Add x * Phi(x) as exporters write it; onnxruntime makes one kernel of it."""
    x = b.real(x)
    half = type(x)(b.constant(0.5, "float32"), ())
    root = type(x)(b.constant(2**0.5, "float32"), ())
    one = type(x)(b.constant(1.0, "float32"), ())

    def step(name: str, *flows: Flow) -> Flow:
        return b.apply(name, flows, x.shape, quantizes=False)

    erf = step("Erf", step("Div", x, root))
    return step("Mul", step("Mul", x, step("Add", erf, one)), half)


def softmax(b: Builder, x: Flow) -> Flow:
    """Add a Softmax over the last axis."""
    return b.apply("Softmax", [x], x.shape, (), {"axis": -1})


def reduce_mean(b: Builder, x: Flow, axes: Sequence[int]) -> Flow:
    """Add a mean that keeps its axes."""
    shape = [1 if i in axes else n for i, n in enumerate(x.shape)]
    attributes = {"axes": list(axes), "keepdims": 1}
    return b.apply("ReduceMean", [x], shape, (), attributes, quantizes=False)


def pool(b: Builder, op: str, x: Flow, kernel: int, stride: int) -> Flow:
    """Add a MaxPool or AveragePool."""
    pad = (kernel - 1) // 2
    sizes = [(n + 2 * pad - kernel) // stride + 1 for n in x.shape[2:]]
    attributes = {
        "kernel_shape": [kernel, kernel],
        "strides": [stride, stride],
        "pads": [pad] * 4,
    }
    return b.apply(op, [b.settled(x)], (*x.shape[:2], *sizes), (), attributes)


def window_mean(b: Builder, x: Flow) -> Flow:
    """Add an AveragePool whose window is the whole image."""
    attributes = {"kernel_shape": list(x.shape[2:])}
    return b.apply("AveragePool", [b.settled(x)], (*x.shape[:2], 1, 1), (), attributes)


def global_pool(b: Builder, x: Flow) -> Flow:
    """Add a GlobalAveragePool."""
    return b.apply("GlobalAveragePool", [b.settled(x)], (*x.shape[:2], 1, 1))


def reshape(b: Builder, x: Flow, *shape: int) -> Flow:
    """Add a Reshape."""
    return b.apply("Reshape", [x], shape, [b.constant(shape)])


def transpose(b: Builder, x: Flow, *axes: int) -> Flow:
    """Add a Transpose."""
    return b.apply("Transpose", [x], [x.shape[a] for a in axes], (), {"perm": list(axes)})


def concat(b: Builder, flows: Sequence[Flow], axis: int = 1) -> Flow:
    """Add a Concat."""
    shape = list(flows[0].shape)
    shape[axis] = sum(flow.shape[axis] for flow in flows)
    return b.apply("Concat", [b.settled(f) for f in flows], shape, (), {"axis": axis})


def cut(b: Builder, x: Flow, start: int, end: int, axis: int = 1) -> Flow:
    """Add a Slice."""
    shape = [end - start if i == axis else n for i, n in enumerate(x.shape)]
    extra = [b.constant([start]), b.constant([end]), b.constant([axis])]
    return b.apply("Slice", [x], shape, extra)


def split(b: Builder, x: Flow, count: int, axis: int) -> list[Flow]:
    """Add a Split into equal parts."""
    shape = [n // count if i == axis else n for i, n in enumerate(x.shape)]
    sizes = b.constant([shape[axis]] * count)
    made = b.node("Split", [b.real(x).value, sizes], {"axis": axis}, outputs=count)
    parts = [type(x)(value, tuple(shape)) for value in made]
    return [b.quantized(part, x.zero_point) if b.integer else part for part in parts]


def pad(b: Builder, x: Flow, width: int) -> Flow:
    """Add a Pad around images; runs in float."""
    shape = (*x.shape[:2], *(n + 2 * width for n in x.shape[2:]))
    sizes = b.constant([0, 0, width, width] * 2)
    return b.apply("Pad", [x], shape, [sizes], quantizes=False)


def resize(b: Builder, x: Flow, factor: int, mode: str = "nearest") -> Flow:
    """Add an enlarging Resize of images."""
    shape = (*x.shape[:2], *(n * factor for n in x.shape[2:]))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    scales = b.constant([1.0, 1.0, factor, factor], "float32")
    return b.apply("Resize", [x], shape, [None, scales], attributes, quantizes=mode == "nearest")


def recurrent(b: Builder, op: str, x: Flow, hidden: int) -> Flow:
    """Add an LSTM or GRU over [steps, batch, inputs] and drop its axis of directions."""
    gates = {"LSTM": 4, "GRU": 3}[op] * hidden
    real = b.real(x)
    operands = [
        real.value,
        b.weight(1, gates, x.shape[2], fan_in=x.shape[2]),
        b.weight(1, gates, hidden, fan_in=hidden),
        b.parameter("v", np.zeros((1, 2 * gates), np.float32)),
    ]
    (made,) = b.node(op, operands, {"hidden_size": hidden})
    steps, batch = x.shape[:2]
    sequence = type(x)(made, (steps, 1, batch, hidden))
    return b.apply(
        "Squeeze", [sequence], (steps, batch, hidden), [b.constant([1])], quantizes=False
    )


def packed_linear(b: Builder, x: Flow, outputs: int, bits: int, block: int = 32) -> Flow:
    """Add onnxruntime's product with weights of a few bits each."""
    inputs = x.shape[-1]
    blocks = inputs // block
    drawn = np.random.default_rng(1).integers(0, 256, PATTERN).astype(np.uint8)
    packed = np.resize(np.roll(drawn, b.unit), (outputs, blocks, block * bits // 8))
    scales = np.full(outputs * blocks, 0.1 / inputs**0.5, np.float32)
    attributes = {"K": inputs, "N": outputs, "bits": bits, "block_size": block}
    operands = [b.real(x).value, b.parameter("w", packed), b.parameter("s", scales)]
    shape = (*x.shape[:-1], outputs)
    (made,) = b.node("MatMulNBits", operands, attributes, "com.microsoft")
    made.shape = shape
    return type(x)(made, shape)


def spelled_attention(b: Builder, rows: Sequence[Flow], heads: int) -> Flow:
    """Add attention over queries, keys and values, each [1, length, width], and a product."""
    _, length, width = rows[0].shape
    part = width // heads
    split = [reshape(b, one, 1, length, heads, part) for one in rows]
    query, value = (transpose(b, split[i], 0, 2, 1, 3) for i in (0, 2))
    key = transpose(b, split[1], 0, 2, 3, 1)
    weights = softmax(b, matmul(b, query, key))
    joined = transpose(b, matmul(b, weights, value), 0, 2, 1, 3)
    return linear(b, reshape(b, joined, 1, length, width), width)
