"""Why a convolution or matrix product between Q and DQ is not executed in integer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.quantization.findings import finding
from graphopt.analysis.quantization.operators import signed_with_several_readers
from graphopt.analysis.quantization.outputs import output_findings
from graphopt.analysis.quantization.pairs import (
    EIGHT_BITS,
    affine,
    dequantizer,
    stored_constant,
    tail,
)
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.analysis.quantization.findings import Finding
    from graphopt.analysis.quantization.operators import Rules
    from graphopt.analysis.quantization.pairs import Affine
    from graphopt.ir import Node, Value

_LONGEST_WALK = 16

BIAS_TOLERANCE = 0.01
"""Relative error of a bias scale that onnxruntime still takes for scale of input x of weight."""


def product_findings(node: Node, rules: Rules) -> list[Finding]:
    """Return everything that keeps a Conv, Gemm or MatMul with a DQ at an input in float."""
    first, second = dequantizer(node.inputs[0]), dequantizer(node.inputs[1])
    if first is None and second is None:
        return []
    if first is None:
        assert second is not None
        if moved_dequantizer(node.inputs[0], rules) is not None:
            # The runtime moves the DQ up to the product.
            return [*_float_output(node), *_float_bias(node)]
        return list(_weight_only(node, second))
    if second is None:
        return list(_float_second(node))
    bar = rules.bar(node)
    if bar is not None:
        return [_barred(node, bar)]
    found = [*_activation(node, first, rules), *_weight(node, first, second, rules)]
    found += _bias(node, first, second)
    return [*found, *output_findings(node, affine(first), rules), *_float_output(node)]


def _float_second(node: Node) -> Iterator[Finding]:
    """Yield the missing half of a product of two activations.

    A float weight is no fault: the operator was excluded. What becomes of it at load is another
    finding.
    """
    value = node.inputs[1]
    if node.op == "MatMul" and value is not None and not value.is_constant and tail(node).quantized:
        yield finding(
            "D104",
            node,
            f"its operand `{value.name}` is not quantized",
            "the integer kernel of MatMul takes integers on both sides",
            "`graphopt compile` with --data measures its range and quantizes it",
        )


def moved_dequantizer(value: Value | None, rules: Rules) -> Node | None:
    """Return the DQ behind which only operators stand that the runtime moves a DQ over."""
    for _ in range(_LONGEST_WALK):
        node = value.producer if value is not None else None
        if node is None or rules.role(node) != "passthrough" or len(node.outputs) != 1:
            return None
        if len(node.outputs[0].uses) != 1 or node.outputs[0].is_output:
            return None
        value = node.inputs[0]
        found = dequantizer(value)
        if found is not None:
            return found if stored_constant(found) is None else None
    return None


def _barred(node: Node, bar: str) -> Finding:
    return finding(
        "D115",
        node,
        f"{node.op} has no integer kernel in this form",
        bar,
        "export the model so that the operator has the form, or leave its Q and DQ out",
    )


def _weight_only(node: Node, weight: Node) -> Iterator[Finding]:
    """Yield what is wrong where only the weight is quantized."""
    if stored_constant(weight) is None:
        return
    if node.op == "Conv":
        yield finding(
            "D121",
            node,
            f"its weight is stored in integers, and `{weight.outputs[0].name}` dequantizes it "
            "at every run",
            "no kernel takes float activations and integer weights of a convolution",
            "quantize the activations too (`graphopt compile --data`), or store the weight in "
            "float",
        )
    elif node.op == "Gemm" and node.attribute("transB", 0):
        yield finding(
            "D122",
            node,
            "its integer weight is transposed, so it is dequantized at every run",
            "MatMulNBits takes weights as [inputs, outputs]: transB must be 0",
            "transpose the stored integers, scales and axis, and set transB to 0",
        )
    elif len(weight.outputs[0].uses) > 1:
        yield finding(
            "D123",
            node,
            f"its integer weight `{weight.outputs[0].name}` is shared with another operator",
            "MatMulNBits takes the weight from a DQ that nobody else reads",
            "give each reader a DQ of its own; the integers may stay shared",
        )


def _activation(node: Node, source: Node, rules: Rules) -> Iterator[Finding]:
    parameters = affine(source)
    name = source.outputs[0].name
    if parameters is None:
        yield finding(
            "D104",
            node,
            f"scale or zero point of `{name}` is not constant",
            "integer kernels take their parameters when the model is loaded",
            "make scale and zero point constants",
        )
        return
    if parameters.dtype not in EIGHT_BITS:
        yield finding(
            "D114",
            node,
            f"`{name}` is quantized to {parameters.dtype.name.lower()}",
            f"the CPU kernels of {node.op} take 8-bit activations only",
            "quantize activations to 8 bits, or leave this operator in float",
        )
    elif not parameters.is_scalar:
        # Without a Q behind, a Conv is not fused, and so does not fail either.
        fused = node.op != "Conv" or bool(tail(node).quantized)
        yield finding(
            "D302" if fused else "D110",
            node,
            f"`{name}` has a scale per channel",
            f"onnxruntime fuses this into an integer {node.op}, which then fails at run time: its "
            "activations take one scale"
            if fused
            else "an integer kernel takes one scale for the whole activation",
            "quantize activations per tensor",
        )
    elif signed_with_several_readers(source, parameters, rules):
        yield signed_finding(node, source)


def signed_finding(node: Node, source: Node) -> Finding:
    """Return the finding about int8 activations that x86 leaves as they are."""
    return finding(
        "D108",
        node,
        f"`{source.outputs[0].name}` is int8, and its Q has more than one reader",
        "on x86 the kernels take uint8 activations; onnxruntime changes int8 to uint8 only "
        "where the Q has exactly one DQ behind it",
        "store it as uint8 with the zero point raised by 128: the same numbers",
    )


def _weight(node: Node, source: Node, weight: Node, rules: Rules) -> Iterator[Finding]:
    parameters, activation = affine(weight), affine(source)
    if parameters is None or activation is None:
        return
    name = weight.outputs[0].name
    if parameters.dtype not in EIGHT_BITS:
        yield finding(
            "D114",
            node,
            f"its weight `{name}` is {parameters.dtype.name.lower()}",
            f"the integer kernel of {node.op} takes 8-bit weights only",
            "store the weight in 8 bits, or leave the activation in float, where a MatMul may "
            "run on packed 4-bit weights",
        )
    elif parameters.dtype is DType.UINT8 and rules.signed_fuses and _is_signed(activation):
        yield finding(
            "D124",
            node,
            f"int8 activations meet the uint8 weight `{name}`",
            "Arm kernels take int8 weights beside int8 activations",
            "store the weight as int8 with the zero point lowered by 128: the same numbers",
        )
    elif not parameters.is_scalar and not _is_per_output(node, parameters, weight):
        yield finding(
            "D203",
            node,
            f"the scales of its weight `{name}` do not run over the outputs",
            "onnxruntime fuses this all the same, and applies the scales to the outputs: the "
            "results are wrong",
            "quantize the weight per tensor or per output channel",
        )


def _is_signed(parameters: Affine) -> bool:
    return parameters.dtype is DType.INT8


def output_axis(node: Node) -> int:
    """Return the axis of the weight of a Conv, Gemm or MatMul that runs over its outputs."""
    if node.op == "Gemm":
        return 0 if node.attribute("transB", 0) else 1
    return 0 if node.op == "Conv" else 1


def _is_per_output(node: Node, parameters: Affine, weight: Node) -> bool:
    stored = weight.inputs[0]
    rank = len(stored.shape) if stored is not None and stored.shape is not None else 2
    axis = parameters.axis % rank if rank else 0
    wanted = rank - 1 if node.op == "MatMul" else output_axis(node)
    return not parameters.block and axis == wanted


def _bias(node: Node, source: Node, weight: Node) -> Iterator[Finding]:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return
    stored = dequantizer(bias)
    if stored is not None:
        if not bias_scale_fits(source, weight, stored):
            yield finding(
                "D112",
                node,
                f"the scale of its bias `{bias.name}` is off by more than 1 %",
                "an integer kernel adds the bias to its sums, whose scale is that of the input "
                "times that of the weight",
                "store the bias in that scale",
            )
    elif not bias.is_constant:
        yield finding(
            "D104",
            node,
            f"its bias `{bias.name}` is computed at run time",
            "an integer kernel takes a constant bias",
            "add it with an Add behind the operator",
        )
    else:
        yield from _float_bias(node)


def _float_bias(node: Node) -> Iterator[Finding]:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if node.op == "Gemm" and bias is not None and bias.is_constant and not tail(node).quantized:
        yield finding(
            "D118",
            node,
            "it has a float bias and a float output",
            "a Gemm with a float bias is integer only where a Q follows",
            "store the bias as int32, in the scale of input times weight",
        )


def bias_scale_fits(source: Node, weight: Node, bias: Node) -> bool:
    """Whether the scale of an integer bias is that of input times weight, to 1 %."""
    parts = [affine(n) for n in (source, weight, bias)]
    if any(p is None for p in parts):
        return True
    one, two, own = (p.scale.astype(np.float64).reshape(-1) for p in parts if p is not None)
    try:
        return bool(np.allclose(own, one * two, rtol=BIAS_TOLERANCE, atol=0.0))
    except ValueError:
        return False


def _float_output(node: Node) -> Iterator[Finding]:
    """Yield the trap of a MatMul that becomes a Gemm with a float bias when it is loaded."""
    if node.op != "MatMul" or tail(node).quantized:
        return
    if bias_row(node) is not None:
        yield finding(
            "D117",
            node,
            "an Add of a vector follows, and no Q",
            "onnxruntime makes one Gemm of both before it looks for Q and DQ; a Gemm with a float "
            "bias and a float output has no integer kernel, and dequantizes its weight at every "
            "run",
            "give the vector the rank of the output, (1, 1, N), or store it as the int32 bias of "
            "a Gemm",
        )


def bias_row(node: Node) -> tuple[Node, Value] | None:
    """Return the Add that alone reads a MatMul, and the vector that it adds."""
    output = node.outputs[0]
    if output.is_output or len(output.uses) != 1:
        return None
    add = output.consumers[0]
    if add.op != "Add" or add.domain or add.graph is not node.graph:
        return None
    other = next((v for v in add.inputs if v is not None and v is not output), None)
    if other is None or not other.is_constant or len(other.shape or ()) != 1:
        return None
    return add, other
