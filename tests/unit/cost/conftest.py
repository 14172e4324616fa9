"""Networks for cost tests, float and quantized, built layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt.cost import Roofline
from graphopt.ir import Graph
from graphopt.targets import builtin_targets
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.cost import Estimate
    from graphopt.ir import Value
    from graphopt.targets import Target

ACTIVATION_SCALE, WEIGHT_SCALE = 0.1, 0.01


class Net:
    """A network that grows at its end; ``dtype`` None builds it in float, else with Q and DQ."""

    def __init__(self, shape: tuple[int, ...], dtype: DType | None = None) -> None:
        self.graph = Graph("net")
        self.graph.opsets = {"": 17}
        self.graph.ir_version = 8
        self.dtype = dtype
        start = self.graph.new_value("x")
        start.dtype, start.shape = DType.FLOAT, shape
        self.graph.add_input(start)
        self.shape = shape
        self.end: Value = start
        if dtype is not None:
            self.end = self._quantize(start)

    def conv(self, out: int, kernel: int | tuple[int, int] = 3, **options: Any) -> Net:
        """Append Conv, padded, with a Relu unless ``relu`` is False."""
        stride, group = options.get("stride", 1), options.get("group", 1)
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        weights = np.ones((out, self.shape[1] // group, height, width), np.float32)
        top, left = (height - 1) // 2, (width - 1) // 2
        attributes = {
            "kernel_shape": [height, width],
            "pads": [top, left, height - 1 - top, width - 1 - left],
            "strides": [stride, stride],
            "group": group,
        }
        bias = self._bias(out)
        self._operator(
            "Conv", [self._weights(weights, 0), bias], attributes, options.get("relu", True)
        )
        spatial = [-(-d // stride) for d in self.shape[2:]]
        self.shape = (self.shape[0], out, *spatial)
        return self

    def dense(self, out: int, *, relu: bool = False) -> Net:
        """Append a Gemm."""
        weights = np.ones((self.shape[1], out), np.float32)
        self._operator("Gemm", [self._weights(weights, 1), self._bias(out)], {}, relu)
        self.shape = (self.shape[0], out)
        return self

    def matmul(self, out: int) -> Net:
        """Append a MatMul by a constant."""
        weights = np.ones((self.shape[-1], out), np.float32)
        self._operator("MatMul", [self._weights(weights, 1)], {}, False)
        self.shape = (*self.shape[:-1], out)
        return self

    def operator(self, op: str, **attributes: Any) -> Net:
        """Append an operator of one input that keeps the shape."""
        self._operator(op, [], attributes, False)
        return self

    def add(self, other: Value) -> Net:
        """Append an Add of an earlier end."""
        source = other if self.dtype is None else self._dequantize(other)
        self._operator("Add", [source], {}, False)
        return self

    def pool_and_flatten(self) -> Net:
        """Append a global average and a Flatten."""
        self.operator("GlobalAveragePool").operator("Flatten")
        self.shape = self.shape[:2]
        return self

    def done(self) -> Graph:
        """Make the end the output."""
        end = self.end if self.dtype is None else self._dequantize(self.end)
        self.graph.set_outputs([end])
        return self.graph

    def _operator(
        self, op: str, rest: list[Value | None], attributes: dict[str, Any], relu: bool
    ) -> None:
        source = self.end if self.dtype is None else self._dequantize(self.end)
        node = self.graph.add_node(op, [source, *rest], attributes=attributes)
        node.name = node.outputs[0].name
        self.end = node.outputs[0]
        if relu:
            self.end = self.graph.add_node("Relu", [self.end]).outputs[0]
        if self.dtype is not None:
            self.end = self._quantize(self.end)

    def _zero(self) -> Value:
        # The lowest integer: every tensor is taken to be positive, so that Relu is redundant.
        lowest = -128 if self.dtype is DType.INT8 else 0
        kind = np.int8 if self.dtype is DType.INT8 else np.uint8
        return self.graph.add_constant("zero", np.array(lowest, kind))

    def _quantize(self, value: Value) -> Value:
        scale = self.graph.add_constant("scale", np.array(ACTIVATION_SCALE, np.float32))
        return self.graph.add_node("QuantizeLinear", [value, scale, self._zero()]).outputs[0]

    def _dequantize(self, value: Value) -> Value:
        scale = self.graph.add_constant("scale", np.array(ACTIVATION_SCALE, np.float32))
        return self.graph.add_node("DequantizeLinear", [value, scale, self._zero()]).outputs[0]

    def _weights(self, values: np.ndarray[Any, Any], axis: int) -> Value:
        if self.dtype is None:
            return self.graph.add_constant("w", values)
        return self._stored(values.astype(np.int8), axis, values.shape[axis], WEIGHT_SCALE)

    def _bias(self, size: int) -> Value:
        if self.dtype is None:
            return self.graph.add_constant("b", np.zeros(size, np.float32))
        return self._stored(np.zeros(size, np.int32), 0, size, ACTIVATION_SCALE * WEIGHT_SCALE)

    def _stored(self, integers: np.ndarray[Any, Any], axis: int, size: int, scale: float) -> Value:
        inputs = [
            self.graph.add_constant("stored", integers),
            self.graph.add_constant("scales", np.full(size, scale, np.float32)),
            self.graph.add_constant("zeros", np.zeros(size, integers.dtype)),
        ]
        return self.graph.add_node("DequantizeLinear", inputs, attributes={"axis": axis}).outputs[0]


@pytest.fixture
def net() -> type[Net]:
    return Net


@pytest.fixture
def targets() -> dict[str, Target]:
    return {target.name: target for target in builtin_targets()}


@pytest.fixture
def estimate(targets: dict[str, Target]) -> Callable[..., Estimate]:
    def run(graph: Graph, target: str = "x86-avx512-vnni", **dims: int) -> Estimate:
        return Roofline(dims).estimate(graph, targets[target])

    return run


@pytest.fixture
def gain(estimate: Callable[..., Estimate]) -> Callable[..., float]:
    """Return a function: latency of a network in float over its latency in integers."""

    def run(build: Callable[[Net], Net], shape: tuple[int, ...], target: str) -> float:
        signed = target.startswith(("arm", "cortex"))
        integers = build(Net(shape, DType.INT8 if signed else DType.UINT8)).done()
        floats = build(Net(shape)).done()
        slow = estimate(floats, target).latency_ms.value
        return slow / estimate(integers, target).latency_ms.value

    return run


@pytest.fixture(scope="session")
def net_type() -> type[Net]:
    """Return the builder for hypothesis tests, which want fixtures that live long."""
    return Net
