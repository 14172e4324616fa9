"""`graphopt bench`: how long a model takes on this machine, alone or against another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.group import Command
from graphopt.cli.options import FILE, model_argument, pass_settings, size_options, sizes
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("bench", cls=Command)
@model_argument()
@click.option("--against", type=FILE, help="Model to compare with, in turns within one run.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=3.0,
    show_default=True,
    help="How long to measure.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads inside an operator.",
)
@size_options
@pass_settings
def command(
    settings: Settings,
    model: Path,
    against: Path | None,
    seconds: float,
    threads: int,
    shapes: tuple[Any, ...],
    dims: tuple[Any, ...],
) -> None:
    """Time a model on this machine.

    The figures are medians after a warm-up. A speed of 2 x means half the time.
    """
    from graphopt import api
    from graphopt.cli.render_results import bench_table

    given = sizes(shapes, dims)
    result = api.bench(model, against=against, seconds=seconds, threads=threads, **given)
    terminal = Terminal(settings)
    terminal.show(result, lambda: bench_table(result))
