"""What the runtime does against the file: requantizing at load, saturating, refusing to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.quantization.findings import finding
from graphopt.analysis.quantization.pairs import (
    affine,
    dequantizer,
    is_dequantize,
    is_quantize,
    stored_constant,
    tail,
)
from graphopt.analysis.quantization.products import output_axis
from graphopt.analysis.saturation import adds_pairs, pairs_exceed, reduction_rows
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.analysis.quantization.findings import Finding
    from graphopt.analysis.quantization.operators import Rules
    from graphopt.ir import Graph, Node

    Array = np.ndarray[Any, Any]

REQUANTIZED = frozenset({"Conv", "ConvTranspose", "Gemm"})
_PER_CHANNEL_OPSET = 13
_SCALAR_ONLY = frozenset(
    {"Add", "Mul", "Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool", "Softmax", "Concat"}
)


def hazard_findings(node: Node, rules: Rules) -> Iterator[Finding]:
    """Yield what is wrong at ``node`` besides its speed."""
    if node.op in REQUANTIZED and node.domain == "" and is_requantized(node):
        yield finding(
            "D201",
            node,
            "its weight is float in the file, and int8 once onnxruntime has loaded it",
            "between a DQ with one scale and a Q onnxruntime quantizes the weight itself, with "
            "one scale for all outputs; what was excluded for its accuracy loses it",
            "give the DQ before it a vector of equal scales: the values stay, the rule no longer "
            "applies",
        )
    yield from _saturation(node, rules)


def is_requantized(node: Node) -> bool:
    """Whether onnxruntime quantizes the float weight of ``node`` when it loads the model."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    source = dequantizer(node.inputs[0])
    if source is None or weight is None or not weight.is_constant:
        return False
    if weight.dtype is not DType.FLOAT or stored_constant(source) is not None:
        return False
    parameters = affine(source)
    scalar = parameters is not None and parameters.is_scalar and not parameters.scale.ndim
    return scalar and tail(node).is_clean


def scale_findings(node: Node) -> Iterator[Finding]:
    """Yield activation scales of shape [1], with which a session does not open."""
    if not (is_quantize(node) or is_dequantize(node)):
        return
    parameters = affine(node)
    if node.graph.opset < _PER_CHANNEL_OPSET and node.domain == "" and "axis" in node.attributes:
        yield finding(
            "D303",
            node,
            f"it has the attribute `axis` in opset {node.graph.opset}",
            "scales per channel exist from opset 13 on: onnxruntime does not open the model",
            "bring the model to opset 13",
        )
    if parameters is None or parameters.scale.ndim == 0 or parameters.scale.size != 1:
        return
    around = {n.op for n in node.outputs[0].consumers}
    if stored_constant(node) is not None and not around & _SCALAR_ONLY:
        return  # a weight with one output channel
    source = node.inputs[0].producer if node.inputs[0] is not None else None
    around |= {source.op} if source is not None else set()
    refused = bool(around & _SCALAR_ONLY)
    yield finding(
        "D301" if refused else "D107",
        node,
        f"its scale has the shape {list(parameters.scale.shape)}",
        'onnxruntime does not open the model: "Scale and Zero-point must be a scalar"'
        if refused
        else "onnxruntime drops or moves Q and DQ only where the scale has rank 0",
        "give scale and zero point the rank 0",
    )


def _saturation(node: Node, rules: Rules) -> Iterator[Finding]:
    if not rules.target.quantization.saturates:
        return
    threatened = saturating_outputs(node)
    if threatened is None or not threatened[0]:
        return
    count, total = threatened
    yield finding(
        "D202",
        node,
        f"{count} of {total} outputs have neighbouring weights whose products can exceed 16 bits "
        "together",
        "without VNNI the CPU adds two products of uint8 and int8 in 16 bits and saturates: "
        "255 * (|a| + |b|) > 32767 for two weights of one sign",
        "store the weight as uint8, which takes a kernel without saturation, or with a scale "
        "that is large enough for the pair",
    )


def saturating_outputs(node: Node) -> tuple[int, int] | None:
    """Return how many outputs of a product could saturate in 16 bits, and how many there are.

    None where the kernel adds in 32 bits: depthwise, activations that are not uint8, weights that
    are not int8.
    """
    weight = node.inputs[_WEIGHT[node.op]] if node.op in _WEIGHT else None
    if node.domain or weight is None or not adds_pairs(node):
        return None
    if node.op in {"Conv", "Gemm", "MatMul"}:
        source, activation = dequantizer(weight), dequantizer(node.inputs[0])
        if source is None or activation is None or stored_constant(source) is None:
            return None
        read = activation.inputs[0]
        if read is None or read.dtype not in {None, DType.UINT8}:
            return None
        weight = stored_constant(source)
    if weight is None or not weight.is_constant or weight.dtype is not DType.INT8:
        return None
    values = weight.array().astype(np.int64)
    if values.ndim < 2:
        return None
    axis = output_axis(node) if node.op in {"Conv", "Gemm"} else _AXIS.get(node.op, values.ndim - 1)
    rows = reduction_rows(values, axis)
    return int(pairs_exceed(rows).sum()), rows.shape[0]


_WEIGHT = {"Conv": 1, "Gemm": 1, "MatMul": 1, "QLinearConv": 3, "QLinearMatMul": 3,
           "MatMulInteger": 1}  # fmt: skip
_AXIS = {"QLinearConv": 0}


def dynamic_findings(graph: Graph) -> Iterator[Finding]:
    """Yield operators of dynamic quantization that no fast kernel serves."""
    for node in graph.walk():
        if node.op == "ConvInteger":
            yield finding(
                "D401",
                node,
                "a convolution of dynamic quantization",
                "ConvInteger is not fused and has no fast kernel: it is slower than float",
                "quantize convolutions statically, with calibration data, or leave them float",
            )
        elif node.op == "MatMulInteger" and not _is_dynamic_pattern(node):
            yield finding(
                "D402",
                node,
                "an integer product outside the pattern that onnxruntime fuses",
                "only DynamicQuantizeLinear, MatMulInteger, Cast and Mul in a row become "
                "DynamicQuantizeMatMul",
                "leave the Cast and the Mul of both scales directly behind it",
            )


def _is_dynamic_pattern(node: Node) -> bool:
    output = node.outputs[0]
    cast = output.consumers[0] if len(output.uses) == 1 and not output.is_output else None
    if cast is None or cast.op != "Cast":
        return False
    return any(n.op == "Mul" for n in cast.outputs[0].consumers)
