"""What pruning must reach: the models, their goals, and the accuracies that are asked for.

The least a row must have is what a prototype reached; the aim is half a point to three above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

CLOCK = 0.02
"""What the clock of a shared machine is worth: shares of a time that count as none."""
COUNTED = 0.005
"""Share by which multiply-accumulates may miss a goal, as channels are whole."""
PREDICTED = 0.15
"""How far a predicted time may be from the measured one."""
INTEGER_LOSS = 0.5
"""Points that int8 may lose on top of pruning."""
INTEGER_GAIN = 1.25
"""How many times faster than int8 alone a pruned int8 model must be somewhere."""


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Args:
        metric: "macs" or "latency".
        times: how many times less it must get.
        least: top-1 that the model must have, in points.
        aim: top-1 that is aimed at.
    """

    metric: str
    times: float
    least: float
    aim: float

    @property
    def name(self) -> str:
        """As it stands in the results, such as "macs 1.3x"."""
        return f"{self.metric} {self.times:g}x"

    def reached(self, row: Row) -> bool:
        """Return whether a row got as small or as fast as asked."""
        if self.metric == "macs":
            return bool(row["macs_ratio"] >= self.times * (1 - COUNTED))
        return bool(row["speed"] >= self.times * (1 - CLOCK))


@dataclass(frozen=True)
class Subject:
    """One model.

    Args:
        name: of the workload.
        images: unlabelled ones to calibrate on, the first of the calibration part.
        goals: what is asked for.
        integer: top-1 at which a pruned int8 model must be INTEGER_GAIN times faster than int8
            alone; None where that is not asked.
    """

    name: str
    images: int
    goals: tuple[Goal, ...]
    integer: float | None


SUBJECTS: tuple[Subject, ...] = (
    Subject(
        "cifar10_resnet20_jpegft",
        1000,
        (
            Goal("macs", 1.3, 86.2, 86.5),
            Goal("macs", 1.5, 85.2, 85.6),
            Goal("macs", 2.0, 82.3, 83.5),
            Goal("latency", 1.3, 84.8, 85.4),
            Goal("latency", 1.6, 83.0, 83.9),
        ),
        82.5,
    ),
    Subject(
        "cifar10_resnet56",
        1000,
        (
            Goal("macs", 1.3, 82.8, 83.0),
            Goal("macs", 1.5, 82.3, 82.6),
            Goal("macs", 2.0, 80.3, 81.3),
            Goal("latency", 1.3, 81.6, 82.1),
            Goal("latency", 1.6, 79.8, 80.9),
        ),
        79.5,
    ),
    Subject(
        "imagenet_proxyless_w025_r112",
        200,
        (
            Goal("macs", 1.1, 47.2, 48.0),
            Goal("macs", 1.2, 45.4, 46.5),
            Goal("macs", 1.3, 38.6, 42.0),
            Goal("latency", 1.2, 42.0, 45.0),
        ),
        None,
    ),
)


def verdicts(goal: Goal, float_row: Row | None, integer_row: Row | None) -> dict[str, bool]:
    """Return every bar of one goal, by what it says; a model that was not made misses all."""
    made = float_row is not None
    found = {f"{goal.name}: pruned": made}
    if float_row is None:
        return found
    found |= {
        f"{goal.name}: reached": goal.reached(float_row),
        f"{goal.name}: top-1 at least {goal.least:g}": at_least(float_row["top1"], goal.least),
        f"{goal.name}: not slower than the original": float_row["speed"] >= 1 - CLOCK,
    }
    for kind in ("predicted", "estimated"):
        said = float_row.get(f"{kind}_speed")
        if said is not None:
            name = f"{goal.name}: time {kind} within {PREDICTED:.0%}"
            found[name] = abs(float_row["speed"] / said - 1) <= PREDICTED
    if integer_row is not None:
        lost = float_row["top1"] - integer_row["top1"]
        chance = integer_row["interval_on_pruned"][0] <= 0.0
        name = f"{goal.name}: int8 on top loses at most {INTEGER_LOSS:g} points, or by chance"
        found[name] = lost <= INTEGER_LOSS or chance
    return found


def aims(goal: Goal, float_row: Row | None) -> dict[str, bool]:
    """Return whether the accuracy that is aimed at was reached; nothing fails for it."""
    if float_row is None:
        return {}
    return {f"{goal.name}: top-1 aim {goal.aim:g}": at_least(float_row["top1"], goal.aim)}


def integer_verdict(subject: Subject, rows: Mapping[str, Row]) -> dict[str, bool]:
    """Return whether some pruned int8 model is accurate enough and fast enough.

    Args:
        subject: the model.
        rows: of pruned int8 models.
    """
    if subject.integer is None:
        return {}
    fast = [
        name
        for name, row in rows.items()
        if at_least(row["top1"], subject.integer) and row["speed_over_int8"] >= INTEGER_GAIN
    ]
    return {f"int8: {INTEGER_GAIN:g} times int8 alone at {subject.integer:g}": bool(fast)}


def at_least(found: float, wanted: float) -> bool:
    """Return whether a share of correct answers in points is as large, rounding apart."""
    return found >= wanted - 1e-6
