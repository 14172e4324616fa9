"""A tensor inside the model that teacher and student share, and how far they are apart in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphopt_torch.teaching.channels import STRANGE, kept_channels, narrowed_axis, strangeness
from graphopt_torch.teaching.output_kinds import Kind
from graphopt_torch.teaching.output_losses import output_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class Feature:
    """A tensor inside the model that teacher and student share.

    Args:
        taught: its name in the teacher.
        found: its name in the student.
        power: mean square of what the student has of it, in the teacher.
        axis: along which the student has fewer channels.
        channels: those that it has; None for all.
    """

    taught: str
    found: str
    power: float
    axis: int = 0
    channels: Tensor | None = None

    @classmethod
    def of(
        cls, name: str, other: str, taught: Sequence[Tensor], found: Sequence[Tensor]
    ) -> Feature | None:
        """Compare a tensor of both on some samples; None where they are not the same."""
        if any(
            t.ndim != f.ndim or t.shape[0] != f.shape[0] for t, f in zip(taught, found, strict=True)
        ):
            return None
        axis, channels = 0, None
        if taught[0].shape != found[0].shape:
            narrow = narrowed_axis(taught[0].shape, found[0].shape)
            channels = None if narrow is None else kept_channels(taught[0], found[0], narrow)
            if narrow is None or channels is None:
                return None
            axis = narrow
        made = cls(name, other, 1.0, axis, channels)
        kept = [made.kept(each) for each in taught]
        if any(strangeness(t, f) >= STRANGE for t, f in zip(kept, found, strict=True)):
            return None
        return replace(made, power=power_of(kept))

    def kept(self, taught: Tensor) -> Tensor:
        """Return what the student has of the teacher's tensor."""
        return taught if self.channels is None else taught.index_select(self.axis, self.channels)

    def loss(self, taught: Tensor, found: Tensor) -> Tensor:
        """Return half the power of the difference over the power of the feature."""
        return output_loss(Kind.SIGNAL, self.kept(taught), found, self.power)


def power_of(values: Sequence[Tensor]) -> float:
    """Return the mean square of some tensors."""
    return sum(float(v.double().square().mean()) for v in values) / len(values)
