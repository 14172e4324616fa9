"""What graphopt itself registers for judging outputs and coupling axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.analysis.coupling import CouplingRule


@hookimpl
def graphopt_register_metrics() -> Sequence[tuple[str, Callable[..., float]]]:
    """Return the metrics that come with graphopt."""
    from graphopt.analysis.metrics import BUILTIN_METRICS

    return [(metric.name, metric) for metric in BUILTIN_METRICS]


@hookimpl
def graphopt_register_coupling() -> Sequence[CouplingRule]:
    """Return the coupling rules that come with graphopt."""
    from graphopt.analysis.coupling.rules import BUILTIN_RULES

    return list(BUILTIN_RULES)
