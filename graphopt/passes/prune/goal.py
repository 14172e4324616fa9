"""How much of a model is to go: "latency=0.6x", "macs=30M", "size=200kB"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from graphopt.errors import RecipeError

Metric = Literal["latency", "macs", "params", "ram", "size"]
METRICS: tuple[Metric, ...] = get_args(Metric)
COUNTED: frozenset[Metric] = frozenset({"macs", "params"})
"""Figures that are the same in integers as in float."""

BYTE_UNITS = {
    "": 1.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9,
    "KB": 1024.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3,
}  # fmt: skip
"""Bytes in the units that a size may be given in."""

_UNITS: dict[Metric, dict[str, float]] = {
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "macs": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
    "params": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
    "ram": BYTE_UNITS,
    "size": BYTE_UNITS,
}
_GOAL = re.compile(r"\s*([a-z]+)\s*=\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*")
_HINT = 'write "latency=0.6x", "macs=0.5x", "params=100k", "ram=256kB" or "size=1MB"'


@dataclass(frozen=True)
class Goal:
    """What one figure of a model is to become at most.

    Args:
        metric: milliseconds of one inference, multiply-accumulates, stored parameters, bytes of
            activations that are alive at once, or bytes of the file.
        value: a share of what it is now when ``relative``, else milliseconds, a count, or bytes.
        relative: whether ``value`` is a share.
    """

    metric: Metric
    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read a goal; raises RecipeError G103 with what is wrong."""
        match = _GOAL.fullmatch(text)
        if match is None or match[1] not in METRICS:
            raise RecipeError(f"`{text}` is not a goal for pruning", code="G103", hint=_HINT)
        metric, value, unit = cast("Metric", match[1]), float(match[2]), match[3]
        if unit == "x":
            if not 0 < value <= 1:
                raise RecipeError(
                    f"`{text}` is not less than now", code="G103", hint="a share is in (0, 1]"
                )
            return cls(metric, value, relative=True)
        if unit not in _UNITS[metric] or value <= 0:
            units = ", ".join(["x", *filter(None, _UNITS[metric])])
            raise RecipeError(
                f"`{text}` has no unit of {metric}", code="G103", hint=f"units: {units}"
            )
        return cls(metric, value * _UNITS[metric][unit], relative=False)

    def limit(self, now: float) -> float:
        """Return the largest value that reaches the goal, given what it is now."""
        return self.value * now if self.relative else self.value
