"""Why the Q behind an operator, or its absence, keeps the operator in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.quantization.findings import finding
from graphopt.analysis.quantization.operators import readers_of
from graphopt.analysis.quantization.pairs import Tail, affine, is_redundant, tail
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.analysis.quantization.findings import Finding
    from graphopt.analysis.quantization.operators import Rules
    from graphopt.analysis.quantization.pairs import Affine
    from graphopt.ir import Node

_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
_FLOAT_OUTPUT = frozenset({"Gemm", "MatMul"})
"""Integer products that may also return floats."""


def output_findings(node: Node, source: Affine | None, rules: Rules) -> Iterator[Finding]:
    """Yield what is wrong behind ``node``, whose input has the parameters ``source``."""
    after = tail(node)
    if not after.quantized:
        if node.op not in _FLOAT_OUTPUT:
            yield _missing(node, after)
        return
    yield from _not_clean(node, after)
    for quantize in after.quantized:
        parameters = affine(quantize)
        if parameters is None:
            continue
        if not parameters.is_scalar:
            yield _per_channel(node, quantize)
        elif after.activation is not None and not is_redundant(after.activation, parameters):
            yield _not_redundant(node, after.activation)
        elif source is not None and parameters.dtype is not source.dtype:
            if not _converted(source, parameters, rules):
                yield _types_differ(node, source, parameters)
        elif _stays_signed(quantize, parameters, rules):
            yield _signed_output(node, quantize)


def _missing(node: Node, after: Tail) -> Finding:
    readers = sorted({n.op for n in after.others})
    behind = f"; {', '.join(readers)} {'read' if len(readers) > 1 else 'reads'} it as float"
    if after.returned and not readers:
        return _returned(node, "it is an output of the graph, and not quantized")
    return finding(
        "D101",
        node,
        f"no Q follows{behind if readers else ''}",
        f"the integer kernel of {node.op} writes integers: it needs a Q behind it",
        "`graphopt compile` with --data measures the range of the output and adds the Q",
    )


def _not_clean(node: Node, after: Tail) -> Iterator[Finding]:
    if after.others:
        names = ", ".join(sorted({n.op for n in after.others}))
        yield finding(
            "D102",
            node,
            f"{names} also {'reads' if len(after.others) == 1 else 'read'} its output as float, "
            "beside the Q",
            "an operator fuses only where every reader of its output is a Q",
            "let the other readers take the output of the Q, through a DQ",
        )
    elif after.returned:
        yield _returned(node, "its output is an output of the graph as well, beside the Q")


def _returned(node: Node, what: str) -> Finding:
    return finding(
        "D103",
        node,
        what,
        "an operator fuses only where every reader of its output is a Q",
        "return the output of a DQ behind the Q instead",
    )


def _per_channel(node: Node, quantize: Node) -> Finding:
    what = f"the Q behind it, `{quantize.outputs[0].name}`, has a scale per channel"
    remedy = "quantize activations per tensor"
    if node.op in _PRODUCTS:
        why = (
            f"onnxruntime fuses this into an integer {node.op}, which then fails at run time: "
            '"result zero point must be a scalar"'
        )
        return finding("D302", node, what, why, remedy)
    why = 'onnxruntime does not open the model: "Scale and Zero-point must be a scalar"'
    return finding("D301", node, what, why, remedy)


def _not_redundant(node: Node, activation: Node) -> Finding:
    return finding(
        "D113",
        node,
        f"the {activation.op} before its Q is not implied by the range of the Q",
        "onnxruntime drops a Relu only where the zero point is the smallest integer, a Clip only "
        "where it covers all that the Q can represent",
        "quantize what follows a Relu with the zero point at the smallest integer",
    )


def _converted(source: Affine, written: Affine, rules: Rules) -> bool:
    """Whether one of both is int8 that onnxruntime turns into uint8 on x86."""
    return not rules.signed_fuses and {source.dtype, written.dtype} == {DType.INT8, DType.UINT8}


def _types_differ(node: Node, source: Affine, written: Affine) -> Finding:
    one, other = source.dtype.name.lower(), written.dtype.name.lower()
    return finding(
        "D126",
        node,
        f"it reads {one} and writes {other}",
        "integer kernels read and write the same type",
        "quantize all activations to one type",
    )


def _stays_signed(quantize: Node, parameters: Affine, rules: Rules) -> bool:
    signed = parameters.dtype is DType.INT8 and not rules.signed_fuses
    return signed and readers_of(quantize) != 1


def _signed_output(node: Node, quantize: Node) -> Finding:
    return finding(
        "D108",
        node,
        f"it writes `{quantize.outputs[0].name}` as int8, which has more than one reader",
        "on x86 the kernels write uint8; onnxruntime changes int8 to uint8 only where the Q has "
        "exactly one DQ behind it",
        "store it as uint8 with the zero point raised by 128: the same numbers",
    )
