"""What an operator's rule consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node


@dataclass(frozen=True)
class CouplingRule:
    """How an operator couples the axes of its tensors, and what it must be told when they shrink.

    Args:
        op: operator.
        couple: says, through Links, what becomes of every axis of the node's inputs and outputs.
        resize: rewrites attributes and constant inputs of the node that hold sizes or indices, for
            a Cut; called before any constant is sliced, while shapes are still the old ones.
            Constants whose axes are tied are sliced by the engine. None when nothing is to be done.
        domain: operator set; empty for the default one.
    """

    op: str
    couple: Callable[[Node, Links], None]
    resize: Callable[[Node, Cut], None] | None = None
    domain: str = ""

    @property
    def name(self) -> str:
        """What it is registered under."""
        return f"{self.domain}.{self.op}" if self.domain else self.op
