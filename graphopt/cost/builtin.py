"""The built-in cost models, registered through the same hook as everybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiled import Profiled
from graphopt.cost.roofline import Roofline
from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.base import CostModel


@hookimpl
def graphopt_register_cost_models() -> Sequence[type[CostModel]]:
    """Return the models for targets without and with a measured profile."""
    return [Roofline, Profiled]
