"""Integer kernels: which operators between DequantizeLinear and QuantizeLinear run as integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis import only_consumer
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Node, Value
    from graphopt.targets.base import Target
    from graphopt.targets.fusion import FusionRule, FusionTable

_EIGHT_BITS = (None, DType.INT8, DType.UINT8)
_WEIGHT_TYPES = (*_EIGHT_BITS, DType.INT4, DType.UINT4, DType.INT2, DType.UINT2)
_BIAS = 2
"""Position of the bias of Conv and Gemm."""

_BIAS_TOLERANCE = 0.02
"""Relative error of the bias scale; onnxruntime takes 1 % and refuses 5 %."""


@dataclass(frozen=True)
class IntegerGroup:
    """One operator with the Q and DQ that the runtime fuses into its integer kernel."""

    node: Node
    kernel: str
    dequantized: tuple[Node, ...]
    absorbed: tuple[Node, ...]
    quantized: tuple[Node, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Everything that the kernel covers, in order of execution."""
        return (*self.dequantized, self.node, *self.absorbed, *self.quantized)


def integer_group(node: Node, table: FusionTable, target: Target) -> IntegerGroup | None:
    """Return the integer kernel that executes ``node``, or None where it runs in float.

    The conditions are those of onnxruntime's QDQ selectors: every data input is dequantized from
    8 bits per tensor, everything that reads the output quantizes it, and operators that only move
    data keep scale and zero point.
    """
    rule = table.rule(node.op, node.domain)
    if rule is None or rule.role == "absorbed" or node.graph.opset < rule.min_opset:
        return None
    if any(node.attribute(name) != value for name, value in rule.attributes.items()):
        return None
    dequantized = _dequantized(node, rule)
    if not dequantized:
        return None
    if not _signs_fit(dequantized[0], target):
        return None
    tail = _tail(node)
    if tail is None:
        return _without_output(node, rule, dequantized)
    absorbed, quantized = tail
    if rule.role == "passthrough" and not _same_parameters(dequantized[0], quantized):
        return None
    if not all(_is_per_tensor(q) for q in quantized):
        return None
    return IntegerGroup(node, rule.kernel, dequantized, absorbed, quantized)


def is_quantize(node: Node | None) -> bool:
    """Whether a node is a QuantizeLinear of any domain."""
    return node is not None and node.op == "QuantizeLinear"


def is_dequantize(node: Node | None) -> bool:
    """Whether a node is a DequantizeLinear of any domain."""
    return node is not None and node.op == "DequantizeLinear"


def packed_weight(node: Node) -> Node | None:
    """Return the DQ of a constant right operand that a float MatMul reads packed, or None."""
    if node.op != "MatMul" or node.domain != "":
        return None
    source = node.inputs[1].producer if node.inputs[1] is not None else None
    if source is None or not is_dequantize(source):
        return None
    stored = source.inputs[0]
    fits = stored is not None and stored.is_constant and stored.dtype in _WEIGHT_TYPES
    if len(source.outputs[0].uses) != 1 or source.outputs[0].is_output:
        return None  # onnxruntime packs no weights that are shared
    return source if fits and stored is not None and len(stored.shape or ()) == 2 else None


def _dequantized(node: Node, rule: FusionRule) -> tuple[Node, ...]:
    """Return the DQ of every data input; empty when the inputs do not let the operator fuse."""
    if rule.role == "passthrough":
        data = node.inputs[:1]
    elif rule.role == "heavy":
        data = node.inputs[:_BIAS]
    else:
        data = tuple(v for v in node.inputs if v is not None and v.dtype is not DType.BOOL)
    found = [v.producer for v in data if v is not None and is_dequantize(v.producer)]
    kept = [dq for dq in found if dq is not None and _fits(dq)]
    if rule.role == "heavy":
        return _heavy_inputs(node, kept)
    return tuple(kept) if kept and len(kept) == len(data) else ()


def _heavy_inputs(node: Node, found: list[Node]) -> tuple[Node, ...]:
    """Return the DQs of activation, weight and bias of Conv, MatMul or Gemm."""
    first = node.inputs[0]
    if not found or first is None or found[0] is not first.producer:
        return ()
    if not _is_per_tensor(found[0]):
        return ()
    weight = node.inputs[1]
    if len(found) < _BIAS and not _quantized_at_load(node, weight):
        return ()
    bias = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    source = bias.producer if bias is not None else None
    if source is not None and is_dequantize(source):
        if not _bias_scale_fits(found, source):
            return ()
        found = [*found, source]
    elif bias is not None and not bias.is_constant:
        return ()
    return tuple(found)


def _bias_scale_fits(found: list[Node], bias: Node) -> bool:
    """Whether an integer bias counts in units of activation scale times weight scale."""
    scales = [node.inputs[1] for node in (*found[:_BIAS], bias)]
    if len(scales) < _BIAS + 1 or not all(s is not None and s.is_constant for s in scales):
        return True  # cannot be told; the usual case is that it fits
    activation, weight, own = (s.array().reshape(-1) for s in scales if s is not None)
    return bool(np.allclose(own, activation * weight, rtol=_BIAS_TOLERANCE, atol=0.0))


def _quantized_at_load(node: Node, weight: Value | None) -> bool:
    """Whether onnxruntime quantizes the float weight itself: between a per-tensor DQ and a Q."""
    if node.op == "MatMul" or weight is None or not weight.is_constant:
        return False
    first = node.inputs[0]
    source = first.producer if first is not None else None
    scale = source.inputs[1] if source is not None else None
    return scale is not None and scale.shape == () and _tail(node) is not None


def _fits(dequantize: Node) -> bool:
    stored = dequantize.inputs[0]
    return stored is not None and stored.dtype in _EIGHT_BITS


def _signs_fit(dequantize: Node, target: Target) -> bool:
    """Whether a signed activation is executed; x86 converts it where its Q has one reader.

    Operators that share a DQ are several readers: the runtime gives each a DQ of its own first.
    """
    stored = dequantize.inputs[0]
    if target.quantization.activations == "int8" or target.session_config:
        return True
    if stored is None or stored.dtype is not DType.INT8 or stored.is_constant:
        return True
    source = stored.producer
    if source is None or not is_quantize(source):
        return False
    from graphopt.analysis.quantization.operators import readers_of

    return readers_of(source) == 1


def _tail(node: Node) -> tuple[tuple[Node, ...], tuple[Node, ...]] | None:
    """Return (absorbed activations, Q nodes) behind ``node``; None when somebody reads floats."""
    outputs = [v for v in node.outputs if v.name and (v.uses or v.is_output)]
    quantized: list[Node] = []
    absorbed: list[Node] = []
    for output in outputs:
        value = output
        reader = only_consumer(value)
        if len(outputs) == 1 and reader is not None and reader.op in {"Relu", "Clip"}:
            after = only_consumer(reader.outputs[0])
            if after is None or not is_quantize(after) or not _redundant(reader, after):
                return None
            absorbed.append(reader)
            value = reader.outputs[0]
        readers = value.consumers
        if value.is_output or not readers or not all(is_quantize(r) for r in readers):
            return None
        quantized.extend(readers)
    return (tuple(absorbed), tuple(quantized)) if quantized else None


def _without_output(
    node: Node, rule: FusionRule, dequantized: tuple[Node, ...]
) -> IntegerGroup | None:
    """Return the kernel that takes integers and gives floats, where there is one."""
    if node.op == "MatMul":
        reader = only_consumer(node.outputs[0])
        becomes_gemm = reader is not None and reader.op == "Add" and _vector_operand(reader)
        if not becomes_gemm:
            return IntegerGroup(node, "MatMulIntegerToFloat", dequantized, (), ())
    if node.op == "Gemm":
        bias = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
        if bias is None or is_dequantize(bias.producer):
            return IntegerGroup(node, rule.kernel, dequantized, (), ())
    return None


def _vector_operand(add: Node) -> bool:
    """Whether an Add has a constant of rank 1, which turns MatMul + Add into a Gemm."""
    return any(v is not None and v.is_constant and len(v.shape or ()) == 1 for v in add.inputs)


def _is_per_tensor(node: Node) -> bool:
    scale = node.inputs[1]
    return scale is not None and scale.shape in {(), (1,)}


def _parameters(node: Node) -> tuple[bytes, bytes] | None:
    """Return scale and zero point of a Q or DQ as bytes; None when they are not constant."""
    scale = node.inputs[1]
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or zero is None or not (scale.is_constant and zero.is_constant):
        return None
    return scale.array().tobytes(), zero.array().tobytes()


def _same_parameters(dequantize: Node, quantized: tuple[Node, ...]) -> bool:
    expected = _parameters(dequantize)
    return expected is not None and all(_parameters(q) == expected for q in quantized)


def absorbing_quantize(activation: Node) -> Node | None:
    """Return the Q behind a Relu or Clip whose range makes it do nothing, or None."""
    after = only_consumer(activation.outputs[0])
    if activation.op not in {"Relu", "Clip"} or after is None or not is_quantize(after):
        return None
    return after if _redundant(activation, after) else None


def _redundant(activation: Node, quantize: Node) -> bool:
    """Whether the range that Q can represent already implies the Relu or Clip before it."""
    parameters = _scalar_parameters(quantize)
    if parameters is None:
        return False
    scale, zero, smallest, largest = parameters
    low, high = (smallest - zero) * scale, (largest - zero) * scale
    if activation.op == "Relu":
        return zero == smallest
    limits = [_limit(activation, 1, "min", -np.inf), _limit(activation, 2, "max", np.inf)]
    if limits[0] is None or limits[1] is None:
        return False
    # A rounding error of the scale must not decide; a hundredth of a step does no harm.
    slack = scale / 100
    return limits[0] <= low + slack and limits[1] >= high - slack


def _scalar_parameters(quantize: Node) -> tuple[float, int, int, int] | None:
    """Return scale, zero point and the integer range of a per-tensor Q; None when not constant."""
    scale = quantize.inputs[1]
    zero = quantize.inputs[2] if len(quantize.inputs) > 2 else None
    if scale is None or not scale.is_constant or not _is_per_tensor(quantize):
        return None
    if zero is None:
        return float(scale.array().reshape(-1)[0]), 0, 0, 255
    if not zero.is_constant or zero.dtype not in {DType.INT8, DType.UINT8}:
        return None
    smallest = -128 if zero.dtype is DType.INT8 else 0
    value = int(zero.array().reshape(-1)[0])
    return float(scale.array().reshape(-1)[0]), value, smallest, smallest + 255


def _limit(clip: Node, position: int, attribute: str, default: float) -> float | None:
    """Return a bound of a Clip of any opset; None when it is computed."""
    value = clip.inputs[position] if len(clip.inputs) > position else None
    if value is None:
        return float(clip.attribute(attribute, default))
    return float(value.array().reshape(-1)[0]) if value.is_constant else None
