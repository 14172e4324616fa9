"""Where a tensor comes into an island of integer operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir import Node


def reads_at_border(dequantize: Node) -> bool:
    """Whether the integers that are read come from a Q on the border of the island."""
    quantize = dequantize.inputs[0].producer if dequantize.inputs[0] is not None else None
    return quantize is not None and quantize.op == "QuantizeLinear" and _is_border(quantize)


def _is_border(quantize: Node) -> bool:
    """Whether the tensor comes into the island here, rather than from an integer operator."""
    source = quantize.inputs[0]
    producer = source.producer if source is not None else None
    while producer is not None and producer.op in {"Relu", "Clip"}:
        before = producer.inputs[0]
        producer = before.producer if before is not None else None
    if producer is None:
        return True
    return not any(
        v is not None and v.producer is not None and v.producer.op == "DequantizeLinear"
        for v in producer.inputs
    )
