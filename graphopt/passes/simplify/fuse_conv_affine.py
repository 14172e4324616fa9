"""Fold a scale and a shift by constants into the convolution or matrix product before them.

For each output channel: (W x + b) * s + t = (W s) x + (b s + t)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.analysis import only_consumer
from graphopt.passes.base import PassResult
from graphopt.passes.simplify.fuse_conv_batchnorm import along_outputs
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_SHIFTS = frozenset({"Add", "Sub"})
_TYPES = frozenset({DType.FLOAT, DType.DOUBLE})


@dataclass(frozen=True)
class FuseConvAffine:
    """Fold Mul, Div, Add and Sub by one number for each channel into Conv, ConvTranspose and Gemm.

    The weights round once more: a relative difference of at most 2^-23 in float32. Where others
    read the weights too, nothing is scaled: the file would grow.
    """

    name: ClassVar[str] = "fuse-conv-affine"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse what follows each product, one operator after the other; say why others stay."""
        fused: Counter[str] = Counter()
        for product in graph.nodes(*_CONVOLUTIONS, "Gemm"):
            while not product.domain:
                reader = only_consumer(product.outputs[0])
                if reader is None or reader.graph is not graph or reader.domain:
                    break
                op = reader.op
                if op not in {"Mul", "Div"} | _SHIFTS:
                    break
                reason = _fuse(graph, product, reader)
                if reason is not None:
                    context.explain(reader, reason)
                    break
                fused[op] += 1
        if not fused:
            return PassResult(False)
        parts = ", ".join(f"{count} {op}" for op, count in sorted(fused.items()))
        return PassResult(True, (f"{parts} fused",), {"nodes": sum(fused.values())})


def _fuse(graph: Graph, product: Node, reader: Node) -> str | None:
    """Fold the operator that reads a product into it; return why it cannot be."""
    y = product.outputs[0]
    constant = reader.inputs[1] if reader.inputs[0] is y else reader.inputs[0]
    reason = _obstacle(product, reader, constant)
    if reason is not None:
        return reason
    assert constant is not None
    weight = product.inputs[1]
    assert weight is not None
    numbers = _per_channel(constant, len(weight.array().shape), _channels(product))
    if numbers is None:
        return "it is not one number for each channel"
    if reader.op in _SHIFTS:
        _shift(graph, product, numbers if reader.op == "Add" else -numbers)
    else:
        if reader.op == "Div" and not np.all(np.abs(numbers) >= np.finfo(np.float32).tiny):
            return "it divides by zero"
        _scale(graph, product, numbers if reader.op == "Mul" else 1 / numbers)
    graph.replace_uses(reader.outputs[0], y)
    graph.remove(reader)
    graph.drop_constant(constant)
    return None


def _obstacle(product: Node, reader: Node, constant: Value | None) -> str | None:
    weight, bias = product.inputs[1], _bias(product)
    fixed = [v for v in (constant, weight, bias) if v is not None]
    loose = next((v for v in fixed if not v.is_constant), None)
    if loose is not None:
        return f"`{loose.name}` is not constant"
    if any(v.dtype not in _TYPES for v in fixed):
        return "its operands are not float32 or float64"
    if reader.op in {"Sub", "Div"} and reader.inputs[0] is not product.outputs[0]:
        return "the constant comes first"
    if not all(np.isfinite(v.array()).all() for v in (constant, bias) if v is not None):
        return "a constant is not finite"
    if bias is not None and bias.array().size not in {1, _channels(product)}:
        return "the bias differs from row to row"
    if reader.op not in _SHIFTS and weight is not None and len(weight.uses) > 1:
        return f"`{weight.name}` is used elsewhere as well"
    return None


def _bias(product: Node) -> Value | None:
    return product.inputs[2] if len(product.inputs) > 2 else None


def _channels(product: Node) -> int:
    weight = product.inputs[1]
    assert weight is not None
    shape = weight.array().shape
    if product.op == "Conv":
        return int(shape[0])
    if product.op == "Gemm":
        return int(shape[0] if product.attribute("transB", 0) else shape[1])
    return int(shape[1] * product.attribute("group", 1))


def _per_channel(constant: Value, rank: int, channels: int) -> Array | None:
    """Return one number for each channel, the second axis of a result of this rank."""
    values = np.asarray(constant.array(), dtype=np.float64)
    shape = (*[1] * (rank - values.ndim), *values.shape)
    others = [size for axis, size in enumerate(shape) if axis != 1]
    if len(shape) != rank or any(size != 1 for size in others) or shape[1] not in {1, channels}:
        return None
    return np.broadcast_to(values.reshape(-1), (channels,))


def _shift(graph: Graph, product: Node, numbers: Array) -> None:
    bias = _bias(product)
    _store(graph, product, 2, numbers if bias is None else _added(product, bias) + numbers)


def _scale(graph: Graph, product: Node, numbers: Array) -> None:
    weight, bias = product.inputs[1], _bias(product)
    assert weight is not None
    values = np.asarray(weight.array(), dtype=np.float64)
    _store(graph, product, 1, values * along_outputs(product, numbers, values.ndim))
    if bias is not None:
        _store(graph, product, 2, _added(product, bias) * numbers)


def _added(product: Node, bias: Value) -> Array:
    """Return what is really added: a Gemm multiplies by beta first, and need not any more."""
    values = np.asarray(bias.array(), dtype=np.float64)
    if product.op == "Gemm":
        values = values * product.attribute("beta", 1.0)
        product.set_attribute("beta", 1.0)
    return values


def _store(graph: Graph, product: Node, index: int, values: Array) -> None:
    """Give an input other values; a bias that was not there takes its name from the weight."""
    weight = product.inputs[1]
    old = product.inputs[index] if len(product.inputs) > index else None
    assert weight is not None
    kind = weight.array().dtype
    base = weight.name if old is None else old.name
    name = f"{base.removesuffix('_fused')}_fused" if old is not None else f"{base}_bias_fused"
    product.set_input(index, graph.add_constant(name, values.astype(kind)))
    graph.drop_constant(old)
