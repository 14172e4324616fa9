"""Q and DQ that only cost time: around float operators, beside each other, or cut apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.quantization.findings import finding
from graphopt.analysis.quantization.pairs import (
    dequantizer,
    is_dequantize,
    is_quantize,
    quantizer_behind,
    stored_constant,
    tail,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.analysis.quantization.findings import Finding
    from graphopt.analysis.quantization.operators import Rules
    from graphopt.ir import Node

_READERS = frozenset({"heavy", "passthrough"})
"""Operators behind which integers may be used: the runtime moves a DQ over what moves data."""

_TRANSPARENT = frozenset({"Identity", "Dropout", "Cast"})


def leftover_findings(node: Node, rules: Rules) -> Iterator[Finding]:
    """Yield what is wrong with Q and DQ around an operator that has no integer kernel."""
    if node.op == "Clip" and _clips_integers(node):
        yield _integer_clip(node)
        return
    if is_quantize(node) or is_dequantize(node) or node.op in _TRANSPARENT or node.subgraphs:
        return
    if rules.role(node) is not None:
        return
    sources = [dequantizer(v) for v in node.inputs]
    reads = [s for s in sources if s is not None and stored_constant(s) is None]
    if reads and any(is_quantize(n) for v in node.outputs for n in v.consumers):
        yield finding(
            "D120",
            node,
            f"{node.op} stands between DQ and Q",
            f"the runtime has no integer kernel for {node.op}: it runs in float, and what "
            "surrounds it costs time on top",
            "leave it out of quantization, or rewrite it (`graphopt compile` knows exact forms "
            "of some)",
        )


def _clips_integers(node: Node) -> bool:
    first = node.inputs[0] if node.inputs else None
    source = first.producer if first is not None else None
    return is_quantize(source) and all(is_dequantize(n) for n in node.outputs[0].consumers)


def _integer_clip(node: Node) -> Finding:
    return finding(
        "D403",
        node,
        "a Clip of integers stands between Q and DQ",
        "exporters write it for quantization-aware training in 7 bits; it runs as an operator of "
        "its own, and keeps Q and DQ apart",
        "remove the Clip: steps stay the same, values beyond the limit are represented",
    )


def pair_is_idle(dequantize: Node, rules: Rules) -> bool:
    """Whether a Q and its DQ only round: no integer operator writes to or reads from them."""
    quantize = quantizer_behind(dequantize)
    if quantize is None or len(quantize.outputs[0].uses) != 1 or quantize.outputs[0].is_output:
        return False
    return not _written_by_integer(quantize, rules) and not _read_by_integer(dequantize, rules)


def _written_by_integer(quantize: Node, rules: Rules) -> bool:
    value = quantize.inputs[0]
    producer = value.producer if value is not None else None
    if producer is not None and producer.op in {"Relu", "Clip"} and not producer.domain:
        value = producer.inputs[0]
        producer = value.producer if value is not None else producer
    if producer is None or rules.role(producer) is None:
        return False
    return any(dequantizer(v) is not None for v in producer.inputs)


def _read_by_integer(dequantize: Node, rules: Rules) -> bool:
    return any(
        is_quantize(n) or rules.role(n) in _READERS or (rules.role(n) is not None and _writes(n))
        for n in dequantize.outputs[0].consumers
    )


def _writes(node: Node) -> bool:
    return bool(tail(node).quantized)
