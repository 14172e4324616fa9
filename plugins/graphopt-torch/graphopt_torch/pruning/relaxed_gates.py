"""Widths as probabilities: a gate is as open as the widths that keep its unit are likely.

With the units of a group in order of what they are worth, a width says which of them stay. So the
gate of a unit is the sum of the probabilities of the widths that keep it, and the expected width is
the sum of all gates (the masks of Wan et al. 2020, "FBNetV2", section 3.2, with probabilities that
a temperature makes certain in the end).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt_torch.pruning.gates import Gates
from graphopt_torch.pruning.sites import kept_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt_torch.pruning.sites import Site

    Array = np.ndarray[Any, Any]

_FULL = 0.8
"""Probability that a group begins to keep all of its units with."""


class RelaxedGates(Gates):
    """Gates that follow from the scores of widths.

    Args:
        sites: the groups.
        scores: what each unit is worth, by group; float64 [units].
        device: where the program runs.
    """

    def __init__(
        self, sites: Sequence[Site], scores: Mapping[str, Array], device: str = "cpu"
    ) -> None:
        super().__init__(sites, device)
        self.temperature = 1.0
        self.logits: dict[str, torch.nn.Parameter] = {}
        self._masks: dict[str, torch.Tensor] = {}
        self._noise: dict[str, torch.Tensor] = {}
        self._scores = scores
        for site in sites:
            rest = np.log((1.0 - _FULL) / max(1, len(site.widths) - 1) / _FULL)
            start = torch.full((len(site.widths),), float(rest), device=device)
            start[-1] = 0.0
            self.logits[site.name] = torch.nn.Parameter(start)
            masks = np.stack([self.keep(site, width) for width in site.widths])
            self._masks[site.name] = torch.as_tensor(masks, dtype=torch.float32, device=device)

    def keep(self, site: Site, width: int) -> Array:
        """Return which units of a group a width keeps; bool [units]."""
        return kept_units(site, self._scores[site.name], width)

    def draw(self, seed: int, amount: float) -> None:
        """Disturb the scores of widths by Gumbel noise, so that widths are tried.

        Source: Jang et al. 2017, "Categorical reparameterization with Gumbel-softmax", equation 2.

        Args:
            seed: of the noise.
            amount: that it is multiplied by; 0 for none.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, logits in self.logits.items():
            uniform = torch.rand(logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
            self._noise[name] = -amount * (-uniform.log()).log().to(logits.device)

    def probabilities(self, name: str, *, disturbed: bool = True) -> torch.Tensor:
        """Return those of the widths of a group; float32 [widths]."""
        logits: torch.Tensor = self.logits[name]
        if disturbed and name in self._noise:
            logits = logits + self._noise[name]
        return torch.softmax(logits / self.temperature, dim=0)

    def gate(self, name: str) -> torch.Tensor:
        """Return the gates of a group as its probabilities make them; float32 [units]."""
        return self.probabilities(name) @ self._masks[name]

    def expected(self) -> dict[str, torch.Tensor]:
        """Return the expected width of each group, without noise."""
        return {
            name: self.probabilities(name, disturbed=False) @ self._masks[name].sum(dim=1)
            for name in self.logits
        }

    def decided(self) -> dict[str, int]:
        """Return the likeliest width of each group."""
        return {site.name: site.widths[int(self.logits[site.name].argmax())] for site in self.sites}
