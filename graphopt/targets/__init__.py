"""Hardware as data: what a target is, the ones that graphopt ships, and the machine it runs on."""

from __future__ import annotations

from graphopt.targets.base import Compute, Energy, Memory, QuantizationRules, Target
from graphopt.targets.host import host_target
from graphopt.targets.reader import builtin_targets, read_target

__all__ = [
    "Compute",
    "Energy",
    "Memory",
    "QuantizationRules",
    "Target",
    "builtin_targets",
    "host_target",
    "read_target",
]
