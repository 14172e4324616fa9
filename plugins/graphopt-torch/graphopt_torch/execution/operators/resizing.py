"""Resize: each axis is a product with a matrix that says which elements a new one is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt_torch.execution.registry import operator

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Way:
    """Attributes of Resize."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    inside_only: bool = False
    outside: float = 0.0

    @classmethod
    def of(cls, node: Node) -> _Way:
        return cls(
            node.attribute("mode", "nearest"),
            node.attribute("coordinate_transformation_mode", "half_pixel"),
            node.attribute("nearest_mode", "round_prefer_floor"),
            node.attribute("cubic_coeff_a", -0.75),
            bool(node.attribute("antialias", 0)),
            bool(node.attribute("exclude_outside", 0)),
            node.attribute("extrapolation_value", 0.0),
        )


def _places(way: _Way, size: int, new: int, scale: float, part: tuple[float, float]) -> Array:
    """Return where each new element lies in the old axis."""
    x = np.arange(new, dtype=np.float64)
    if way.coordinates == "asymmetric":
        return x / scale
    if way.coordinates == "align_corners":
        # The ratio of a stated scale, whose product with the size need not be whole.
        return x * (size - 1) / (scale * size - 1) if new > 1 else np.zeros(1)
    if way.coordinates == "tf_crop_and_resize":
        start, end = part
        if new > 1:
            return start * (size - 1) + x * (end - start) * (size - 1) / (new - 1)
        return np.full(1, 0.5 * (start + end) * (size - 1))
    if way.coordinates == "pytorch_half_pixel" and new == 1:
        return np.zeros(1)
    centred: Array = (x + 0.5) / scale - 0.5
    if way.coordinates == "half_pixel_symmetric":
        centred += size / 2 * (1 - new / (scale * size))
    return centred


def _nearest(way: _Way, places: Array) -> Array:
    if way.nearest == "floor":
        return np.asarray(np.floor(places))
    if way.nearest == "ceil":
        return np.asarray(np.ceil(places))
    if way.nearest == "round_prefer_ceil":
        return np.asarray(np.floor(places + 0.5))
    return np.asarray(np.ceil(places - 0.5))


def _linear(distance: Array) -> Array:
    return np.asarray(np.maximum(0.0, 1 - np.abs(distance)))


def _cubic(distance: Array, a: float) -> Array:
    """Return the weight of Keys' convolution kernel (1981) at a distance."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@lru_cache(maxsize=256)
def _matrix(way: _Way, size: int, new: int, scale: float, part: tuple[float, float]) -> Array:
    """Return the weights [new, size]."""
    places = _places(way, size, new, scale, part)
    made = np.zeros((new, size))
    rows = np.arange(new)
    if way.mode == "nearest":
        made[rows, np.clip(_nearest(way, places), 0, size - 1).astype(int)] = 1
    else:
        narrow = min(scale, 1.0) if way.antialias else 1.0
        reach = (1 if way.mode == "linear" else 2) / narrow
        first = np.floor(places - reach).astype(int)
        taps = first[:, None] + np.arange(math.ceil(2 * reach) + 2)
        distance = (taps - places[:, None]) * narrow
        weights = _linear(distance) if way.mode == "linear" else _cubic(distance, way.cubic)
        inside = (taps >= 0) & (taps < size)
        if way.inside_only:
            weights = np.where(inside, weights, 0)
        weights = weights / weights.sum(1, keepdims=True)
        np.add.at(made, (rows[:, None], np.clip(taps, 0, size - 1)), weights)
    if way.coordinates == "tf_crop_and_resize":
        made[(places < 0) | (places > size - 1)] = np.nan
    return made


def _resized(x: Tensor, axis: int, matrix: Array, way: _Way) -> Tensor:
    if way.mode == "nearest" and not np.isnan(matrix).any():
        return x.index_select(axis, torch.as_tensor(matrix.argmax(1), device=x.device))
    outside = np.isnan(matrix[:, 0])
    weights = torch.as_tensor(np.nan_to_num(matrix), dtype=x.dtype, device=x.device)
    made = torch.matmul(x.movedim(axis, -1), weights.t())
    if outside.any():
        made = made.masked_fill(torch.as_tensor(outside, device=x.device), way.outside)
    return made.movedim(-1, axis)


@dataclass(frozen=True)
class _Goal:
    """Which axes are resized, and how a stated size is met that has another ratio of sides."""

    axes: tuple[int, ...] | None
    policy: str

    def sizes(
        self, x: Tensor, scales: list[float] | None, sizes: list[int] | None
    ) -> list[tuple[int, int, float]]:
        """Return axis, new size and scale of each axis."""
        axes = [a % x.dim() for a in self.axes] if self.axes else list(range(x.dim()))
        old = [x.shape[a] for a in axes]
        if not sizes:
            assert scales
            return [(a, math.floor(n * s), s) for a, n, s in zip(axes, old, scales, strict=True)]
        ratios = [new / n for new, n in zip(sizes, old, strict=True)]
        if self.policy == "stretch":
            return list(zip(axes, sizes, ratios, strict=True))
        ratio = min(ratios) if self.policy == "not_larger" else max(ratios)
        return [(a, math.floor(ratio * n + 0.5), ratio) for a, n in zip(axes, old, strict=True)]


def _kernel(way: _Way, goal: _Goal) -> Kernel:
    def kernel(
        x: Tensor,
        roi: list[float] | None = None,
        scales: list[float] | None = None,
        sizes: list[int] | None = None,
    ) -> Tensor:
        kind, found = x.dtype, goal.sizes(x, scales, sizes)
        made = x if x.is_floating_point() or way.mode == "nearest" else x.to(torch.float32)
        for place, (axis, new, scale) in enumerate(found):
            part = (0.0, 1.0)
            if roi and way.coordinates == "tf_crop_and_resize":
                part = (roi[place], roi[place + len(found)])
            if new == x.shape[axis] and scale == 1 and part == (0.0, 1.0):
                continue
            matrix = _matrix(way, x.shape[axis], new, scale, part)
            made = _resized(made, axis, matrix, way)
        return made if made.dtype == kind else torch.round(made).to(kind)

    return kernel


@operator("Resize", since=11, lists=(1, 2, 3))
def _resize(node: Node, _version: int) -> Kernel:
    axes = node.attribute("axes")
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    return _kernel(_Way.of(node), _Goal(tuple(axes) if axes else None, policy))


def _old_way(node: Node) -> _Way:
    mode = node.attribute("mode", "nearest")
    return _Way(mode, "asymmetric", "floor")


@operator("Resize", since=10, lists=(1,))
@operator("Upsample", since=9, lists=(1,))
def _resize_by_scales(node: Node, _version: int) -> Kernel:
    made = _kernel(_old_way(node), _Goal(None, "stretch"))
    return lambda x, scales: made(x, None, scales)


@operator("Upsample", since=7)
def _upsample_by_attribute(node: Node, _version: int) -> Kernel:
    made, scales = _kernel(_old_way(node), _Goal(None, "stretch")), node.attribute("scales")
    return lambda x: made(x, None, scales)
