"""Elements by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from graphopt_torch.execution.registry import operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def gathered(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Return the slices of ``x`` along an axis that ``indices`` name, in the shape of these."""
    axis = axis % x.dim()
    size = x.shape[axis]
    if indices.dim() == 0:
        return x.select(axis, int(indices.item()))
    flat = indices.reshape(-1)
    flat = torch.where(flat < 0, flat + size, flat)
    found = x.index_select(axis, flat)
    return found.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("Gather")
def _gather(node: Node, _version: int) -> Kernel:
    axis = node.attribute("axis", 0)
    return lambda x, indices: gathered(x, indices, axis)


def _counted(indices: Tensor, size: int) -> Tensor:
    wide = indices.to(torch.int64)
    return torch.where(wide < 0, wide + size, wide)


@operator("GatherElements")
def _gather_elements(node: Node, _version: int) -> Kernel:
    axis = node.attribute("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _counted(indices, x.shape[axis]))


def _places(indices: Tensor, sizes: torch.Size) -> tuple[Tensor, ...]:
    """Return an index for each of the first axes from the last axis of ``indices``."""
    return tuple(_counted(indices[..., i], sizes[i]) for i in range(indices.shape[-1]))


@operator("GatherND")
def _gather_nd(node: Node, _version: int) -> Kernel:
    batch = node.attribute("batch_dims", 0)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        places = _places(indices, x.shape[batch:])
        if not batch:
            return x[places]
        rows = []
        for axis in range(batch):
            shape = [1] * (indices.dim() - 1)
            shape[axis] = x.shape[axis]
            rows.append(torch.arange(x.shape[axis], device=x.device).reshape(shape))
        return x[(*rows, *places)]

    return kernel


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements", "Scatter")
def _scatter_elements(node: Node, _version: int) -> Kernel:
    axis, how = node.attribute("axis", 0), node.attribute("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = _counted(indices, x.shape[axis])
        if how == "none":
            return x.scatter(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[how], include_self=True)

    return kernel


@operator("ScatterND")
def _scatter_nd(node: Node, _version: int) -> Kernel:
    how = node.attribute("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = _places(indices, x.shape)
        if how in {"none", "add"}:
            return x.index_put(places, updates, accumulate=how == "add")
        return _scattered(x, places, updates, _REDUCTIONS[how])

    return kernel


def _scattered(x: Tensor, places: tuple[Tensor, ...], updates: Tensor, how: str) -> Tensor:
    """Reduce slices into the places: whole slices are counted as rows of a matrix."""
    count = len(places)
    rows = torch.zeros_like(places[0])
    for place, size in zip(places, x.shape, strict=False):
        rows = rows * size + place
    inner = x.shape[count:].numel()
    flat = x.reshape(-1, inner)
    at = rows.reshape(-1, 1).expand(-1, inner)
    return flat.scatter_reduce(0, at, updates.reshape(-1, inner), how).reshape(x.shape)


@operator("OneHot", lists=(1,))
def _one_hot(node: Node, _version: int) -> Kernel:
    axis = node.attribute("axis", -1)

    def kernel(indices: Tensor, depth: int | list[int], values: Tensor) -> Tensor:
        count = int(depth[0] if isinstance(depth, list) else depth)
        at = axis + indices.dim() + 1 if axis < 0 else axis
        wide = indices.to(torch.int64)
        wide = torch.where(wide < 0, wide + count, wide).unsqueeze(at)
        shape = [1] * (indices.dim() + 1)
        shape[at] = count
        hit = wide == torch.arange(count, device=indices.device).reshape(shape)
        return torch.where(hit, values[1], values[0])

    return kernel


@operator("Compress", irregular=True)
def _compress(node: Node, _version: int) -> Kernel:
    axis = node.attribute("axis")

    def kernel(x: Tensor, chosen: Tensor) -> Tensor:
        along = x.reshape(-1) if axis is None else x
        places = torch.nonzero(chosen).reshape(-1)
        return along.index_select(0 if axis is None else axis, places)

    return kernel


operator("NonZero", irregular=True)(lambda _node, _version: lambda x: torch.nonzero(x).t())
