"""Data movement: nothing is computed, elements only change their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from graphopt_torch.execution.registry import operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


@operator("Transpose")
def _transpose(node: Node, _version: int) -> Kernel:
    order = node.attribute("perm")
    return lambda x: x.permute(order if order is not None else tuple(reversed(range(x.dim()))))


@operator("Concat", since=4)
def _concat(node: Node, _version: int) -> Kernel:
    axis = node.attribute("axis")
    return lambda *parts: torch.cat(parts, axis)


@operator("Tile", since=6, lists=(1,))
def _tile(_node: Node, _version: int) -> Kernel:
    return lambda x, repeats: x.repeat(repeats)


# -- parts -----------------------------------------------------------------------------------


@operator("Split")
def _split_by_attribute(node: Node, _version: int) -> Kernel:
    axis, sizes, count = node.attribute("axis", 0), node.attribute("split"), len(node.outputs)
    return lambda x: x.split(sizes or _equal(x.shape[axis], count), axis)


@operator("Split", since=13, lists=(1,))
def _split(node: Node, _version: int) -> Kernel:
    axis = node.attribute("axis", 0)
    count = node.attribute("num_outputs") or len(node.outputs)
    return lambda x, sizes=None: x.split(sizes or _equal(x.shape[axis], count), axis)


def _equal(size: int, count: int) -> list[int]:
    """Return the sizes of parts; the last one takes what is left."""
    each = -(-size // count)
    return [min(each, max(0, size - each * i)) for i in range(count)]


@operator("Slice")
def _slice_by_attributes(node: Node, _version: int) -> Kernel:
    starts, ends, axes = (node.attribute(n) for n in ("starts", "ends", "axes"))
    return lambda x: _sliced(x, starts, ends, axes, None)


@operator("Slice", since=10, lists=(1, 2, 3, 4))
def _slice(_node: Node, _version: int) -> Kernel:
    return lambda x, starts, ends, axes=None, steps=None: _sliced(x, starts, ends, axes, steps)


def _sliced(
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None,
    steps: list[int] | None,
) -> Tensor:
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[place] if axes is not None else place
        step = steps[place] if steps is not None else 1
        size = x.shape[axis]
        first, last, step = (
            slice(start, end, step).indices(size) if step > 0 else _back(start, end, step, size)
        )
        if step > 0:
            if first == 0 and last >= size and step == 1:
                continue
            cut = [slice(None)] * (axis % x.dim()) + [slice(first, last, step)]
            x = x[tuple(cut)]
        else:
            places = torch.arange(first, last, step, device=x.device)
            x = x.index_select(axis, places)
    return x


def _back(start: int, end: int, step: int, size: int) -> tuple[int, int, int]:
    """Return start, end and step of a walk backwards; an end before the first element is -1."""
    first = min(start + size if start < 0 else start, size - 1)
    last = max(end + size if end < 0 else end, -1)
    return first, min(last, first), step


# -- pads ------------------------------------------------------------------------------------


@operator("Pad")
def _pad_by_attributes(node: Node, _version: int) -> Kernel:
    pads, value = node.attribute("pads"), node.attribute("value", 0.0)
    mode = node.attribute("mode", "constant")
    return lambda x: _padded(x, pads, value, None, mode)


@operator("Pad", since=11, lists=(1, 3))
def _pad(node: Node, _version: int) -> Kernel:
    mode = node.attribute("mode", "constant")

    def kernel(
        x: Tensor, pads: list[int], value: Tensor | None = None, axes: list[int] | None = None
    ) -> Tensor:
        fill = 0 if value is None else value.item()
        return _padded(x, pads, fill, axes, mode)

    return kernel


def _padded(x: Tensor, pads: list[int], value: Any, axes: list[int] | None, mode: str) -> Tensor:
    rank = x.dim()
    along = list(range(rank)) if axes is None else [a % rank for a in axes]
    around = [(0, 0)] * rank
    for place, axis in enumerate(along):
        around[axis] = (pads[place], pads[place + len(along)])
    if mode != "constant":
        for axis, (start, end) in enumerate(around):
            x = _extended(x, axis, start, end, mode)
        return x
    flat = [p for pair in reversed(around) for p in pair]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return functional.pad(x, flat, value=value)


def _extended(x: Tensor, axis: int, start: int, end: int, mode: str) -> Tensor:
    """Return ``x`` with elements of its own at both ends of an axis; negative pads cut."""
    if not start and not end:
        return x
    size = x.shape[axis]
    places = torch.arange(-start, size + end, device=x.device)
    if mode == "edge":
        places = places.clamp(0, size - 1)
    elif mode == "wrap":
        places = places % size
    else:
        turn = max(2 * (size - 1), 1)
        places = places % turn
        places = torch.where(places >= size, turn - places, places)
    return x.index_select(axis, places)


# -- blocks ----------------------------------------------------------------------------------


@operator("DepthToSpace")
def _depth_to_space(node: Node, _version: int) -> Kernel:
    size, mode = node.attribute("blocksize"), node.attribute("mode", "DCR")

    def kernel(x: Tensor) -> Tensor:
        batch, depth, height, width = x.shape
        if mode == "CRD":
            return functional.pixel_shuffle(x, size)
        parts = x.reshape(batch, size, size, depth // size**2, height, width)
        return parts.permute(0, 3, 4, 1, 5, 2).reshape(
            batch, depth // size**2, height * size, width * size
        )

    return kernel


@operator("SpaceToDepth")
def _space_to_depth(node: Node, _version: int) -> Kernel:
    size, mode = node.attribute("blocksize"), node.attribute("mode", "DCR")

    def kernel(x: Tensor) -> Tensor:
        if mode == "CRD":
            return functional.pixel_unshuffle(x, size)
        batch, depth, height, width = x.shape
        parts = x.reshape(batch, depth, height // size, size, width // size, size)
        return parts.permute(0, 3, 5, 1, 2, 4).reshape(
            batch, depth * size**2, height // size, width // size
        )

    return kernel


@operator("ReverseSequence")
def _reverse_sequence(node: Node, _version: int) -> Kernel:
    time, batch = node.attribute("time_axis", 0), node.attribute("batch_axis", 1)

    def kernel(x: Tensor, lengths: Tensor) -> Tensor:
        turned = x.movedim((batch, time), (0, 1))
        steps = torch.arange(turned.shape[1], device=x.device).unsqueeze(0)
        ends = lengths.unsqueeze(1)
        places = torch.where(steps < ends, ends - 1 - steps, steps)
        rows = torch.arange(turned.shape[0], device=x.device).unsqueeze(1)
        return turned[rows, places].movedim((0, 1), (batch, time))

    return kernel


@operator("Trilu")
def _triangle(node: Node, _version: int) -> Kernel:
    upper = bool(node.attribute("upper", 1))

    def kernel(x: Tensor, offset: Tensor | None = None) -> Tensor:
        diagonal = 0 if offset is None else int(offset.item())
        return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)

    return kernel
