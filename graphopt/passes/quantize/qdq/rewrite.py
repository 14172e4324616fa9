"""Write QuantizeLinear and DequantizeLinear where the runtime looks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.saturation import adds_pairs
from graphopt.ir import Tensor
from graphopt.passes.quantize.qdq.lower import lower, scale_factor
from graphopt.passes.quantize.qdq.operands import (
    bias_add_after,
    data_inputs,
    multiplies_activations,
)
from graphopt.passes.quantize.qdq.parameters import (
    activation_params,
    coarser_outputs,
    mean_error,
    quantize,
    quantize_bias,
    quantize_weight,
    separates_pairs,
    weight_params,
)
from graphopt.types import DType, QuantParams

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.quantize.qdq.existing import Given
    from graphopt.passes.quantize.qdq.placement import Placement, Unit
    from graphopt.passes.recover.layers.inputs import LayerInputs
    from graphopt.targets.base import QuantizationRules

    Array = np.ndarray[Any, Any]
    Remember = Callable[[Hashable, Callable[[], Any]], Any]

_REQUANTIZED = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Float operators between DQ and Q that onnxruntime quantizes on its own when it loads a model."""

_MOVED_OVER = frozenset(
    {"Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose",
     "Pad", "Unsqueeze"}
)  # fmt: skip
"""Operators over which it moves a DQ forward or a Q backward, or which it drops."""

_MERGED = _MOVED_OVER | {"Add", "BatchNormalization", "Clip", "Mul", "Relu"}
"""Operators behind a float product that do not hide the Q after them."""

_SHAPE_ONLY = frozenset({"Shape", "Size"})
"""Operators that any element type will do for."""


class Rewriter:
    """Inserts Q and DQ for one placement; every quantized tensor gets one Q."""

    def __init__(
        self,
        graph: Graph,
        placement: Placement,
        params: Mapping[Value, QuantParams],
        rules: QuantizationRules,
        remember: Remember,
        inputs: Mapping[Node, LayerInputs] | None = None,
        given: Mapping[Value, Given] | None = None,
    ) -> None:
        self.graph = graph
        self.placement = placement
        self.params = params
        self.rules = rules
        self.remember = remember
        self.inputs = inputs or {}
        self.given = given or {}
        self.search_scales = False
        self.protected: list[Node] = []
        self.coarser: dict[Node, Array] = {}
        self._constants: dict[tuple[str, QuantParams], tuple[Value, Value]] = {}
        self._weights: dict[tuple[Value, QuantParams], Value] = {}

    def run(self) -> int:
        """Rewrite the graph; return how many Q and DQ nodes were added."""
        before = len(self.graph.nodes())
        sources = self.placement.by_output()
        for unit in list(self.placement.units.values()):
            self._quantize_parameters(unit)
        for value in self.params:
            source = sources.get(value)
            writes = source is not None and self.placement.needs_integer_output(source)
            self._quantize_activation(value, writes)
        lower(self.graph, self.placement.units.values(), self.rules)
        self.graph.sort()
        return len(self.graph.nodes()) - before

    # -- activations -----------------------------------------------------------------------

    def _quantize_activation(self, value: Value, written_as_integer: bool) -> None:
        uses = value.uses
        integer = [(n, i) for n, i in uses if self._is_integer_use(n, i)]
        others = [use for use in uses if use not in integer] if written_as_integer else []
        returned = value.is_output and written_as_integer
        name = value.name
        if returned:
            self.graph.rename(value, self.graph.unique_name(f"{name}_float"))
        params = self.params[value]
        scale, zero = self._scale_and_zero(name, params)
        stored = self._add("QuantizeLinear", name, "quantized", [value, scale, zero])
        for node, index in integer:
            node.set_input(index, self._dequantize(name, stored, params))
        shared: Value | None = None
        for node, index in others:
            if node.op in _SHAPE_ONLY:
                node.set_input(index, stored)
                continue
            requantized = self._requantized(node, index)
            if requantized:
                node.set_input(index, self._protect(name, stored, params, requantized, value))
                continue
            shared = shared or self._dequantize(name, stored, params)
            held = node in self.placement.held and self._would_fuse(node)
            node.set_input(index, self._hide(shared) if held else shared)
        if returned:
            self._return(value, name, self._dequantize(name, stored, params))

    def _is_integer_use(self, node: Node, index: int) -> bool:
        return node in self.placement.units and any(i == index for i, _ in data_inputs(node))

    def _return(self, value: Value, name: str, result: Value) -> None:
        self.graph.rename(result, name)
        result.dtype, result.shape, result.source = value.dtype, value.shape, value.source
        self.graph.set_outputs(result if v is value else v for v in self.graph.outputs)

    def _requantized(self, node: Node, index: int) -> list[Node]:
        """Return the float products that a DQ at this input would let the runtime quantize.

        None where the same DQ also reaches an operator that could not take one per channel.
        """
        found: list[Node] = []
        stack = [(node, index)]
        while stack:
            reader, position = stack.pop()
            if reader in self.placement.units or position != 0:
                return []
            if reader.op in _MOVED_OVER:
                stack += reader.outputs[0].uses
            elif reader.op not in _REQUANTIZED:
                return []
            elif self._leads_to_q(reader):
                found.append(reader)
        return found

    def _leads_to_q(self, node: Node) -> bool:
        """Whether nothing that stays float stands between the node and a Q that is inserted."""
        output = node.outputs[0]
        while output not in self.params:
            readers = output.consumers
            if len(readers) != 1 or readers[0].op not in _MERGED:
                return False
            output = readers[0].outputs[0]
        return True

    def _would_fuse(self, node: Node) -> bool:
        """Whether the runtime would find a float operator between DQs and a Q, and fuse it."""
        for _, value in data_inputs(node):
            source = value.producer
            if value not in self.params and (source is None or source.op != "DequantizeLinear"):
                return False
        output = node.outputs[0]
        while output not in self.params:
            readers = output.consumers
            if len(readers) != 1 or readers[0].op not in _MOVED_OVER | {"Clip", "Relu"}:
                return False
            output = readers[0].outputs[0]
        return True

    def _protect(
        self, name: str, stored: Value, params: QuantParams, nodes: list[Node], value: Value
    ) -> Value:
        """Dequantize per channel, with equal scales: same values, but left in float at load."""
        channels = value.shape[1] if value.shape is not None and len(value.shape) > 1 else None
        self.protected += nodes
        if not isinstance(channels, int):
            return self._hide(self._dequantize(name, stored, params))
        wide = QuantParams(params.scale * channels, params.zero_point * channels, params.dtype, 1)
        return self._dequantize(name, stored, wide)

    def _hide(self, value: Value) -> Value:
        """Return the same values from an operator that the runtime does not fuse with a DQ."""
        lowest = np.array(np.finfo(np.float32).min, dtype=np.float32)
        bound = self.graph.add_constant(f"{value.name}_lowest", Tensor.from_array(lowest))
        name = self.graph.unique_name(f"{value.name}_hidden")
        return self.graph.add_node("Max", [value, bound], [name], name=f"Max_{name}").outputs[0]

    def _dequantize(self, name: str, stored: Value, params: QuantParams) -> Value:
        scale, zero = self._scale_and_zero(name, params)
        return self._add("DequantizeLinear", name, "dequantized", [stored, scale, zero], params)

    # -- weights, biases, constants --------------------------------------------------------

    def _quantize_parameters(self, unit: Unit) -> None:
        node = unit.node
        if unit.rule.role != "heavy":
            self._quantize_constants(node)
        elif node.op != "MatMul" or not multiplies_activations(node):
            self._quantize_product(node)
        if node.op == "MatMul" and not self.placement.needs_integer_output(unit):
            self._lift_bias(node)

    def _quantize_constants(self, node: Node) -> None:
        if scale_factor(node) is not None:
            return
        for index, value in data_inputs(node):
            if value.is_constant:
                node.set_input(index, self._constant_operand(value))

    def _quantize_product(self, node: Node) -> None:
        """Quantize the weight of a product, and its bias."""
        source = node.inputs[0]
        assert source is not None
        input_params = self.params[source]
        axis = _output_axis(node)
        weight = node.inputs[1]
        assert weight is not None
        array = weight.array()
        bias = _flat_bias(node, array.shape[axis])
        per_channel = axis if self.rules.per_channel else None
        kept = self._kept(weight, axis)
        params = kept.params if kept is not None else None
        step = input_params.scale[0]
        pairs = adds_pairs(node) and separates_pairs(self.rules)
        if pairs and kept is None:
            self.coarser[node] = coarser_outputs(array, axis)
        params = params or weight_params(
            array,
            per_channel,
            self.rules,
            bias,
            step,
            search=self.search_scales,
            pairs=pairs,
            output_axis=axis,
        )
        assert weight.tensor is not None
        seen = self.inputs.get(node) if kept is None else None
        token = None if seen is None else (seen.token, bias is not None, step)
        key = ("quantized weight", weight.tensor.digest(), axis, params, token, pairs)

        def rounded() -> Array:
            moments = None if seen is None else seen.moments(bias is not None, step)
            return quantize_weight(array, axis, params, moments, pairs=pairs)

        def integers() -> Array:
            return kept.integers if kept is not None else self.remember(key, rounded)

        stored = self._stored(weight, params, integers)
        self._replace(node, 1, weight, self._dequantize(weight.name, stored, params))
        if bias is not None:
            if seen is not None:
                bias = bias - mean_error(array, stored.array(), axis, params, seen.mean)
            self._quantize_bias(node, bias, input_params, params)

    def _stored(self, value: Value, params: QuantParams, make: Callable[[], Array]) -> Value:
        """Return the integers of a constant; constants that are shared are stored once."""
        stored = self._weights.get((value, params))
        if stored is None:
            stored = self.graph.add_constant(f"{value.name}_quantized", make())
            self._weights[value, params] = stored
        return stored

    def _kept(self, weight: Value, axis: int) -> Given | None:
        """Return the integers that the model came with, where a kernel takes their scales."""
        kept = self.given.get(weight)
        return kept if kept is not None and kept.params.axis in {None, axis} else None

    def _constant_operand(self, value: Value) -> Value:
        array = value.array()
        kept = self.given.get(value)
        if kept is not None and kept.params.axis is None:
            params = kept.as_activation(self.rules).params
            integers = kept.as_activation(self.rules).integers
            stored = self._stored(value, params, lambda: integers)
            return self._dequantize(value.name, stored, params)
        params = activation_params(float(array.min()), float(array.max()), self.rules)
        stored = self._stored(value, params, lambda: quantize(array, params))
        return self._dequantize(value.name, stored, params)

    def _quantize_bias(
        self,
        node: Node,
        bias: Array,
        source: QuantParams,
        weight: QuantParams,
    ) -> None:
        old = node.inputs[2]
        assert old is not None
        products = np.float32(source.scale[0]) * np.array(weight.scale, dtype=np.float32)
        axis = None if weight.axis is None else 0
        params = QuantParams(
            tuple(float(s) for s in products), (0,) * len(products), DType.INT32, axis
        )
        stored = self.graph.add_constant(
            f"{old.name}_quantized", quantize_bias(bias, np.asarray(products))
        )
        self._replace(node, 2, old, self._dequantize(old.name, stored, params))

    def _lift_bias(self, node: Node) -> None:
        """Give the bias after a MatMul the rank of its output, so that the two stay apart."""
        add = bias_add_after(node)
        if add is None:
            return
        rank = len(node.outputs[0].shape or ())
        index = 0 if add.inputs[1] is node.outputs[0] else 1
        bias = add.inputs[index]
        assert bias is not None
        lifted = bias.array().reshape([1] * (rank - 1) + [-1])
        self._replace(add, index, bias, self.graph.add_constant(f"{bias.name}_lifted", lifted))

    # -- writing ---------------------------------------------------------------------------

    def _replace(self, node: Node, index: int, old: Value, new: Value) -> None:
        node.set_input(index, new)
        self.graph.drop_constant(old)

    def _scale_and_zero(self, name: str, params: QuantParams) -> tuple[Value, Value]:
        key = (name, params)
        if key not in self._constants:
            scale = np.array(params.scale, dtype=np.float32)
            zero = np.array(params.zero_point, dtype=params.dtype.numpy_name)
            if params.axis is None:
                # onnxruntime refuses to load [1]-shaped parameters of activations.
                scale, zero = scale.reshape(()), zero.reshape(())
            self._constants[key] = (
                self.graph.add_constant(f"{name}_scale", Tensor.from_array(scale)),
                self.graph.add_constant(f"{name}_zero_point", Tensor.from_array(zero)),
            )
        return self._constants[key]

    def _add(
        self,
        op: str,
        name: str,
        suffix: str,
        inputs: list[Value],
        params: QuantParams | None = None,
    ) -> Value:
        axis = params.axis if params is not None else None
        output = self.graph.unique_name(f"{name}_{suffix}")
        attributes = {} if axis is None else {"axis": axis}
        node = self.graph.add_node(op, inputs, [output], attributes, name=f"{op}_{output}")
        return node.outputs[0]


def _output_axis(node: Node) -> int:
    """Return the axis of the weight that runs over output channels."""
    if node.op == "Gemm":
        return 0 if node.attribute("transB", 0) else 1
    return 0 if node.op == "Conv" else 1


def _flat_bias(node: Node, channels: int) -> Array | None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return None
    values = np.asarray(bias.array(), dtype=np.float64).reshape(-1)
    return np.broadcast_to(values, (channels,))
