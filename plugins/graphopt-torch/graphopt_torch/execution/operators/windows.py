"""Pads of windows that slide over an image: as stated, or as automatic rules set them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from graphopt.ir import Node

Around = list[tuple[int, int]]
"""Pads at the start and the end of each spatial axis."""


@dataclass(frozen=True)
class Pads:
    """What an operator with windows says about its pads."""

    auto: str
    given: tuple[int, ...]

    @classmethod
    def of(cls, node: Node) -> Pads:
        """Read the attributes of a node."""
        auto = node.attribute("auto_pad", "NOTSET") or "NOTSET"
        return cls(auto, tuple(node.attribute("pads") or ()))

    def around(
        self,
        sizes: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
    ) -> Around:
        """Return the pads of each axis."""
        rank = len(kernel)
        if self.auto in {"SAME_UPPER", "SAME_LOWER"}:
            spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
            totals = [
                max(0, (-(-n // s) - 1) * s + span - n)
                for n, s, span in zip(sizes, stride, spans, strict=True)
            ]
            return [same_pads(t, upper=self.auto == "SAME_UPPER") for t in totals]
        if self.auto == "VALID" or not self.given:
            return [(0, 0)] * rank
        return list(zip(self.given[:rank], self.given[rank:], strict=True))


def same_pads(total: int, *, upper: bool) -> tuple[int, int]:
    """Part a number of pads; where it is odd, ``upper`` puts one more at the end.

    Less than none is what an output lacks at its end.
    """
    if total < 0:
        return 0, total
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)


def lay_pads(x: torch.Tensor, around: Around, value: float = 0.0) -> tuple[torch.Tensor, Any]:
    """Return the tensor, padded where the sides of an axis differ, and the pads that remain."""
    if all(start == end for start, end in around):
        return x, [start for start, _ in around]
    pads = [p for pair in reversed(around) for p in pair]
    return functional.pad(x, pads, value=value), [0] * len(around)
