"""Gates on units while a program runs: one number for each, by which its tensors are multiplied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from graphopt.analysis.coupling import Axis
    from graphopt_torch.pruning.sites import Site

    Array = np.ndarray[Any, Any]
    Tap = Callable[[torch.Tensor], torch.Tensor]


class Gates:
    """Multiplies what sums read by the gates of its units.

    An axis may hold units of several groups, as behind a Concat, and indices of none.

    Args:
        sites: the groups that have gates.
        device: where the program runs.
    """

    def __init__(self, sites: Sequence[Site], device: str = "cpu") -> None:
        self.sites = tuple(sites)
        self.values: dict[str, torch.Tensor] = {
            site.name: torch.ones(site.size, device=device) for site in sites
        }
        """The gates of each group, float32 [units]; or [batch, units], one for each sample."""
        self._device = device
        self._parts: dict[Axis, list[tuple[str, torch.Tensor]]] = {}
        for site in sites:
            for axis in site.gates:
                units = torch.as_tensor(site.group.units[axis], device=device)
                self._parts.setdefault(axis, []).append((site.name, units))

    def close(self, keeps: Mapping[str, Array]) -> None:
        """Let gates be one for the units that stay and zero for the others."""
        for name, keep in keeps.items():
            self.values[name] = torch.as_tensor(keep, dtype=torch.float32, device=self._device)

    @property
    def taps(self) -> dict[str, Tap]:
        """What to apply to tensors as they are made, by name; reads ``values`` when it is called.

        Tensors whose gates are all open are passed on as they are.
        """
        by_tensor: dict[str, list[Axis]] = {}
        for axis in self._parts:
            by_tensor.setdefault(axis.value.name, []).append(axis)
        return {name: self._tap(axes) for name, axes in by_tensor.items()}

    def gate(self, name: str) -> torch.Tensor:
        """Return the gates of a group as they are now."""
        return self.values[name]

    def _tap(self, axes: Sequence[Axis]) -> Tap:
        def tap(tensor: torch.Tensor) -> torch.Tensor:
            for axis in axes:
                factor = self._factor(axis)
                if factor is not None:
                    tensor = tensor * _placed(factor, axis.position, tensor.shape)
            return tensor

        return tap

    def _factor(self, axis: Axis) -> torch.Tensor | None:
        """Return one number for each index of an axis, [size] or [batch, size]; None if all are 1.

        A gate that gradients are wanted of is never left out.
        """
        factor: torch.Tensor | None = None
        for name, units in self._parts[axis]:
            gate = self.gate(name)
            if not gate.requires_grad and bool((gate == 1).all()):
                continue
            picked = gate[..., units.clamp_min(0)]
            own = torch.where(units >= 0, picked, torch.ones_like(picked))
            factor = own if factor is None else factor * own
        return factor


def _placed(factor: torch.Tensor, position: int, shape: Sequence[int]) -> torch.Tensor:
    """Return factors of an axis in the shape that broadcasts over a tensor.

    Factors of samples stand along the first axis, where a sample may have several rows.

    Raises:
        ValueError: the first axis does not consist of samples.
    """
    placed = [1] * len(shape)
    placed[position] = factor.shape[-1]
    if factor.dim() > 1:
        if position == 0 or shape[0] % factor.shape[0]:
            raise ValueError(f"the first of {tuple(shape)} is not {factor.shape[0]} samples")
        factor = factor.repeat_interleave(shape[0] // factor.shape[0], dim=0)
        placed[0] = shape[0]
    return factor.reshape(placed)
