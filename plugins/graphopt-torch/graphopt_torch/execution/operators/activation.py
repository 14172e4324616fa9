"""Functions that neural networks put behind their layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from graphopt_torch.execution.registry import MICROSOFT, operator, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def _mish(x: Tensor) -> Tensor:
    return functional.mish(x)


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype, device=x.device))


plain(
    {
        "Relu": torch.relu,
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "Softsign": functional.softsign,
        "Softplus": _softplus,
        "Mish": _mish,
        "HardSwish": functional.hardswish,
    }
)


@operator("LeakyRelu")
def _leaky_relu(node: Node, _version: int) -> Kernel:
    slope = node.attribute("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, slope)


@operator("PRelu")
def _prelu(_node: Node, _version: int) -> Kernel:
    return lambda x, slope: torch.where(x < 0, slope * x, x)


@operator("Elu")
def _elu(node: Node, _version: int) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.elu(x, alpha)


@operator("Celu")
def _celu(node: Node, _version: int) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: functional.celu(x, alpha)


@operator("Selu")
def _selu(node: Node, _version: int) -> Kernel:
    alpha = node.attribute("alpha", 1.6732631921768188)
    gamma = node.attribute("gamma", 1.0507010221481323)
    return lambda x: gamma * torch.where(x > 0, x, alpha * torch.expm1(x))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, _version: int) -> Kernel:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0, 1)


@operator("ThresholdedRelu")
def _thresholded_relu(node: Node, _version: int) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, 0)


@operator("Shrink")
def _shrink(node: Node, _version: int) -> Kernel:
    bias, bound = node.attribute("bias", 0.0), node.attribute("lambd", 0.5)

    def kernel(x: Tensor) -> Tensor:
        shrunk = torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, 0))
        return shrunk.to(x.dtype)

    return kernel


@operator("Swish")
def _swish(node: Node, _version: int) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: x * torch.sigmoid(alpha * x)


@operator("QuickGelu", domain=MICROSOFT)
def _quick_gelu(node: Node, _version: int) -> Kernel:
    alpha = node.attribute("alpha", 1.702)
    return lambda x: x * torch.sigmoid(alpha * x)


@operator("Gelu")
def _gelu(node: Node, _version: int) -> Kernel:
    kind = node.attribute("approximate", "none")
    return lambda x: functional.gelu(x, approximate=kind)


@operator("Gelu", domain=MICROSOFT)
def _exact_gelu(_node: Node, _version: int) -> Kernel:
    return lambda x: functional.gelu(x)


@operator("BiasGelu", domain=MICROSOFT)
def _bias_gelu(_node: Node, _version: int) -> Kernel:
    return lambda x, bias: functional.gelu(x + bias)


@operator("FastGelu", domain=MICROSOFT)
def _fast_gelu(_node: Node, _version: int) -> Kernel:
    def kernel(x: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.gelu(x if bias is None else x + bias, approximate="tanh")

    return kernel


# -- softmax ---------------------------------------------------------------------------------


def _rows(x: Tensor, axis: int) -> Tensor:
    """Return the matrix that versions before 13 compute on: axes before and from ``axis``."""
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    best = torch.argmax(x, dim=axis, keepdim=True)
    return torch.zeros_like(x).scatter_(axis, best, 1)


_ALONG: dict[str, Callable[[Tensor, int], Tensor]] = {
    "Softmax": torch.softmax,
    "LogSoftmax": torch.log_softmax,
    "Hardmax": _hardmax,
}


@operator("Softmax", "LogSoftmax", "Hardmax")
def _softmax_of_rows(node: Node, _version: int) -> Kernel:
    axis, along = node.attribute("axis", 1), _ALONG[node.op]
    return lambda x: along(_rows(x, axis), 1).reshape(x.shape)


@operator("Softmax", "LogSoftmax", "Hardmax", since=13)
def _softmax(node: Node, _version: int) -> Kernel:
    axis, along = node.attribute("axis", -1), _ALONG[node.op]
    return lambda x: along(x, axis)


# -- bounds ----------------------------------------------------------------------------------


@operator("Clip")
def _clip_by_attributes(node: Node, _version: int) -> Kernel:
    low, high = node.attribute("min"), node.attribute("max")
    return lambda x: _clipped(x, low, high)


@operator("Clip", since=11, lists=(1, 2))
def _clip(_node: Node, _version: int) -> Kernel:
    return lambda x, low=None, high=None: _clipped(x, low, high)


def _clipped(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is None and high is None:
        return x
    if low is None or high is None or low > high or not x.is_floating_point():
        return torch.clamp(x, low, high)
    # The same numbers as clamp's, with one operation backwards where clamp's has four.
    return functional.hardtanh(x, low, high)
