"""Normalizations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from graphopt_torch.execution.registry import MICROSOFT, operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (x.dim() - 2))


def _trains(node: Node, _version: int) -> str | None:
    wanted = [v.name for v in node.outputs[1:] if v.name]
    return "returns its statistics" if wanted and not node.attribute("training_mode", 0) else None


@operator("BatchNormalization", refuse=_trains)
def _batch_norm(node: Node, version: int) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)
    if node.attribute("training_mode", 0):
        return _batch_norm_of_batch(epsilon, node.attribute("momentum", 0.9))

    def kernel(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if mean.requires_grad or variance.requires_grad or not x.dtype == scale.dtype == mean.dtype:
            factor = scale / torch.sqrt(variance + epsilon)
            shift = bias - mean * factor
            return (x * _by_channel(factor, x) + _by_channel(shift, x)).to(x.dtype)
        return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)

    return kernel


def _batch_norm_of_batch(epsilon: float, momentum: float) -> Kernel:
    def kernel(
        x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [0, *range(2, x.dim())]
        here, spread = x.mean(axes), x.var(axes, correction=0)
        factor = scale / torch.sqrt(spread + epsilon)
        shift = bias - here * factor
        made = x * _by_channel(factor, x) + _by_channel(shift, x)
        kept = mean * momentum + here * (1 - momentum)
        return made.to(x.dtype), kept, variance * momentum + spread * (1 - momentum)

    return kernel


@operator("InstanceNormalization")
def _instance_norm(node: Node, _version: int) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        axes = list(range(2, x.dim()))
        spread, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(spread + epsilon) * _by_channel(scale, x) + _by_channel(
            bias, x
        )

    return kernel


@operator("GroupNormalization", since=18)
def _group_norm_by_groups(node: Node, _version: int) -> Kernel:
    return _group_norm(node, per_group=True)


@operator("GroupNormalization", since=21)
def _group_norm_by_channels(node: Node, _version: int) -> Kernel:
    return _group_norm(node, per_group=False)


def _group_norm(node: Node, *, per_group: bool) -> Kernel:
    epsilon, groups = node.attribute("epsilon", 1e-5), node.attribute("num_groups")

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if per_group:
            each = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return kernel


@operator("LayerNormalization")
def _layer_norm(node: Node, _version: int) -> Kernel:
    epsilon, axis = node.attribute("epsilon", 1e-5), node.attribute("axis", -1)
    statistics = len(node.outputs) > 1

    def kernel(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        first = axis + x.dim() if axis < 0 else axis
        sizes = x.shape[first:]
        if not statistics and scale.shape == sizes and (bias is None or bias.shape == sizes):
            return functional.layer_norm(x, sizes, scale, bias, epsilon)
        axes = list(range(first, x.dim()))
        wide = x.to(torch.float32) if x.dtype in {torch.float16, torch.bfloat16} else x
        spread, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
        inverse = torch.rsqrt(spread + epsilon)
        made = ((wide - mean) * inverse).to(x.dtype) * scale
        return made if bias is None else made + bias, mean, inverse

    return kernel


def root_mean_square(x: Tensor, scale: Tensor, axis: int, epsilon: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + epsilon) * scale over the axes from ``axis`` on."""
    axes = list(range(axis + x.dim() if axis < 0 else axis, x.dim()))
    wide = x.to(torch.float32) if x.dtype in {torch.float16, torch.bfloat16} else x
    inverse = torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)
    return (wide * inverse).to(x.dtype) * scale


@operator("RMSNormalization", since=23)
def _rms_norm(node: Node, _version: int) -> Kernel:
    epsilon, axis = node.attribute("epsilon", 1e-5), node.attribute("axis", -1)
    return lambda x, scale: root_mean_square(x, scale, axis, epsilon)


@operator("SimplifiedLayerNormalization")
def _simplified_layer_norm(node: Node, _version: int) -> Kernel:
    epsilon, axis = node.attribute("epsilon", 1e-5), node.attribute("axis", -1)
    return lambda x, scale: root_mean_square(x, scale, axis, epsilon)


@operator("SkipLayerNormalization", domain=MICROSOFT)
def _skip_layer_norm(node: Node, _version: int) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)

    def kernel(
        x: Tensor,
        skip: Tensor,
        scale: Tensor,
        shift: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Any:
        total = x + skip if bias is None else x + skip + bias
        made = functional.layer_norm(total, total.shape[-1:], scale, shift, epsilon)
        return made, None, None, total

    return kernel


@operator("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def _skip_rms_norm(node: Node, _version: int) -> Kernel:
    epsilon = node.attribute("epsilon", 1e-5)

    def kernel(x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        total = x + skip if bias is None else x + skip + bias
        return root_mean_square(total, scale, -1, epsilon), None, None, total

    return kernel


@operator("LpNormalization")
def _norm(node: Node, _version: int) -> Kernel:
    axis, power = node.attribute("axis", -1), node.attribute("p", 2)

    def kernel(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, power, axis, keepdim=True)
        return torch.where(length == 0, 0, x / length)

    return kernel


@operator("MeanVarianceNormalization")
def _mean_variance_norm(node: Node, _version: int) -> Kernel:
    axes = node.attribute("axes") or [0, 2, 3]

    def kernel(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / (torch.sqrt(centred.square().mean(axes, keepdim=True)) + 1e-9)

    return kernel


@operator("LRN")
def _local_response_norm(node: Node, _version: int) -> Kernel:
    size = node.attribute("size")
    alpha, beta = node.attribute("alpha", 1e-4), node.attribute("beta", 0.75)
    bias = node.attribute("bias", 1.0)
    before, after = (size - 1) // 2, size // 2

    def kernel(x: Tensor) -> Tensor:
        squares = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
        padded = functional.pad(squares, [0, 0, before, after])
        total = functional.avg_pool2d(padded, (size, 1), 1, divisor_override=1)
        made: Tensor = x / (bias + alpha / size * total.reshape(x.shape)).pow(beta)
        return made

    return kernel
