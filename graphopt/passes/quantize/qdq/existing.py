"""Take the Q and DQ of a quantized model apart: what they say is kept, and placed anew.

A model from quantization-aware training carries its own scales, zero points and integers. They are
read here and the pairs removed, so that Q and DQ can be put where the runtime fuses them, with the
same parameters: nothing is measured or rounded a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.quantization import (
    FLOAT_CODES,
    Rules,
    affine,
    dequantizer,
    diagnose,
    is_dequantize,
    quantizer_behind,
    stored_constant,
)
from graphopt.analysis.saturation import adds_pairs, pairs_exceed, reduction_rows
from graphopt.calibration.base import RangeStatistics
from graphopt.passes.quantize.repairs.edit import drop_unread, reals
from graphopt.passes.quantize.repairs.pairs import integer_clips
from graphopt.targets.fusion import fusion_table
from graphopt.types import DType, QuantParams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from graphopt.analysis.quantization import Affine
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.quantize.qdq.placement import Placement
    from graphopt.targets.base import QuantizationRules, Target

    Array = np.ndarray[Any, Any]

_HEAVY = ("Conv", "Gemm", "MatMul")
_TO_MEND = (FLOAT_CODES, "D3")
"""Codes of findings that placing Q and DQ anew may mend."""

_SHIFT = 128
_BY_USER = ("excluded by the recipe", "not among the operators that the recipe names")
"""Reasons of insert-qdq that are the user's own."""

_BITS = 8


@dataclass(frozen=True)
class Given:
    """A constant as its integers, with what they mean."""

    integers: Array
    params: QuantParams

    def as_activation(self, rules: QuantizationRules) -> Given:
        """Return the same numbers in the element type of the target's activations."""
        wanted = DType.INT8 if rules.activations == "int8" else DType.UINT8
        if self.params.dtype is wanted:
            return self
        shift = _SHIFT if wanted is DType.UINT8 else -_SHIFT
        moved = (self.integers.astype(np.int64) + shift).astype(wanted.name.lower())
        zeros = tuple(z + shift for z in self.params.zero_point)
        return Given(moved, QuantParams(self.params.scale, zeros, wanted, self.params.axis))


@dataclass
class Existing:
    """What a model says about its own quantization.

    Args:
        tensors: parameters of activations, in the element type of the target.
        constants: integers of weights and operands, by the float constant in their place.
        left_float: products with a float weight behind quantized data: excluded on purpose.
        quantized: products with a quantized weight.
    """

    tensors: dict[Value, QuantParams] = field(default_factory=dict)
    constants: dict[Value, Given] = field(default_factory=dict)
    left_float: set[Node] = field(default_factory=set)
    quantized: set[Node] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.tensors or self.constants)

    def excluding(self, reason: Callable[[Node], str | None]) -> Callable[[Node], str | None]:
        """Return why a node is kept in float: what is quantized stays so unless the user says."""

        def decide(node: Node) -> str | None:
            if node in self.left_float:
                return "left in float by whoever quantized the model"
            found = reason(node)
            return found if node not in self.quantized or found in _BY_USER else None

        return decide

    def ranges(self, measured: Mapping[str, RangeStatistics]) -> dict[str, RangeStatistics]:
        """Return the measured ranges, with those that the model gives in their place."""
        given = {v.name: _range(p) for v, p in self.tensors.items()}
        return {**measured, **given}

    def params(self, placement: Placement) -> dict[Value, QuantParams]:
        """Return the parameters for a placement: of the tensors where data starts to be moved.

        What is only moved shares the parameters of its source, so that parameters behind the
        movement serve for the source where that has none. A Relu or Clip that the Q is to swallow
        asks for the zero point at the smallest integer; the scale stays.
        """
        sources = placement.by_output()
        found = dict(self.tensors)
        for value, params in self.tensors.items():
            unit = sources.get(value)
            while unit is not None and unit.rule.role == "passthrough":
                first = unit.node.inputs[0]
                if first is None:
                    break
                found.setdefault(first, params)
                unit = sources.get(first)
        for output, unit in sources.items():
            if output in found and unit.absorbed is not None:
                found[output] = _behind(unit.absorbed, found[output])
        return found


def is_whole(graph: Graph, target: Target) -> bool:
    """Whether everything in the graph that is quantized is executed in integer as it is."""
    findings = diagnose(graph, Rules(fusion_table(target.runtime), target))
    return not any(f.code.startswith(_TO_MEND) for f in findings)


def take_existing(graph: Graph, rules: QuantizationRules) -> Existing | None:
    """Remove the Q and DQ of ``graph`` and return what they said; None where they cannot be read.

    Args:
        graph: with types inferred; changed in place, also where None is returned.
        rules: element types of the target; parameters are shifted to them, which is exact.
    """
    found = Existing()
    _fold_quantized_constants(graph)
    integer_clips(graph, _NO_RULES)
    for node in graph.nodes(*_HEAVY):
        _classify(node, found)
    for node in graph.nodes("DequantizeLinear"):
        if stored_constant(node) is not None:
            _take_constant(graph, node, rules, found)
    for node in graph.nodes("DequantizeLinear"):
        if stored_constant(node) is None and not _take_pair(graph, node, rules, found):
            return None
    for node in graph.nodes("QuantizeLinear"):
        drop_unread(graph, node if not node.outputs[0].uses else None)
    graph.sort()
    left = graph.nodes("QuantizeLinear")
    return None if left else found


_NO_RULES: Any = None
"""Removing a Clip of integers does not ask for any rule of the target."""


def _classify(node: Node, found: Existing) -> None:
    first, second = (dequantizer(v) for v in node.inputs[:2])
    weight = node.inputs[1]
    if second is not None:
        found.quantized.add(node)
    elif first is not None and weight is not None and weight.is_constant:
        found.left_float.add(node)


def _fold_quantized_constants(graph: Graph) -> None:
    """Compute Q of a constant, as trainers export weights, and a Clip of its integers."""
    for node in graph.nodes("QuantizeLinear"):
        parameters, value = affine(node), node.inputs[0]
        if parameters is None or value is None or not value.is_constant or parameters.block:
            continue
        array = np.asarray(value.array(), dtype=np.float32)
        steps = _quantized(array, parameters)
        target = node.outputs[0]
        clip = target.consumers[0] if len(target.uses) == 1 else None
        if clip is not None and clip.op == "Clip":
            low, high = (_number(v) for v in (*clip.inputs[1:3], None, None)[:2])
            steps = np.clip(steps, low, high)
            target = clip.outputs[0]
        kind = parameters.dtype.name.lower()
        made = graph.add_constant(f"{value.name}_integers", steps.astype(kind))
        graph.replace_uses(target, made)
        drop_unread(graph, target.producer)
        graph.drop_constant(value)


def _quantized(array: Array, parameters: Affine) -> Array:
    scale, zero = parameters.scale, parameters.zero
    if scale.size > 1:
        shape = [1] * array.ndim
        shape[parameters.axis % array.ndim] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    low, high = parameters.limits
    steps = np.rint(array / scale.astype(np.float32)) + zero
    return np.asarray(np.clip(steps, low, high).astype(np.int64))


def _number(value: Value | None) -> float | None:
    return None if value is None or not value.is_constant else float(np.squeeze(value.array()))


def _take_constant(graph: Graph, node: Node, rules: QuantizationRules, found: Existing) -> None:
    """Put the float values in the place of a DQ of constant integers, and remember those."""
    parameters, stored = affine(node), stored_constant(node)
    if parameters is None or stored is None or parameters.block or parameters.dtype.bits < _BITS:
        return  # packed weights are read as they are
    integers = stored.array()
    axis = parameters.axis % integers.ndim if integers.ndim else 0
    values = reals(integers, parameters.scale, parameters.zero, axis)
    output = node.outputs[0]
    if output.dtype not in {None, DType.FLOAT}:
        return
    made = graph.add_constant(f"{output.name}_values", values)
    if parameters.dtype.bits == _BITS:
        per_channel = axis if parameters.scale.size > 1 else None
        paired = any(n.op == "Transpose" or adds_pairs(n) for n in output.consumers)
        unsafe = paired and _saturates(integers, per_channel, rules)
        found.constants[made] = _given(integers, parameters, per_channel, rules, unsafe)
    graph.replace_uses(output, made)
    drop_unread(graph, node)
    for reader in made.consumers:
        if reader.op == "Transpose" and reader.graph is graph:
            _turn_constant(graph, reader, made, found)


def _given(
    integers: Array, parameters: Affine, axis: int | None, rules: QuantizationRules, unsafe: bool
) -> Given:
    scale = tuple(float(s) for s in parameters.scale.reshape(-1))
    zeros = np.broadcast_to(parameters.zero.reshape(-1), len(scale))
    dtype = parameters.dtype
    signed = rules.activations == "int8"
    shift = 0
    if signed and dtype is DType.UINT8:
        shift, dtype = -_SHIFT, DType.INT8  # Arm kernels take no uint8 weight beside int8
    elif not signed and dtype is DType.INT8 and unsafe:
        shift, dtype = _SHIFT, DType.UINT8  # the kernel of uint8 weights does not saturate
    moved = (integers.astype(np.int64) + shift).astype(dtype.name.lower())
    return Given(moved, QuantParams(scale, tuple(int(z) + shift for z in zeros), dtype, axis))


def _saturates(integers: Array, axis: int | None, rules: QuantizationRules) -> bool:
    if not rules.saturates or integers.ndim < 2:
        return False
    axes = (axis,) if axis is not None else (0, 1)[: 1 + (integers.ndim == 2)]
    return any(bool(pairs_exceed(reduction_rows(integers, a)).any()) for a in axes)


def _turn_constant(graph: Graph, transpose: Node, value: Value, found: Existing) -> None:
    """Fold a Transpose of a dequantized weight, as trainers export linear layers."""
    order = transpose.attribute("perm", list(range(value.array().ndim))[::-1])
    made = graph.add_constant(f"{value.name}_turned", np.transpose(value.array(), order))
    given = found.constants.get(value)
    if given is not None:
        axis = None if given.params.axis is None else list(order).index(given.params.axis)
        params = QuantParams(given.params.scale, given.params.zero_point, given.params.dtype, axis)
        found.constants[made] = Given(np.transpose(given.integers, order), params)
    graph.replace_uses(transpose.outputs[0], made)
    drop_unread(graph, transpose)


def _take_pair(graph: Graph, node: Node, rules: QuantizationRules, found: Existing) -> bool:
    """Remove one DQ behind a Q and remember the parameters; say whether that was possible."""
    quantize, parameters = quantizer_behind(node), affine(node)
    value = quantize.inputs[0] if quantize is not None else None
    if quantize is None or value is None or parameters is None or value.graph is not graph:
        return False
    written = affine(quantize)
    if (
        written is None
        or not _agree(written, parameters)
        or parameters.dtype.bits != _BITS
        or parameters.block
    ):
        return False
    if not all(is_dequantize(n) for n in quantize.outputs[0].consumers) or (
        quantize.outputs[0].is_output
    ):
        return False
    found.tensors.setdefault(value, _activation(parameters, rules))
    graph.replace_uses(node.outputs[0], value)
    drop_unread(graph, node)
    return True


def _agree(one: Affine, other: Affine) -> bool:
    """Whether Q and DQ mean the same by one scale, or by a vector of equal ones."""
    scales = np.concatenate([one.scale.reshape(-1), other.scale.reshape(-1)])
    zeros = np.concatenate([one.zero.reshape(-1), other.zero.reshape(-1)])
    return one.dtype is other.dtype and not np.ptp(scales) and not np.ptp(zeros)


def _activation(parameters: Affine, rules: QuantizationRules) -> QuantParams:
    scale = float(parameters.scale.reshape(-1)[0])
    zero = int(parameters.zero.reshape(-1)[0])
    wanted = DType.INT8 if rules.activations == "int8" else DType.UINT8
    if parameters.dtype is not wanted:
        zero += _SHIFT if wanted is DType.UINT8 else -_SHIFT
    return QuantParams((scale,), (zero,), wanted)


def _limits(params: QuantParams) -> tuple[int, int]:
    return (0, 255) if params.dtype is DType.UINT8 else (-128, 127)


def _range(params: QuantParams) -> RangeStatistics:
    smallest, largest = _limits(params)
    scale, zero = params.scale[0], params.zero_point[0]
    return RangeStatistics((smallest - zero) * scale, (largest - zero) * scale, 0, "given")


def _behind(activation: Node, params: QuantParams) -> QuantParams:
    """Return the parameters with which a Q implies the Relu or Clip before it."""
    smallest, largest = _limits(params)
    scale = params.scale[0]
    if activation.op == "Clip" and len(activation.inputs) > 2:
        high = _number(activation.inputs[2])
        if high is not None and np.float32(scale) * np.float32(largest - smallest) > high:
            # Never above the bound: a scale of its own is the only way to imply it.
            scale = float(np.nextafter(np.float32(high / (largest - smallest)), np.float32(0)))
    return QuantParams((scale,), (smallest,), params.dtype)
