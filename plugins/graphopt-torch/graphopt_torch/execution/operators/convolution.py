"""Convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from graphopt_torch.execution.operators.windows import Pads, lay_pads, same_pads
from graphopt_torch.execution.registry import operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor
_FORWARD: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_BACK: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def _spatial(node: Node, version: int) -> str | None:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    rank = len(weight.shape) - 2 if weight is not None and weight.shape is not None else 2
    return None if rank in _FORWARD else f"has {rank} spatial dimensions"


@operator("Conv", refuse=_spatial)
def conv(node: Node, _version: int) -> Kernel:
    """Correlate with the weight; pads that differ on two sides are laid around beforehand."""
    pads = Pads.of(node)
    groups = node.attribute("group", 1)
    strides, dilations = node.attribute("strides"), node.attribute("dilations")

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        around = pads.around(x.shape[2:], weight.shape[2:], stride, dilation)
        x, padding = lay_pads(x, around)
        made: Tensor = _FORWARD[rank](x, weight, bias, stride, padding, dilation, groups)
        return made

    return kernel


@operator("ConvTranspose", refuse=_spatial)
def _conv_transpose(node: Node, _version: int) -> Kernel:
    groups = node.attribute("group", 1)
    strides, dilations = node.attribute("strides"), node.attribute("dilations")
    extra, sizes = node.attribute("output_padding"), node.attribute("output_shape")
    given, auto = node.attribute("pads"), node.attribute("auto_pad", "NOTSET")

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        added = extra or [0] * rank
        whole = [
            s * (n - 1) + a + d * (k - 1) + 1
            for n, k, s, d, a in zip(
                x.shape[2:], weight.shape[2:], stride, dilation, added, strict=True
            )
        ]
        made: Tensor = _BACK[rank](x, weight, None, stride, 0, 0, groups, dilation)
        # What the extra padding adds beyond the last window is zero.
        short = [w - n for w, n in zip(whole, made.shape[2:], strict=True)]
        if any(short):
            made = functional.pad(made, [p for n in reversed(short) for p in (0, n)])
        cuts = _cuts(whole, sizes, given, auto, x.shape[2:], stride)
        if any(n for pair in cuts for n in pair):
            made = functional.pad(made, [-n for pair in reversed(cuts) for n in pair])
        return made if bias is None else made + bias.reshape(1, -1, *[1] * rank)

    return kernel


def _cuts(
    whole: list[int],
    sizes: list[int] | None,
    given: list[int] | None,
    auto: str,
    source: Any,
    stride: list[int],
) -> list[tuple[int, int]]:
    """Return what goes at the start and the end of each spatial axis."""
    rank = len(whole)
    if sizes is None and auto in {"SAME_UPPER", "SAME_LOWER"}:
        sizes = [n * s for n, s in zip(source, stride, strict=True)]
    if sizes is None:
        pads = given or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    totals = [w - n for w, n in zip(whole, sizes[-rank:], strict=True)]
    return [same_pads(t, upper=auto != "SAME_LOWER") for t in totals]
