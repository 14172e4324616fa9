"""`graphopt estimate`: what a model will cost on one target or several, by the cost model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.group import Command
from graphopt.cli.options import (
    FILE,
    SIZE,
    complete_targets,
    model_argument,
    pass_settings,
    size_options,
    sizes,
)
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("estimate", cls=Command)
@model_argument()
@click.option(
    "--target",
    default="host",
    show_default=True,
    metavar="NAME|FILE[,...]",
    shell_complete=complete_targets,
    help="Hardware to estimate for; several are separated by commas.",
)
@click.option("--compare", type=FILE, metavar="MODEL", help="Another model, on the same targets.")
@click.option(
    "--what-if/--no-what-if",
    default=True,
    help="Whether to say what int8 and pruning would change.",
)
@click.option("--max-ram", type=SIZE, help="What activations may take, such as 256KiB or 1MB.")
@click.option("--max-flash", type=SIZE, help="What weights and graph may take.")
@size_options
@pass_settings
def command(
    settings: Settings,
    model: Path,
    target: str,
    compare: Path | None,
    what_if: bool,
    max_ram: int | None,
    max_flash: int | None,
    shapes: tuple[Any, ...],
    dims: tuple[Any, ...],
) -> None:
    """Estimate latency, memory and energy on targets.

    With one target the costliest kernels come with it; -v lists all of them. With several there is
    a line for each. What int8 and pruning would change is an estimate as well: nothing is made.
    The exit status is 1 when the model does not fit into what --max-ram and --max-flash allow.
    """
    from graphopt import api

    names = [name.strip() for name in target.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("name a target", param_hint="--target")
    found = api.estimate_targets(
        model,
        names,
        compare=compare,
        what_if=what_if,
        max_ram=max_ram,
        max_flash=max_flash,
        **sizes(shapes, dims),
        registry=settings.registry,
    )
    terminal = Terminal(settings)
    if settings.json:
        terminal.data(found)
    else:
        from graphopt.cli.render_estimate import estimate_lines

        verbose = settings.verbose > 0
        terminal.result(estimate_lines(found, verbose=verbose, width=terminal.width))
    if "host" in names and not api.has_host_profile():
        terminal.say("`graphopt profile` measures this machine once, which makes this narrower")
    limited = max_ram is not None or max_flash is not None
    if limited and not all(row.memory.fit.fits for row in found.rows):
        click.get_current_context().exit(1)
