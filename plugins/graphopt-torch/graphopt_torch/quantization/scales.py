"""Scales that are learned: each family of scales is what it was at the start, times a factor.

s = s0 * exp(theta), so that a scale keeps its sign, scales that were equal stay equal, and nothing
learned leaves every bit as it was. The gradient of theta is s g dL/ds with g = 1 / sqrt(n Q): that
of the paper, through the exponential. A step of Adam changes a scale by about its rate, relatively.

Source: Esser et al. 2020, arXiv:1902.08153 (LSQ), sec. 2.2; n counts the weights or, for an
activation, its features, and Q is the largest integer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt_torch.execution.straight_through import with_gradient_times

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = np.ndarray[Any, Any]

Tensor = torch.Tensor

_FURTHEST = 8.0
"""Largest magnitude of theta: a factor of about 3000, either way."""


@dataclass
class ScaleFacts:
    """One stored scale.

    Args:
        array: as stored.
        elements: how many numbers are quantized with each of its scales, in all.
        largest: integer, from the zero point.
        limit: largest scale that leaves the graph what it is; infinite as a rule.
    """

    array: Array
    elements: int = 1
    largest: int = 127
    limit: float = field(default=np.inf)


class LearnedFamily:
    """The factor of scales that change together.

    Args:
        scales: by name; of one shape, or some of them single numbers.
        device: of the parameter.
    """

    def __init__(self, scales: Mapping[str, ScaleFacts], device: str) -> None:
        shapes = {np.shape(f.array) for f in scales.values() if np.size(f.array) > 1}
        shape = shapes.pop() if len(shapes) == 1 and _all_many(scales) else ()
        self.names = tuple(scales)
        self._start = {
            n: torch.from_numpy(np.array(f.array, dtype=np.float32)).to(device)
            for n, f in scales.items()
        }
        self._kinds = {n: f.array.dtype for n, f in scales.items()}
        self._limits = {n: f.limit for n, f in scales.items() if np.isfinite(f.limit)}
        self.parameter = torch.nn.Parameter(torch.zeros(shape, device=device))
        first = next(iter(scales.values()))
        elements = max(f.elements for f in scales.values())
        balance = 1.0 / np.sqrt(max(1, elements) * max(1, first.largest))
        self._balance = torch.full((), float(balance), device=device)

    def values(self) -> dict[str, Tensor]:
        """Return the scales by name, as the graph would hold them; differentiable."""
        theta = with_gradient_times(self.parameter, self._balance)
        factor = torch.exp(theta.clamp(-_FURTHEST, _FURTHEST))
        return {name: self._scale(name, factor) for name in self.names}

    def _scale(self, name: str, factor: Tensor) -> Tensor:
        made = self._start[name] * factor
        if name in self._limits:
            made = made.clamp(max=self._limits[name])
        return made.half() if self._kinds[name] == np.float16 else made


def _all_many(scales: Mapping[str, ScaleFacts]) -> bool:
    return all(np.size(f.array) > 1 for f in scales.values())
