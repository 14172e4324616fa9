"""`graphopt estimate`: what a model will cost on a target, by the cost model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command
from graphopt.cli.options import model_argument, pass_settings, target_option
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("estimate", cls=Command)
@model_argument()
@target_option("host")
@pass_settings
def command(settings: Settings, model: Path, target: str) -> None:
    """Estimate latency, memory and energy on a target.

    The costliest kernels come with it; -v lists all of them.
    """
    from graphopt import api

    estimate = api.estimate(model, target=target, registry=settings.registry)
    terminal = Terminal(settings)
    if settings.json:
        terminal.data(estimate)
        return
    from graphopt.cli.render_results import estimate_table

    lines = estimate_table(estimate, target, verbose=settings.verbose > 0, width=terminal.width)
    terminal.result(lines)
