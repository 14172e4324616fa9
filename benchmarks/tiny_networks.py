"""The four reference networks of MLPerf Tiny, float or int8 with Q and DQ, as graphs.

Layer shapes are those of mlcommons/tiny (benchmark/training/*): a ResNet-8 on CIFAR-10 (``ic``), a
MobileNet v1 of width 0.25 on 96 x 96 images (``vww``), a depthwise-separable CNN on 49 x 10 MFCC
(``kws``) and a fully connected autoencoder of 640 inputs (``ad``). Weights are ones: time on a
microcontroller does not depend on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import Graph
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Value

ACTIVATION_SCALE, WEIGHT_SCALE = 0.1, 0.01
Array = np.ndarray[Any, Any]


class TinyNetwork:
    """A network that grows at its end.

    Args:
        shape: of the input.
        integer: int8 with Q and DQ around every operator; else float.
    """

    def __init__(self, shape: tuple[int, ...], *, integer: bool) -> None:
        self.graph = Graph("tiny")
        self.graph.opsets = {"": 17}
        self.graph.ir_version = 8
        self.integer = integer
        start = self.graph.new_value("x")
        start.dtype, start.shape = DType.FLOAT, shape
        self.graph.add_input(start)
        self.shape = shape
        self.end: Value = self._quantized(start) if integer else start

    def conv(
        self,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        stride: int = 1,
        depthwise: bool = False,
        relu: bool = True,
    ) -> TinyNetwork:
        """Append a convolution, padded so that the size is divided by the stride, rounded up."""
        group = self.shape[1] if depthwise else 1
        sizes = [-(-size // stride) for size in self.shape[2:]]
        pads = [
            max((out - 1) * stride + k - size, 0)
            for out, k, size in zip(sizes, kernel, self.shape[2:], strict=True)
        ]
        attributes = {
            "kernel_shape": [*kernel],
            "pads": [p // 2 for p in pads] + [p - p // 2 for p in pads],
            "strides": [stride, stride],
            "group": group,
        }
        weights = np.ones((channels, self.shape[1] // group, *kernel), np.float32)
        self._append("Conv", [self._weights(weights, 0), self._bias(channels)], attributes)
        self.shape = (self.shape[0], channels, *sizes)
        return self._activated() if relu else self

    def dense(self, outputs: int, *, relu: bool = False) -> TinyNetwork:
        """Append a fully connected layer."""
        weights = np.ones((self.shape[1], outputs), np.float32)
        self._append("Gemm", [self._weights(weights, 1), self._bias(outputs)], {})
        self.shape = (self.shape[0], outputs)
        return self._activated() if relu else self

    def add(self, other: Value) -> TinyNetwork:
        """Append the sum with an earlier end."""
        self._append("Add", [self._dequantized(other) if self.integer else other], {})
        return self._activated()

    def classify(self, classes: int) -> TinyNetwork:
        """Append a global average, a fully connected layer and a Softmax."""
        self._append("GlobalAveragePool", [], {})
        self._append("Flatten", [], {})
        self.shape = self.shape[:2]
        self.dense(classes)
        return self._append("Softmax", [], {})

    def done(self) -> Graph:
        """Make the end the output."""
        self.graph.set_outputs([self._dequantized(self.end) if self.integer else self.end])
        return self.graph

    def _append(self, op: str, rest: list[Value | None], attributes: dict[str, Any]) -> TinyNetwork:
        source = self._dequantized(self.end) if self.integer else self.end
        node = self.graph.add_node(op, [source, *rest], attributes=attributes)
        node.name = node.outputs[0].name
        self.end = self._quantized(node.outputs[0]) if self.integer else node.outputs[0]
        return self

    def _activated(self) -> TinyNetwork:
        # In int8 the range of the output does it: the lowest integer stands for 0.
        return self if self.integer else self._append("Relu", [], {})

    def _quantized(self, value: Value) -> Value:
        inputs = [value, self._scale(), self.graph.add_constant("zero", np.array(-128, np.int8))]
        return self.graph.add_node("QuantizeLinear", inputs).outputs[0]

    def _dequantized(self, value: Value) -> Value:
        inputs = [value, self._scale(), self.graph.add_constant("zero", np.array(-128, np.int8))]
        return self.graph.add_node("DequantizeLinear", inputs).outputs[0]

    def _scale(self) -> Value:
        return self.graph.add_constant("scale", np.array(ACTIVATION_SCALE, np.float32))

    def _weights(self, values: Array, axis: int) -> Value:
        if not self.integer:
            return self.graph.add_constant("w", values)
        return self._stored(values.astype(np.int8), axis, values.shape[axis], WEIGHT_SCALE)

    def _bias(self, size: int) -> Value:
        if not self.integer:
            return self.graph.add_constant("b", np.zeros(size, np.float32))
        return self._stored(np.zeros(size, np.int32), 0, size, ACTIVATION_SCALE * WEIGHT_SCALE)

    def _stored(self, integers: Array, axis: int, size: int, scale: float) -> Value:
        inputs = [
            self.graph.add_constant("stored", integers),
            self.graph.add_constant("scales", np.full(size, scale, np.float32)),
            self.graph.add_constant("zeros", np.zeros(size, integers.dtype)),
        ]
        return self.graph.add_node("DequantizeLinear", inputs, attributes={"axis": axis}).outputs[0]


def image_classification(*, integer: bool) -> Graph:
    """Return ``ic``: ResNet-8, 12.5 million multiply-accumulates."""
    net = TinyNetwork((1, 3, 32, 32), integer=integer).conv(16)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        start, shape = net.end, net.shape
        net.conv(channels, stride=stride).conv(channels, relu=False)
        if stride > 1:
            main = net.end
            net.end, net.shape = start, shape
            net.conv(channels, (1, 1), stride=stride, relu=False)
            start, net.end = net.end, main
        net.add(start)
    return net.classify(10).done()


def visual_wake_words(*, integer: bool) -> Graph:
    """Return ``vww``: MobileNet v1 0.25 at 96 x 96, 7.5 million multiply-accumulates."""
    net = TinyNetwork((1, 3, 96, 96), integer=integer).conv(8, stride=2)
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    for channels, stride in [*plan, *[(128, 1)] * 5, (256, 2), (256, 1)]:
        net.conv(net.shape[1], stride=stride, depthwise=True).conv(channels, (1, 1))
    return net.classify(2).done()


def keyword_spotting(*, integer: bool) -> Graph:
    """Return ``kws``: DS-CNN on 49 x 10, 2.66 million multiply-accumulates."""
    net = TinyNetwork((1, 1, 49, 10), integer=integer).conv(64, (10, 4), stride=2)
    for _ in range(4):
        net.conv(64, depthwise=True).conv(64, (1, 1))
    return net.classify(12).done()


def anomaly_detection(*, integer: bool) -> Graph:
    """Return ``ad``: an autoencoder of ten layers, 0.264 million multiply-accumulates."""
    net = TinyNetwork((1, 640), integer=integer)
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        net.dense(width, relu=True)
    return net.dense(640).done()


NETWORKS = {
    "ic": image_classification,
    "vww": visual_wake_words,
    "kws": keyword_spotting,
    "ad": anomaly_detection,
}
