"""Why an elementwise or data-moving operator between Q and DQ is not executed in integer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.quantization.findings import finding
from graphopt.analysis.quantization.operators import signed_with_several_readers
from graphopt.analysis.quantization.outputs import output_findings
from graphopt.analysis.quantization.pairs import (
    EIGHT_BITS,
    affine,
    dequantizer,
    is_quantize,
    stored_constant,
    tail,
)
from graphopt.analysis.quantization.products import signed_finding
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.analysis.quantization.findings import Finding
    from graphopt.analysis.quantization.operators import Rules
    from graphopt.analysis.quantization.pairs import Affine
    from graphopt.ir import Node, Value

_MANY = frozenset({"Add", "Mul", "Concat", "Where"})


def data_values(node: Node) -> list[Value]:
    """Return the inputs that hold data: all of Add, Mul and Concat, the first of the others."""
    if node.op == "Where":
        return [v for v in node.inputs[1:3] if v is not None]
    values = node.inputs if node.op in _MANY else node.inputs[:1]
    return [v for v in values if v is not None]


def member_findings(node: Node, role: str, rules: Rules) -> list[Finding]:
    """Return what keeps an operator that reads or writes quantized data in float."""
    sources = [dequantizer(v) for v in data_values(node)]
    if not any(s is not None for s in sources) or not tail(node).quantized:
        return []  # a border of an island: nothing says that it should be integer
    bar = rules.bar(node)
    if bar is not None:
        return [_barred(node, bar)]
    if role == "passthrough":
        return list(_moved(node, rules))
    return list(_computed(node, rules))


def _barred(node: Node, bar: str) -> Finding:
    return finding(
        "D115",
        node,
        f"{node.op} between DQ and Q has no integer kernel in this form",
        bar,
        "leave its Q and DQ out",
    )


def _computed(node: Node, rules: Rules) -> Iterator[Finding]:
    """Yield what is wrong at an operator with a kernel that computes in integers."""
    first: Affine | None = None
    for value in data_values(node):
        source = dequantizer(value)
        if source is None:
            yield _float_operand(node, value)
            continue
        parameters = affine(source)
        if parameters is None:
            continue
        first = first or parameters
        yield from _scalar(node, source, parameters, "D301")
        if parameters.dtype not in EIGHT_BITS:
            yield _wide(node, source, parameters)
        elif signed_with_several_readers(source, parameters, rules):
            yield signed_finding(node, source)
    yield from output_findings(node, first, rules)


def _float_operand(node: Node, value: Value) -> Finding:
    if value.is_constant:
        return finding(
            "D105",
            node,
            f"its operand `{value.name}` is a float constant",
            f"the integer kernel of {node.op} takes integers on both sides",
            "store the constant in 8 bits behind a DQ",
        )
    return finding(
        "D104",
        node,
        f"its operand `{value.name}` is not quantized",
        f"the integer kernel of {node.op} takes integers on all sides",
        "`graphopt compile` with --data measures its range and quantizes it",
    )


def _wide(node: Node, source: Node, parameters: Affine) -> Finding:
    return finding(
        "D114",
        node,
        f"`{source.outputs[0].name}` is quantized to {parameters.dtype.name.lower()}",
        f"the CPU kernel of {node.op} takes 8 bits only",
        "quantize activations to 8 bits, or leave this operator in float",
    )


def _scalar(node: Node, source: Node, parameters: Affine, code: str) -> Iterator[Finding]:
    if not parameters.is_scalar:
        yield finding(
            code,
            node,
            f"`{source.outputs[0].name}` has a scale per channel",
            'onnxruntime does not open the model: "Scale and Zero-point must be a scalar"'
            if code == "D301"
            else "data is moved in integers only where one scale holds for all of it",
            "quantize activations per tensor",
        )


def _moved(node: Node, rules: Rules) -> Iterator[Finding]:
    """Yield what is wrong at an operator that only moves integers."""
    source = dequantizer(node.inputs[0])
    before = affine(source) if source is not None else None
    if source is None or before is None:
        return
    quantized = [q for v in node.outputs for q in v.consumers if is_quantize(q)]
    if node.op == "Gather" and _is_signed_table(source, before, rules):
        yield _signed_table(node, source)
    omitted = [n for n in (source, *quantized) if (p := affine(n)) and not p.has_zero]
    if omitted:
        yield finding(
            "D106",
            node,
            f"the zero point of `{omitted[0].outputs[0].name}` is omitted",
            "onnxruntime drops Q and DQ around operators that move data only where both have a "
            "zero point",
            "write the zero point, which is 0",
        )
    yield from _scalar(node, source, before, "D110")
    yield from _unequal(node, before, quantized)
    yield from (f for f in output_findings(node, None, rules) if f.code in {"D102", "D103"})


def _unequal(node: Node, before: Affine, quantized: list[Node]) -> Iterator[Finding]:
    for quantize in quantized:
        after = affine(quantize)
        if after is not None and not after.same(before):
            yield finding(
                "D111",
                node,
                f"scale or zero point differ before and after it (`{quantize.outputs[0].name}`)",
                f"{node.op} only moves data: its kernel does not change parameters",
                "quantize its output as its input is",
            )


def _is_signed_table(source: Node, parameters: Affine, rules: Rules) -> bool:
    signed = parameters.dtype is DType.INT8 and not rules.signed_fuses
    return signed and stored_constant(source) is not None


def _signed_table(node: Node, source: Node) -> Finding:
    return finding(
        "D109",
        node,
        f"its table `{source.outputs[0].name}` is int8",
        "on x86 the Q behind it is changed to uint8, and then no longer fits the table",
        "store the table as uint8 with the zero point raised by 128: the same numbers",
    )
