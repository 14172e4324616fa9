"""Reductions over axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from graphopt_torch.execution.registry import operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keep)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _largest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if any(x.shape[a] == 0 for a in axes):
        return _of_nothing(x, axes, keep, lowest=True)
    return torch.amax(x, axes, keep)


def _least(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if any(x.shape[a] == 0 for a in axes):
        return _of_nothing(x, axes, keep, lowest=False)
    return torch.amin(x, axes, keep)


def _of_nothing(x: Tensor, axes: list[int], keep: bool, *, lowest: bool) -> Tensor:
    """Return the reduction over an axis of length zero."""
    fill: float
    if x.is_floating_point():
        fill = float("-inf") if lowest else float("inf")
    elif x.dtype is torch.bool:
        fill = not lowest
    else:
        fill = torch.iinfo(x.dtype).min if lowest else torch.iinfo(x.dtype).max
    return torch.sum(x, axes, keep).to(x.dtype).fill_(fill)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.log(_sum(x, axes, keep))


def _sum_of_squares(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _absolute_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _length(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        made: Tensor = torch.linalg.vector_norm(x, 2, axes, keep)
        return made
    return torch.sqrt(_sum_of_squares(x.to(torch.float64), axes, keep)).to(x.dtype)


_REDUCE: dict[str, Any] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _largest,
    "ReduceMin": _least,
    "ReduceProd": _product,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceSumSquare": _sum_of_squares,
    "ReduceL1": _absolute_sum,
    "ReduceL2": _length,
}


@operator(*_REDUCE)
def _reduce_by_attribute(node: Node, _version: int) -> Kernel:
    reduce, keep = _REDUCE[node.op], bool(node.attribute("keepdims", 1))
    axes = node.attribute("axes")

    def kernel(x: Tensor) -> Tensor:
        over = axes or list(range(x.dim()))
        made: Tensor = reduce(x, over, keep) if over else x
        return made

    return kernel


def _reduce_by_input(node: Node, _version: int) -> Kernel:
    reduce, keep = _REDUCE[node.op], bool(node.attribute("keepdims", 1))
    nothing = bool(node.attribute("noop_with_empty_axes", 0))

    def kernel(x: Tensor, axes: list[int] | None = None) -> Tensor:
        if not axes:
            if nothing:
                return _each(reduce, x)
            axes = list(range(x.dim()))
        # A tensor without axes still has one element to square, to take the logarithm of…
        return reduce(x, axes, keep) if axes else _each(reduce, x)

    return kernel


def _each(reduce: Any, x: Tensor) -> Tensor:
    """Return the reduction of each element by itself."""
    made: Tensor = reduce(x.unsqueeze(-1), [-1], False)
    return made


operator("ReduceSum", since=13, lists=(1,))(_reduce_by_input)
operator(*(set(_REDUCE) - {"ReduceSum"}), since=18, lists=(1,))(_reduce_by_input)


@operator("ArgMax", "ArgMin")
def _index_of_extreme(node: Node, _version: int) -> Kernel:
    axis, keep = node.attribute("axis", 0), bool(node.attribute("keepdims", 1))
    last = bool(node.attribute("select_last_index", 0))
    find: Any = torch.argmax if node.op == "ArgMax" else torch.argmin

    def kernel(x: Tensor) -> Tensor:
        if last:
            made: Tensor = x.shape[axis] - 1 - find(x.flip(axis), axis, keep)
            return made
        found: Tensor = find(x, axis, keep)
        return found

    return kernel


@operator("TopK")
def _top_k_by_attribute(node: Node, _version: int) -> Kernel:
    axis, count = node.attribute("axis", -1), node.attribute("k")
    return lambda x: _top(x, count, axis, largest=True)


@operator("TopK", since=10, lists=(1,))
def _top_k(node: Node, _version: int) -> Kernel:
    axis, largest = node.attribute("axis", -1), bool(node.attribute("largest", 1))
    return lambda x, count: _top(x, count[0], axis, largest=largest)


def _top(x: Tensor, count: int, axis: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    """Return the extreme values in order; of equal ones the first in the tensor."""
    values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)
