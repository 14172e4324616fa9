"""Four small networks with random weights, one of each kind that quantizers treat differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
OPSET = 17


@dataclass
class Builder:
    """Collects nodes and weights; names come from a counter, weights from a seeded generator."""

    channels: int = 16
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, *shape: int, gain: float = 1.0) -> str:
        """Store a random weight and return its name."""
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = self.random.standard_normal(shape) * gain / np.sqrt(max(fan, 1))
        return self.constant(values.astype(np.float32))

    def constant(self, values: Array) -> str:
        """Store values and return their name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return its output."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(self, x: str, cin: int, cout: int, k: int = 3, *, s: int = 1, groups: int = 1) -> str:
        """Append a convolution with bias, padded to keep the size."""
        w = self.weight(cout, cin // groups, k, k, gain=1.4)
        b = self.constant(self.random.standard_normal(cout).astype(np.float32) * 0.1)
        pads, strides = [k // 2] * 4, [s, s]
        return self.op("Conv", x, w, b, pads=pads, strides=strides, group=groups)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """Append MatMul and Add of a vector."""
        w = self.weight(inputs, outputs)
        b = self.constant(self.random.standard_normal(outputs).astype(np.float32) * 0.1)
        return self.op("Add", self.op("MatMul", x, w), b)

    def model(self, output: str, shape: list[Any], outputs: list[Any]) -> onnx.ModelProto:
        """Return the model with input ``x`` and this output, checked and with shapes inferred."""
        self.nodes.append(helper.make_node("Identity", [output], ["y"], name="last"))
        graph = helper.make_graph(
            self.nodes,
            "toy",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
            self.weights,
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )
        onnx.checker.check_model(made)
        return onnx.shape_inference.infer_shapes(made)


def resnet(channels: int = 16, size: int = 16) -> onnx.ModelProto:
    """Return ten products: a stem, four residual blocks with Relu, a linear head."""
    b, c = Builder(channels), channels
    x = b.op("Relu", b.conv("x", 3, c))
    for _ in range(4):
        inner = b.conv(b.op("Relu", b.conv(x, c, c)), c, c)
        x = b.op("Relu", b.op("Add", inner, x))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    head = b.constant(np.zeros(10, np.float32))
    return b.model(b.op("Gemm", pooled, b.weight(c, 10), head), [1, 3, size, size], [1, 10])


def mobilenet(channels: int = 16, size: int = 16) -> onnx.ModelProto:
    """Return MobileNetV3-like blocks: HardSwish, depthwise, squeeze and excite."""
    b, c = Builder(channels), channels
    x = b.op("HardSwish", b.conv("x", 3, c, s=2))
    for _ in range(4):
        wide = b.op("HardSwish", b.conv(x, c, 2 * c, 1))
        deep = b.op("HardSwish", b.conv(wide, 2 * c, 2 * c, 3, groups=2 * c))
        squeezed = b.op("Relu", b.conv(b.op("GlobalAveragePool", deep), 2 * c, 8, 1))
        gate = b.op("HardSigmoid", b.conv(squeezed, 8, 2 * c, 1), alpha=1 / 6, beta=0.5)
        x = b.op("Add", b.conv(b.op("Mul", deep, gate), 2 * c, c, 1), x)
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    head = b.constant(np.zeros(10, np.float32))
    return b.model(b.op("Gemm", pooled, b.weight(c, 10), head), [1, 3, size, size], [1, 10])


def yolo(channels: int = 16, size: int = 16) -> onnx.ModelProto:
    """Return YOLO-like stages: SiLU as x * sigmoid(x), Concat of branches, MaxPool, Resize."""
    b, c = Builder(channels), channels

    def silu(x: str) -> str:
        return b.op("Mul", x, b.op("Sigmoid", x))

    x = silu(b.conv("x", 3, c))
    for _ in range(3):
        left = silu(b.conv(x, c, c // 2, 1))
        right = silu(b.conv(silu(b.conv(x, c, c // 2, 1)), c // 2, c // 2))
        x = silu(b.conv(b.op("Concat", left, right, axis=1), c, c, 1))
    pooled = b.op("MaxPool", x, kernel_shape=[5, 5], pads=[2, 2, 2, 2])
    return b.model(
        b.conv(b.op("Concat", x, pooled, axis=1), 2 * c, 8, 1),
        [1, 3, size, size],
        [1, 8, size, size],
    )


def transformer(width: int = 32, length: int = 8, layers: int = 2) -> onnx.ModelProto:
    """Return encoder layers: attention, layer norm, Gelu; eight products each."""
    b, d = Builder(), width
    x = "x"
    for _ in range(layers):
        q, k, v = (b.linear(x, d, d) for _ in range(3))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1]))
        scaled = b.op("Div", scores, b.constant(np.float32(d**0.5)))
        mixed = b.op("MatMul", b.op("Softmax", scaled, axis=-1), v)
        x = _normed(b, b.op("Add", b.linear(mixed, d, d), x), d)
        hidden = b.linear(x, d, 4 * d)
        gate = b.op("Erf", b.op("Div", hidden, b.constant(np.float32(2**0.5))))
        gelu = b.op("Mul", hidden, b.op("Add", gate, b.constant(np.float32(1))))
        x = _normed(b, b.op("Add", b.linear(gelu, 4 * d, d), x), d)
    return b.model(x, [1, length, d], [1, length, d])


def _normed(b: Builder, x: str, width: int) -> str:
    scale = b.constant(np.ones(width, np.float32))
    shift = b.constant(np.zeros(width, np.float32))
    return b.op("LayerNormalization", x, scale, shift, axis=-1)


NETWORKS = {
    "resnet": resnet,
    "mobilenet": mobilenet,
    "yolo": yolo,
    "transformer": transformer,
}


def samples(model: onnx.ModelProto, count: int = 8) -> list[dict[str, Array]]:
    """Return seeded standard normal inputs."""
    random = np.random.default_rng(1)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]
