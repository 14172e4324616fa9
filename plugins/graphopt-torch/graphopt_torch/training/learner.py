"""Parameters with the state of their optimiser and their moving average."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from torch import Tensor

    from graphopt_torch.training.schedule import Schedule

    Array = np.ndarray[Any, Any]

_MOMENTS = ("exp_avg", "exp_avg_sq")
_SIZED = frozenset({"weights", "biases", "norms"})
"""Groups of parameters that are as large as the model happened to make them."""
_USUAL, _SMALLEST = 0.1, 0.01
"""Root mean square of a weight that is trained at the stated rate, and the least that counts."""
_SMOOTHING = 0.98
"""Decay of the average of the gradient's norm."""


class Learner:
    """Adam (Kingma and Ba 2015; AdamW of Loshchilov and Hutter 2019) and an average of the weights.

    Args:
        groups: parameters by what they are; the rate of a group is ``schedule.factors``' share, and
            that of a weight goes with its size, see ``Schedule.rate``.
        schedule: how fast, and how long the average reaches back.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[torch.nn.Parameter]], schedule: Schedule
    ) -> None:
        self.schedule = schedule
        named: list[dict[str, Any]] = [
            {"params": [each], "factor": schedule.factors.get(name, 1.0) * _size(name, each)}
            for name, parameters in groups.items()
            for each in parameters
        ]
        self.parameters = [parameter for group in named for parameter in group["params"]]
        self.average = copies(self.parameters)
        self._norm = 0.0
        self._adam = torch.optim.AdamW(named, lr=schedule.rate, weight_decay=schedule.weight_decay)

    def clear(self) -> None:
        """Forget all gradients."""
        self._adam.zero_grad(set_to_none=True)

    def learn(self, number: int) -> None:
        """Move the parameters against their gradients, and the average after them."""
        rate = self.schedule.rate_at(number)
        for group in self._adam.param_groups:
            group["lr"] = rate * group["factor"]
        if self.schedule.clip:
            self._clip(number)
        self._adam.step()
        share = 1.0 - self.schedule.averaging_at(number)
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter.detach(), share)

    def _clip(self, number: int) -> None:
        """Shorten a gradient that is far longer than those before it."""
        most = self.schedule.clip * self._norm if number else float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, most))
        kept = min(norm, most)
        self._norm = kept if not number else _SMOOTHING * self._norm + (1 - _SMOOTHING) * kept

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the parameters be their average inside the block."""
        before = copies(self.parameters)
        put(self.average, self.parameters)
        try:
            yield
        finally:
            put(before, self.parameters)

    def state(self) -> dict[str, Array]:
        """Return all that ``load`` needs, by name."""
        found = {"norm": torch.tensor(self._norm, dtype=torch.float64)}
        for number, parameter in enumerate(self.parameters):
            found[f"weight {number}"] = parameter.detach()
            found[f"average {number}"] = self.average[number]
            for moment in ("step", *_MOMENTS):
                if moment in self._adam.state[parameter]:
                    found[f"{moment} {number}"] = self._adam.state[parameter][moment]
        return {name: values.cpu().numpy() for name, values in found.items()}

    def load(self, state: Mapping[str, Array]) -> None:
        """Take up what ``state`` returned.

        Raises:
            KeyError, ValueError: it is another training's.
        """
        self._norm = float(state["norm"])
        for number, parameter in enumerate(self.parameters):
            put([_like(state[f"weight {number}"], parameter)], [parameter])
            put([_like(state[f"average {number}"], parameter)], [self.average[number]])
            if f"step {number}" in state:
                self._adam.state[parameter] = {
                    "step": torch.tensor(float(state[f"step {number}"])),
                    **{m: _like(state[f"{m} {number}"], parameter) for m in _MOMENTS},
                }


def _size(group: str, parameter: Tensor) -> float:
    """Return what the rate of a parameter is multiplied by.

    A step of Adam has the size of the rate whatever the gradient's is. Where BatchNormalization was
    folded the weights of one model differ in size by a factor of a hundred: one rate for all would
    wipe out the small ones before the large ones have moved.
    """
    if group not in _SIZED or not parameter.numel():
        return 1.0
    size = float(parameter.detach().double().square().mean().sqrt())
    return max(size, _SMALLEST) / _USUAL


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies that have no gradient."""
    return [tensor.detach().clone() for tensor in tensors]


def put(values: Sequence[Tensor], into: Sequence[Tensor]) -> None:
    """Write values into tensors, in place."""
    with torch.no_grad():
        for value, tensor in zip(values, into, strict=True):
            tensor.copy_(value)


def _like(values: Array, parameter: Tensor) -> Tensor:
    if values.shape != tuple(parameter.shape):
        raise ValueError(f"{values.shape} in the place of {tuple(parameter.shape)}")
    return torch.from_numpy(values.copy()).to(parameter.device, parameter.dtype)
