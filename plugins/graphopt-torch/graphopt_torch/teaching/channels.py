"""Which channels of a teacher's tensor a student has kept, told by what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_SMALLEST = 1e-12
STRANGE = 1.0
"""Power of the difference over that of a tensor from which on the two are not the same tensor:
another pass has turned or scaled its channels."""


def narrowed_axis(taught: Sequence[int], found: Sequence[int]) -> int | None:
    """Return the axis along which the second shape is shorter; None unless that is the only one.

    Args:
        taught: shape of a tensor of the teacher.
        found: shape of the student's.
    """
    if len(taught) != len(found):
        return None
    differing = [
        axis for axis, sizes in enumerate(zip(taught, found, strict=True)) if len({*sizes}) > 1
    ]
    if len(differing) != 1 or found[differing[0]] > taught[differing[0]]:
        return None
    return differing[0]


def kept_channels(taught: Tensor, found: Tensor, axis: int) -> Tensor | None:
    """Return which channel of the teacher each of the student's is nearest to, int64 [m].

    Pruning keeps the order of channels, and what is left of a channel is near to what it was; so
    the nearest ones ascend. Where they do not, nothing is known, and None is returned.

    Args:
        taught: float [..., n, ...].
        found: float [..., m, ...], m <= n, the same shape otherwise.
        axis: of the channels.
    """
    one, other = (t.double().movedim(axis, 0).flatten(1) for t in (taught, found))
    apart = other.square().sum(1)[:, None] + one.square().sum(1)[None] - 2.0 * other @ one.T
    nearest = apart.argmin(dim=1)
    return nearest if bool((nearest.diff() > 0).all()) else None


def strangeness(taught: Tensor, found: Tensor) -> float:
    """Return the power of the difference over that of the first; infinite where that is zero."""
    power = float(taught.double().square().mean())
    apart = float((taught.double() - found.double()).square().mean())
    return apart / power if power > _SMALLEST else torch.inf
