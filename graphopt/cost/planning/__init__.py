"""Memory plans: operator order, shared buffers, offsets, and whether the result fits."""

from __future__ import annotations

from graphopt.cost.planning.fit import Fit, fit
from graphopt.cost.planning.intervals import Interval, lower_bound
from graphopt.cost.planning.offsets import Placement, place
from graphopt.cost.planning.order import Ordering, find_order
from graphopt.cost.planning.plan import (
    Execution,
    MemoryPlan,
    PlannedBuffer,
    plan_execution,
    plan_memory,
)
from graphopt.cost.sharing import Sharing, sharing_of

__all__ = [
    "Execution",
    "Fit",
    "Interval",
    "MemoryPlan",
    "Ordering",
    "Placement",
    "PlannedBuffer",
    "Sharing",
    "find_order",
    "fit",
    "lower_bound",
    "place",
    "plan_execution",
    "plan_memory",
    "sharing_of",
]
