"""A budget as a price: the multiplier that makes keeping to it worth as much as it has to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Multiplier:
    """Lagrangian multiplier of "figure <= limit", with a quadratic term.

    Penalty: m c + r/2 max(c, 0)^2 with c = figure / limit - 1, and after each step
    m <- max(0, m + speed c) (Nocedal, Wright 2006, "Numerical Optimization", section 17.4).

    Args:
        limit: of the figure.
        speed: of the multiplier.
        stiffness: r.
        value: m.
    """

    limit: float
    speed: float = 0.02
    stiffness: float = 1.0
    value: float = 0.0

    def penalty(self, figure: torch.Tensor) -> torch.Tensor:
        """Return what is added to the loss."""
        excess = figure / self.limit - 1.0
        return self.value * excess + 0.5 * self.stiffness * excess.clamp_min(0.0).square()

    def update(self, figure: float) -> None:
        """Raise the price while the figure is above the limit, lower it below."""
        self.value = max(0.0, self.value + self.speed * (figure / self.limit - 1.0))
