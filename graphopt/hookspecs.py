"""The whole extension surface: every hook that a plugin may implement, on one screen.

A hook returns a list of typed things. It is called once per ``Registry``, when the kind of thing is
first asked for. pluggy finds the plugins; the order in which they are found never matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    import click

    from graphopt.analysis.coupling import CouplingRule
    from graphopt.calibration.base import Observer, Reader
    from graphopt.cost.base import CostModel
    from graphopt.passes.base import Pass
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.targets.base import Target

hookspec = pluggy.HookspecMarker("graphopt")
hookimpl = pluggy.HookimplMarker("graphopt")


@hookspec
def graphopt_register_passes() -> Sequence[type[Pass]]:  # type: ignore[empty-body]
    """Return pass classes: frozen dataclasses with ``name``, ``effect`` and ``run``. Since 0.1."""


@hookspec
def graphopt_register_targets() -> Sequence[Target]:  # type: ignore[empty-body]
    """Return targets; ``graphopt.targets.read_target`` makes one from a TOML file. Since 0.1."""


@hookspec
def graphopt_register_observers() -> Sequence[type[Observer]]:  # type: ignore[empty-body]
    """Return observer classes: frozen dataclasses with ``name`` and ``start``. Since 0.1."""


@hookspec
def graphopt_register_cost_models() -> Sequence[type[CostModel]]:  # type: ignore[empty-body]
    """Return cost model classes with ``name`` and ``estimate``. Since 0.1."""


@hookspec
def graphopt_register_readers() -> Sequence[type[Reader]]:  # type: ignore[empty-body]
    """Return reader classes with ``name``, ``accepts`` and ``open``. Since 0.1."""


@hookspec
def graphopt_register_metrics() -> Sequence[tuple[str, Callable[..., float]]]:  # type: ignore[empty-body]
    """Return (name, function(outputs, labels) -> float) pairs; larger is better. Since 0.1.

    ``outputs`` is the model's first output for each sample, ``labels`` one entry for each; all of
    them are held in memory. What ``graphopt.analysis.metrics.per_sample`` returns, or a ``Metric``,
    takes the place of the function: sums over samples need no memory. ``expects`` of these and of a
    ``WholeMetric`` says what outputs are compared with: labels, or the original's outputs.
    """


@hookspec
def graphopt_register_importance() -> Sequence[type[Importance]]:  # type: ignore[empty-body]
    """Return importance criteria: frozen dataclasses with ``name`` and ``scores``. Since 0.1."""


@hookspec
def graphopt_register_coupling() -> Sequence[CouplingRule]:  # type: ignore[empty-body]
    """Return rules that say how operators couple the axes of their tensors. Since 0.1."""


@hookspec
def graphopt_register_executors() -> Sequence[tuple[str, Callable[[str], Executor]]]:  # type: ignore[empty-body]
    """Return (URL scheme, function(url) -> Executor) pairs for scaling out. Since 0.1."""


@hookspec
def graphopt_register_commands() -> Sequence[click.Command]:  # type: ignore[empty-body]
    """Return click commands that are added to ``graphopt``. Since 0.1."""
