"""A figure as a tensor: what the cost model's tables give for expected widths and bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt_torch.pruning.terms import Term, Terms

    Tensors = Mapping[str, torch.Tensor]


def expected_figure(terms: Terms, widths: Tensors, shares: Tensors) -> torch.Tensor:
    """Return the expected figure, float32 [], with a gradient to widths and shares.

    Args:
        terms: of the figure.
        widths: expected width of each group.
        shares: of the bytes of a constant that its bits leave, by name; 1 for what is not named.
    """
    device = next(iter(widths.values())).device if widths else "cpu"
    total = torch.as_tensor(terms.fixed, dtype=torch.float32, device=device)
    for term in terms.terms:
        part = interpolated(term, widths)
        share = shares.get(term.owner)
        total = total + (part if share is None else share * part)
    return total


def interpolated(term: Term, widths: Tensors) -> torch.Tensor:
    """Return a term as ``Term.value`` does, with a gradient to widths."""
    if not term.sides:
        return torch.as_tensor(float(term.table), dtype=torch.float32)
    found: torch.Tensor | None = None
    for side, knots in zip(term.sides, term.knots, strict=True):
        size = side.size(widths)
        if found is None:
            found = torch.as_tensor(term.table, dtype=torch.float32, device=size.device)
        places = torch.as_tensor(knots, dtype=torch.float32, device=size.device)
        at = int(torch.searchsorted(places, size.detach(), right=True)) - 1
        at = min(max(at, 0), len(knots) - 2)
        share = ((size - places[at]) / (places[at + 1] - places[at])).clamp(0.0, 1.0)
        found = found[at] * (1.0 - share) + found[at + 1] * share
    assert found is not None
    return found
