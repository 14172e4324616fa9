"""Which channels must go together: index-level coupling of the axes of every tensor."""

from __future__ import annotations

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.couple import couple
from graphopt.analysis.coupling.cut import Cut
from graphopt.analysis.coupling.groups import Coupling, Group
from graphopt.analysis.coupling.links import Consumer, Links, Producer
from graphopt.analysis.coupling.rule import CouplingRule

__all__ = [
    "Axis",
    "Consumer",
    "Coupling",
    "CouplingRule",
    "Cut",
    "Group",
    "Links",
    "Producer",
    "couple",
]
