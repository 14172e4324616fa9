"""`graphopt inspect`: what a model is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.group import Command
from graphopt.cli.options import model_argument, pass_settings, size_options, sizes
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("inspect", cls=Command, short_help="Show what a model is made of.")
@model_argument()
@size_options
@pass_settings
def command(
    settings: Settings, model: Path, shapes: tuple[Any, ...], dims: tuple[Any, ...]
) -> None:
    """Show the inputs, outputs, operators and weights of MODEL."""
    from graphopt import api
    from graphopt.cli.render_results import model_summary

    summary, terminal = api.inspect(model, **sizes(shapes, dims)), Terminal(settings)
    terminal.show(summary, lambda: model_summary(summary))
    terminal.notices(summary.notices)
