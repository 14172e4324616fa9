"""`graphopt diff`: how far two models are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command
from graphopt.cli.options import FILE, model_argument, pass_settings
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("diff", cls=Command)
@model_argument("a")
@model_argument("b")
@click.option("--data", type=FILE, help="Samples to run both on; by default seeded probe inputs.")
@pass_settings
def command(settings: Settings, a: Path, b: Path, data: Path | None) -> None:
    """Compare two models, in results and in structure."""
    from graphopt import api
    from graphopt.cli.render_results import diff_table

    result, terminal = api.diff(a, b, data=data), Terminal(settings)
    terminal.show(result, lambda: diff_table(result))
