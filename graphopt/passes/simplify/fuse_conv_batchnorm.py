"""Fold BatchNormalization into the convolution or matrix product before it.

With s = gamma / sqrt(var + epsilon) per output channel:
    W' = W * s,    b' = (b - mean) * s + beta
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.passes.base import PassResult, counted
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_FUSIBLE = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class FuseConvBatchnorm:
    """Fold a BatchNormalization into the Conv, ConvTranspose or Gemm before it."""

    name: ClassVar[str] = "fuse-conv-batchnorm"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every pair whose parameters are constant; say why others stay."""
        fused = 0
        for norm in [n for n in graph.nodes("BatchNormalization") if not n.domain]:
            reason = _obstacle(norm)
            if reason is not None:
                context.explain(norm, reason)
                continue
            source = norm.inputs[0]
            assert source is not None
            assert source.producer is not None
            _fuse(graph, source.producer, norm)
            fused += 1
        if not fused:
            return PassResult(False)
        return PassResult(True, (counted(fused, "pair", "fused"),), {"pairs": fused})


def _obstacle(norm: Node) -> str | None:
    """Return why the pair cannot be fused, or None."""
    source = norm.inputs[0]
    producer = source.producer if source is not None else None
    if source is None or producer is None or producer.op not in _FUSIBLE or producer.domain:
        return f"its input comes from {producer.op if producer else 'outside'}, not from a product"
    if len(source.uses) > 1 or source.is_output:
        return f"`{source.name}` is used elsewhere as well"
    if norm.attribute("training_mode", 0) or any(v.uses or v.is_output for v in norm.outputs[1:]):
        return "it is in training mode"
    if not norm.attribute("spatial", 1):
        return "it normalizes each position by itself"
    parameters = [*norm.inputs[1:5], *producer.inputs[1:]]
    fixed = [v for v in parameters if v is not None]
    loose = next((v for v in fixed if not v.is_constant), None)
    if loose is not None:
        return f"`{loose.name}` is not constant"
    if any(v.tensor is not None and not v.tensor.size for v in fixed):
        # onnxruntime 1.31 forgets beta in a Gemm over an empty axis; outputs stay what they were.
        return "there is nothing to multiply by"
    if any(v.dtype not in {DType.FLOAT, DType.DOUBLE, DType.FLOAT16} for v in fixed):
        return "its parameters are not floating-point"
    return None


def _fuse(graph: Graph, product: Node, norm: Node) -> None:
    gamma, beta, mean, variance = (_doubles(v) for v in norm.inputs[1:5])
    scale = gamma / np.sqrt(variance + norm.attribute("epsilon", 1e-5))
    weight = product.inputs[1]
    assert weight is not None
    scaled = _doubles(weight) * along_outputs(product, scale, len(weight.array().shape))
    bias = _bias(product, len(scale))
    if product.op == "Gemm" and product.attribute("beta", 1.0) != 1.0:
        bias = bias * product.attribute("beta", 1.0)
        product.set_attribute("beta", 1.0)
    kind = weight.array().dtype
    shifted = (bias - mean) * scale + beta
    product.set_input(1, graph.add_constant(f"{weight.name}_fused", scaled.astype(kind)))
    product.set_input(2, graph.add_constant(f"{weight.name}_fused_bias", shifted.astype(kind)))
    graph.replace_uses(norm.outputs[0], product.outputs[0])
    graph.remove(norm)
    graph.drop_constant(weight)


def _doubles(value: Value | None) -> Array:
    assert value is not None
    return np.asarray(value.array(), dtype=np.float64)


def _bias(product: Node, channels: int) -> Array:
    present = len(product.inputs) > 2 and product.inputs[2] is not None
    return _doubles(product.inputs[2]) if present else np.zeros(channels)


def along_outputs(product: Node, scale: Array, rank: int) -> Array:
    """Shape the per-channel factor so that it multiplies the weight's output axis."""
    if product.op == "Conv":
        return scale.reshape(-1, *[1] * (rank - 1))
    if product.op == "Gemm":
        return scale.reshape(-1, 1) if product.attribute("transB", 0) else scale.reshape(1, -1)
    # ConvTranspose weights are (C_in, C_out / group, ...): each group has its own slice of scale.
    groups = product.attribute("group", 1)
    weight = product.inputs[1]
    assert weight is not None
    per_group = weight.array().shape[0] // groups
    repeated = np.repeat(scale.reshape(groups, 1, -1), per_group, axis=1)
    return repeated.reshape(-1, len(scale) // groups, *[1] * (rank - 2))
