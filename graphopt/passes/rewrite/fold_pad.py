"""Fold a Pad with zeros into the convolution or pooling after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import integers, scalar
from graphopt.passes.base import PassResult, counted
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus"})
_KEEPS_SIGN = frozenset(
    {"AveragePool", "GlobalAveragePool", "Identity", "MaxPool", "Transpose", "Reshape"}
)
_FIRST_WITH_INPUTS = 11


@dataclass(frozen=True)
class FoldPad:
    """Add what a Pad puts around feature maps to the padding of Conv, AveragePool and MaxPool.

    AveragePool then counts its padding, as it counted the zeros. MaxPool pads with minus infinity,
    so zeros fold into it only behind values that are never negative.
    """

    name: ClassVar[str] = "fold-pad"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fold every Pad into those of its readers that allow it; say why others stay."""
        pads = [n for n in graph.nodes("Pad") if n.domain == ""]
        if not pads:
            return PassResult(False)
        ir.infer_shapes(graph)
        folded = 0
        for pad in pads:
            reason = _fold(pad)
            if reason:
                context.explain(pad, reason)
            output = pad.outputs[0]
            folded += not reason
            if not output.uses and not output.is_output:
                graph.remove(pad)
        if not folded:
            return PassResult(False)
        note = counted(folded, "Pad", "folded")
        return PassResult(True, (note,), {"pads": folded})


def _fold(pad: Node) -> str | None:
    """Move the padding into the readers; return why nothing was moved."""
    source = pad.inputs[0]
    widths = _widths(pad)
    value = _value(pad)
    if source is None or widths is None or value is None:
        return "its widths or its value are not constant, or it does not pad with a constant"
    if any(widths[0] + widths[1]) or min(map(min, widths)) < 0:
        return "it pads batch or channels, or cuts"
    around = [w[0] for w in widths[2:]] + [w[1] for w in widths[2:]]
    folded = 0
    for reader, index in pad.outputs[0].uses:
        if index == 0 and reader.graph is pad.graph and _takes(reader, source, value, around):
            _widen(reader, around)
            reader.set_input(0, source)
            folded += 1
    return None if folded else "nothing that reads it can pad the same way"


def _widths(pad: Node) -> list[tuple[int, int]] | None:
    """Return (before, after) by axis, from rank 3 on."""
    if pad.attribute("mode", "constant") != "constant":
        return None
    source = pad.inputs[0]
    rank = len(source.shape) if source is not None and source.shape is not None else None
    if pad.graph.opset < _FIRST_WITH_INPUTS:
        flat: list[int] | None = pad.attribute("pads")
    else:
        flat = _integers(pad, 1)
    if flat is None or rank is None or rank < 3:
        return None
    axes = list(range(rank))
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        given = _integers(pad, 3)
        if given is None:
            return None
        axes = [a % rank for a in given]
    widths = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        widths[axis] = (flat[position], flat[position + len(axes)])
    return widths


def _integers(node: Node, index: int) -> list[int] | None:
    return integers(node.inputs[index] if len(node.inputs) > index else None)


def _value(pad: Node) -> float | None:
    if pad.graph.opset < _FIRST_WITH_INPUTS:
        return float(pad.attribute("value", 0.0))
    given = pad.inputs[2] if len(pad.inputs) > 2 else None
    if given is None:
        return 0.0
    return scalar(given)


def _takes(reader: Node, source: Value, value: float, around: Sequence[int]) -> bool:
    """Whether the reader computes the same with the padding as its own."""
    if reader.domain or reader.attribute("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return False
    own = _own(reader, len(around))
    match reader.op:
        case "Conv":
            return value == 0.0
        case "AveragePool":
            counts = reader.attribute("count_include_pad", 0) or not any(own)
            return value == 0.0 and bool(counts) and _fits(reader, own, around)
        case "MaxPool":
            lowest = value <= float(np.finfo(np.float32).min)
            neutral = lowest or (value == 0.0 and _is_never_negative(source))
            return neutral and len(reader.outputs) == 1 and _fits(reader, own, around)
        case _:
            return False


def _own(reader: Node, length: int) -> list[int]:
    if reader.attribute("auto_pad", "NOTSET") == "VALID":
        return [0] * length
    return list(reader.attribute("pads") or [0] * length)


def _fits(reader: Node, own: Sequence[int], around: Sequence[int]) -> bool:
    """Whether every window of the pooling still touches the input."""
    kernel = reader.attribute("kernel_shape")
    if reader.attribute("ceil_mode", 0) or any(d != 1 for d in reader.attribute("dilations", [])):
        return False
    return all(a + b < k for a, b, k in zip(own, around, [*kernel, *kernel], strict=True))


def _is_never_negative(value: Value) -> bool:
    producer = value.producer
    while producer is not None and producer.domain == "":
        if producer.op in _NEVER_NEGATIVE:
            return True
        if producer.op == "Clip":
            low = scalar(producer.inputs[1]) if len(producer.inputs) > 1 else None
            return low is not None and low >= 0
        before = producer.inputs[0] if producer.op in _KEEPS_SIGN else None
        producer = before.producer if before is not None else None
    return False


def _widen(reader: Node, around: Sequence[int]) -> None:
    own = _own(reader, len(around))
    reader.set_attribute("auto_pad", None)
    reader.set_attribute("pads", [a + b for a, b in zip(own, around, strict=True)])
    if reader.op == "AveragePool" and any(around):
        reader.set_attribute("count_include_pad", 1)
