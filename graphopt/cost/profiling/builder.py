"""Builds networks of known shapes, in float or with Q and DQ around what integers can do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphopt.ir import Graph, infer_shapes
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Value

Precision = Literal["float32", "u8s8", "s8s8"]

PATTERN = 1021
"""Weights repeat after so many values: they are as random to a kernel, and pack well."""

_TYPES = {"float32": DType.FLOAT, "int64": DType.INT64}
_OPSET = 17
_IR_VERSION = 8
_NEW_IR_VERSION = 11
_STEP = 0.02
"""Scale of every activation."""

_SAME_SCALE = frozenset({"MaxPool", "Reshape", "Transpose", "Slice", "Resize", "Flatten"})
"""Operators that only move integers: scale and zero point stay."""


@dataclass(frozen=True)
class Flow:
    """A tensor on its way through the network.

    Args:
        value: of the graph; holds integers when ``zero_point`` is a number.
        shape: its sizes.
        zero_point: of its integers; None for floats.
    """

    value: Value
    shape: tuple[int, ...]
    zero_point: int | None = None


@dataclass
class Builder:
    """A graph under construction.

    Operators are named ``k{unit}_{number}``, and so are the tensors that they make: whatever the
    runtime fuses or renames, its kernels can be told apart.

    Args:
        name: of the graph.
        precision: float32, or integers: u8s8 and s8s8 say the types of activations and weights.
    """

    name: str
    precision: Precision = "float32"
    feeds: dict[str, dict[str, Any]] = field(default_factory=dict)
    unit: int = 0

    def __post_init__(self) -> None:
        self.graph = Graph(self.name)
        self.graph.ir_version = _IR_VERSION
        self.graph.opsets = {"": _OPSET, "com.microsoft": 1}
        self._number = 0
        self._weights = 0
        self._constants: dict[tuple[Any, ...], Value] = {}

    @property
    def integer(self) -> bool:
        """Whether what can be is computed with integers."""
        return self.precision != "float32"

    @property
    def zero(self) -> int:
        """Zero point of activations."""
        return 0 if self.precision == "s8s8" else 128

    @property
    def stored_type(self) -> str:
        """Element type of integer activations."""
        return "int8" if self.precision == "s8s8" else "uint8"

    def needs_opset(self, version: int) -> None:
        """Use an operator set of at least this version."""
        if self.graph.opsets[""] < version:
            self.graph.opsets[""] = version
            self.graph.ir_version = max(self.graph.ir_version, _NEW_IR_VERSION)

    def next_unit(self) -> None:
        """Start another unit: operators count from 0 again."""
        self.unit += 1
        self._number = 0

    # -- tensors -----------------------------------------------------------------------------

    def input(
        self, *shape: int, dtype: str = "float32", low: float = -1.0, high: float = 1.0
    ) -> Flow:
        """Add an input and say what it is fed with."""
        name = f"x{len(self.feeds)}"
        value = self.graph.new_value(name)
        value.dtype, value.shape = _TYPES[dtype], shape
        self.graph.add_input(value)
        self.feeds[name] = {"dtype": dtype, "shape": list(shape), "low": low, "high": high}
        return Flow(value, shape)

    def weight(self, *shape: int, fan_in: int = 0) -> Value:
        """Add float weights of variance 2 / fan_in, so that signals neither grow nor die out."""
        self._weights += 1
        drawn = _pattern(self._weights) * np.float32(math.sqrt(2.0 / max(fan_in, 1)))
        return self.parameter("w", np.resize(drawn, shape))

    def vector(self, size: int, low: float = -0.1, high: float = 0.1) -> Value:
        """Add a float vector."""
        return self.parameter("v", np.resize(np.linspace(low, high, 13), size).astype(np.float32))

    def constant(self, array: Any, dtype: str = "int64") -> Value:
        """Return a small constant; equal ones are the same value."""
        made = np.asarray(array, dtype=dtype)
        key = (dtype, made.shape, made.tobytes())
        if key not in self._constants:
            self._constants[key] = self.parameter("c", made)
        return self._constants[key]

    def finish(self, *outputs: Flow) -> Graph:
        """Make these the outputs, in float, and return the graph with its shapes."""
        self.graph.set_outputs([self.real(flow).value for flow in outputs])
        infer_shapes(self.graph)
        return self.graph

    def parameter(self, prefix: str, array: Any) -> Value:
        """Add any constant, under a name that begins like this."""
        return self.graph.add_constant(self.graph.unique_name(prefix), array)

    # -- operators ---------------------------------------------------------------------------

    def node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        domain: str = "",
        outputs: int = 1,
    ) -> tuple[Value, ...]:
        """Add one operator under the next name of its unit."""
        name = f"k{self.unit}_{self._number}_{op}"
        self._number += 1
        made = [f"{name}_out{i or ''}" for i in range(outputs)]
        return self.graph.add_node(op, inputs, made, attributes or {}, name, domain).outputs

    def apply(
        self,
        op: str,
        flows: Sequence[Flow],
        shape: Sequence[int],
        extra: Sequence[Value | None] = (),
        attributes: Mapping[str, Any] | None = None,
        *,
        quantizes: bool = True,
    ) -> Flow:
        """Add an operator on activations.

        Args:
            op: of the default operator set.
            flows: its data inputs.
            shape: of its output.
            extra: further inputs, constants.
            attributes: of the node.
            quantizes: whether there is an integer kernel for it.
        """
        inputs = [self.real(flow).value for flow in flows]
        (made,) = self.node(op, [*inputs, *extra], attributes)
        result = Flow(made, tuple(shape))
        if not (self.integer and quantizes):
            return result
        keeps = op in _SAME_SCALE and flows[0].zero_point is not None
        return self.quantized(result, flows[0].zero_point if keeps else None)

    def quantized(self, flow: Flow, zero_point: int | None = None) -> Flow:
        """Return a tensor as integers."""
        if flow.zero_point is not None:
            return flow
        zero = self.zero if zero_point is None else zero_point
        (made,) = self.node("QuantizeLinear", [flow.value, *self._scale(zero)])
        return Flow(made, flow.shape, zero)

    def real(self, flow: Flow) -> Flow:
        """Return a tensor as floats."""
        if flow.zero_point is None:
            return flow
        (made,) = self.node("DequantizeLinear", [flow.value, *self._scale(flow.zero_point)])
        return Flow(made, flow.shape)

    def settled(self, flow: Flow) -> Flow:
        """Return a tensor in the precision of the network."""
        return self.quantized(flow) if self.integer else flow

    def _scale(self, zero: int) -> tuple[Value, Value]:
        return self.constant(_STEP, "float32"), self.constant(zero, self.stored_type)

    def product(
        self,
        op: str,
        flow: Flow,
        weight: tuple[int, ...],
        shape: Sequence[int],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 0,
        fan_in: int = 1,
        activation: str = "",
        real: bool = False,
    ) -> Flow:
        """Add a convolution or matrix product with weights and, unless ``outputs`` is 0, a bias.

        Args:
            op: Conv, Gemm, MatMul or ConvTranspose.
            flow: its data.
            weight: sizes of its weights.
            shape: of its output.
            attributes: of the node.
            outputs: entries of the bias.
            fan_in: products behind one output.
            activation: "Relu" or "Clip" behind it.
            real: leave the result in float, with a vector that is subtracted there.
        """
        flow = self.settled(flow)
        operands = [self.real(flow).value, self._stored(weight, fan_in, axis=_axis(op, attributes))]
        if outputs:
            operands.append(self._bias(outputs))
        (made,) = self.node(op, operands, attributes)
        if activation:
            limits = (0.0, 6.0) if activation == "Clip" else ()
            bounds = [self.constant(limit, "float32") for limit in limits]
            (made,) = self.node(activation, [made, *bounds])
        if real:
            (made,) = self.node("Sub", [made, self.vector(shape[-1])])
        result = Flow(made, tuple(shape))
        if not self.integer or real:
            return result
        lowest = -128 if self.precision == "s8s8" else 0
        return self.quantized(result, lowest if activation else None)

    def _stored(self, shape: tuple[int, ...], fan_in: int, axis: int) -> Value:
        if not self.integer:
            return self.weight(*shape, fan_in=fan_in)
        self._weights += 1
        drawn = np.clip(np.rint(_pattern(self._weights) * 40), -127, 127).astype(np.int8)
        stored = self.parameter("w", np.resize(drawn, shape))
        step = np.full(shape[axis], math.sqrt(2.0 / fan_in) / 64, np.float32)
        scale, zero = self.parameter("s", step), self.parameter("z", np.zeros(shape[axis], np.int8))
        return self.node("DequantizeLinear", [stored, scale, zero], {"axis": axis})[0]

    def _bias(self, size: int) -> Value:
        if not self.integer:
            return self.vector(size)
        weights = self.graph.nodes("DequantizeLinear")[-1].inputs[1]
        assert weights is not None
        values = np.resize(np.arange(-50, 50), size).astype(np.int32)
        scale = self.parameter("s", weights.array() * np.float32(_STEP))
        zero = self.parameter("z", np.zeros(size, np.int32))
        stored = self.parameter("b", values)
        return self.node("DequantizeLinear", [stored, scale, zero], {"axis": 0})[0]


@cache
def _drawn() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(PATTERN).astype(np.float32)


def _pattern(start: int) -> np.ndarray[Any, Any]:
    """Return the values that weights repeat, from another one on for each of them."""
    return np.roll(_drawn(), -31 * start)


def _axis(op: str, attributes: Mapping[str, Any] | None) -> int:
    """Return the axis of a weight that its outputs run over."""
    if op == "Conv" or (op == "Gemm" and (attributes or {}).get("transB")):
        return 0
    return 1
