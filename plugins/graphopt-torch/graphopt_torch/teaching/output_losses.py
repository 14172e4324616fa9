"""How far outputs of a student are from its teacher's: what is minimised, and what is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cosine_similarity, log_softmax

from graphopt.analysis.divergence import OutputKind
from graphopt_torch.teaching.output_kinds import Kind

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 1e-12
"""Of a power or a probability, as in ``graphopt.analysis.divergence``."""


def output_loss(
    kind: Kind, taught: Tensor, found: Tensor, power: float, temperature: float = 1.0
) -> Tensor:
    """Return what is minimised of one output; all kinds are comparable for small differences.

    - logits: T^2 KL(softmax(taught / T) || softmax(found / T)) (Hinton et al. 2015, "Distilling
      the knowledge in a neural network", section 2);
    - probabilities: KL(taught || found);
    - directions: 1 - cosine, which for rows of length one is half the squared distance;
    - signals: half the power of the difference over the mean power of the output.

    Args:
        kind: what the output holds.
        taught: by the teacher.
        found: by the student; the same shape.
        power: mean square of the output over several samples; for signals.
        temperature: T; for logits.
    """
    one, other = taught.float(), found.float()
    if kind is Kind.SIGNAL:
        return 0.5 * (one - other).square().mean() / max(power, _SMALLEST)
    if kind is Kind.DIRECTION:
        return (1.0 - cosine_similarity(one, other, dim=-1)).mean()
    if kind is Kind.PROBABILITIES:
        return _kl(one.clamp_min(_SMALLEST).log(), other.clamp_min(_SMALLEST).log()).mean()
    first, second = (log_softmax(scores / temperature, dim=-1) for scores in (one, other))
    return temperature**2 * _kl(first, second).mean()


def divergences(kind: OutputKind, taught: Tensor, found: Tensor, *, joined: bool) -> Tensor:
    """Return ``graphopt.analysis.divergence.divergence`` of each sample, float64 [samples].

    Args:
        kind: what the output holds.
        taught: by the teacher.
        found: by the student; the same shape.
        joined: whether axis 0 is over samples; otherwise all is one sample.
    """
    one, other = (t.double() if joined else t.double()[None] for t in (taught, found))
    if kind is OutputKind.SIGNAL:
        apart = 0.5 * _power(one - other) / _power(one).clamp_min(_SMALLEST)
    else:
        if kind is OutputKind.LOGITS:
            first, second = log_softmax(one, dim=-1), log_softmax(other, dim=-1)
        else:
            first, second = one.clamp_min(_SMALLEST).log(), other.clamp_min(_SMALLEST).log()
        apart = _kl(first, second).flatten(1).mean(dim=1) if one.ndim > 2 else _kl(first, second)
        apart = apart.clamp_min(0.0)
    return torch.nan_to_num(apart, nan=torch.inf, posinf=torch.inf)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """Return KL over the last axis of two logarithms of probabilities."""
    return (first.exp() * (first - second)).sum(dim=-1)


def _power(values: Tensor) -> Tensor:
    return values.flatten(1).square().mean(dim=1)
