"""The built-in cost models, registered through the same hook as everybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.base import CostModel


@hookimpl
def graphopt_register_cost_models() -> Sequence[type[CostModel]]:
    """Return the models for targets without and with a measured profile."""
    from graphopt.cost.profiled import Profiled
    from graphopt.cost.roofline import Roofline

    return [Roofline, Profiled]


def find_cost_model(name: str) -> type[CostModel] | None:
    """Return the usual model without importing the other."""
    from graphopt.cost.roofline import Roofline

    return Roofline if name == Roofline.name else None


FINDERS = {"cost_models": find_cost_model}
"""By the end of a hook's name: what finds one thing of those that the hook returns, or None."""
