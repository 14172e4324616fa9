"""Pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from graphopt_torch.execution.operators.windows import Pads
from graphopt_torch.execution.registry import operator, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Node
    from graphopt_torch.execution.operators.windows import Around
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor
_MAX: dict[int, Any] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_AVERAGE: dict[int, Any] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def _spatial_axes(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


plain(
    {
        "GlobalAveragePool": lambda x: x.mean(_spatial_axes(x), keepdim=True),
        "GlobalMaxPool": lambda x: x.amax(_spatial_axes(x), keepdim=True),
    }
)


@operator("GlobalLpPool")
def _global_norm(node: Node, _version: int) -> Kernel:
    power = node.attribute("p", 2)
    return lambda x: torch.linalg.vector_norm(x, power, _spatial_axes(x), keepdim=True)


def _too_many_axes(node: Node, _version: int) -> str | None:
    rank = len(node.attribute("kernel_shape") or ())
    return None if rank in _MAX else f"has {rank} spatial dimensions"


class _Window:
    """Kernel, strides, dilations and pads of a pooling operator."""

    def __init__(self, node: Node) -> None:
        self.kernel: list[int] = node.attribute("kernel_shape")
        self.rank = len(self.kernel)
        self.stride: list[int] = node.attribute("strides") or [1] * self.rank
        self.dilation: list[int] = node.attribute("dilations") or [1] * self.rank
        self.ceil = bool(node.attribute("ceil_mode", 0))
        self.pads = Pads.of(node)

    def around(self, x: Tensor) -> Around:
        """Return stated pads, with what rounding up adds at the end of each axis."""
        sizes = x.shape[2:]
        around = self.pads.around(sizes, self.kernel, self.stride, self.dilation)
        if not self.ceil:
            return around
        return [
            (start, end + self._more(axis, sizes[axis], start, end))
            for axis, (start, end) in enumerate(around)
        ]

    def _more(self, axis: int, size: int, start: int, end: int) -> int:
        """Return how many rows the last window reaches beyond the pads; it must begin inside."""
        stride = self.stride[axis]
        span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        count = -(-(size + start + end - span) // stride) + 1
        if (count - 1) * stride >= size + start:
            count -= 1
        return max(0, (count - 1) * stride + span - size - start - end)


def _laid(x: Tensor, around: Around, value: float) -> Tensor:
    if not any(p for pair in around for p in pair):
        return x
    return functional.pad(x, [p for pair in reversed(around) for p in pair], value=value)


@operator("MaxPool", refuse=_too_many_axes)
def _max_pool(node: Node, _version: int) -> Kernel:
    window = _Window(node)
    pool = _MAX[window.rank]
    indices = len(node.outputs) > 1 and bool(node.outputs[1].name)
    columns = bool(node.attribute("storage_order", 0))

    def kernel(x: Tensor) -> Any:
        values = x if x.is_floating_point() else x.to(torch.float32)
        around = window.around(x)
        if all(a == b and 2 * a <= k for (a, b), k in zip(around, window.kernel, strict=True)):
            padding = [a for a, _ in around]
        else:
            values, padding = _laid(values, around, float("-inf")), [0] * window.rank
        if indices:
            return _with_indices(x, values, padding, around)
        return pool(values, window.kernel, window.stride, padding, window.dilation).to(x.dtype)

    def _with_indices(x: Tensor, values: Tensor, padding: list[int], around: Around) -> Any:
        best, where = pool(
            values, window.kernel, window.stride, padding, window.dilation, return_indices=True
        )
        starts = [0 if any(padding) else a for a, _ in around]
        return best.to(x.dtype), _flat_indices(x, values, where, starts, columns)

    return kernel


def _flat_indices(
    x: Tensor, padded: Tensor, where: Tensor, starts: list[int], columns: bool
) -> Tensor:
    """Return indices into the whole of ``x`` for indices into each padded image."""
    sizes, rest, places = x.shape[2:], where, []
    for size in reversed(padded.shape[2:]):
        places.append(rest % size)
        rest = rest // size
    places = [p - s for p, s in zip(reversed(places), starts, strict=True)]
    order = list(range(len(sizes)))
    step, flat = 1, torch.zeros_like(where)
    for axis in order if columns else reversed(order):
        flat = flat + places[axis] * step
        step *= sizes[axis]
    images = torch.arange(x.shape[0] * x.shape[1], device=x.device) * step
    return flat + images.reshape(x.shape[0], x.shape[1], *[1] * len(sizes))


@operator("AveragePool", refuse=_too_many_axes)
def _average_pool(node: Node, _version: int) -> Kernel:
    window = _Window(node)
    pool = _AVERAGE[window.rank]
    with_pads = bool(node.attribute("count_include_pad", 0))
    is_plain = set(window.dilation) == {1} and not window.ceil

    def kernel(x: Tensor) -> Tensor:
        around = window.around(x)
        fits = all(a == b and 2 * a <= k for (a, b), k in zip(around, window.kernel, strict=True))
        if is_plain and fits:
            pads = [a for a, _ in around]
            made: Tensor = pool(x, window.kernel, window.stride, pads, count_include_pad=with_pads)
            return made
        total = _window_sum(_laid(x, around, 0.0), window)
        return total / _counts(x, around)

    def _counts(x: Tensor, around: Around) -> Tensor:
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        if with_pads:
            stated = window.pads.around(x.shape[2:], window.kernel, window.stride, window.dilation)
            ones = _laid(ones, stated, 1.0)
            around = [(0, b - d) for (_, b), (_, d) in zip(around, stated, strict=True)]
        return _window_sum(_laid(ones, around, 0.0), window)

    return kernel


def _window_sum(x: Tensor, window: _Window) -> Tensor:
    """Return the sum of each window: a convolution with ones, each channel by itself."""
    forward: Callable[..., Tensor] = (functional.conv1d, functional.conv2d, functional.conv3d)[
        window.rank - 1
    ]
    ones = torch.ones((1, 1, *window.kernel), dtype=x.dtype, device=x.device)
    alone = x.reshape(-1, 1, *x.shape[2:])
    made = forward(alone, ones, None, window.stride, 0, window.dilation)
    return made.reshape(*x.shape[:2], *made.shape[2:])


@operator("LpPool", refuse=_too_many_axes)
def _norm_pool(node: Node, _version: int) -> Kernel:
    window, power = _Window(node), node.attribute("p", 2)

    def kernel(x: Tensor) -> Tensor:
        powers = x.abs().pow(power)
        return _window_sum(_laid(powers, window.around(x), 0.0), window).pow(1 / power)

    return kernel
