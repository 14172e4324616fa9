"""`graphopt diff`: how far two models are apart, and what made them so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.group import Command
from graphopt.cli.options import (
    FILE,
    complete_presets,
    model_argument,
    pass_settings,
    size_options,
    sizes,
    target_option,
)
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("diff", cls=Command)
@model_argument("a")
@model_argument("b", required=False)
@click.option("--data", type=FILE, help="Samples to run both on; by default seeded probe inputs.")
@size_options
@click.option("--bisect", is_flag=True, help="Name the pass and the node that differ first.")
@click.option(
    "--recipe",
    metavar="PRESET|FILE",
    shell_complete=complete_presets,
    help="Instead of B: what the passes of a recipe make of A, one by one.",
)
@target_option()
@click.option("--tolerance", type=float, help="Relative error that is none.  [default: 1e-4]")
@click.option("--save-input", type=FILE, help="Write the input that shows it to this .npz file.")
@pass_settings
def command(
    settings: Settings,
    /,
    a: Path,
    b: Path | None,
    shapes: tuple[Any, ...],
    dims: tuple[Any, ...],
    **given: Any,
) -> None:
    """Compare two models, in results and in structure.

    With --bisect: find the first tensor at which they differ, and with --recipe the first pass.
    """
    from graphopt import api
    from graphopt.cli.progress import observing
    from graphopt.cli.render_results import diff_table

    known = {key: value for key, value in given.items() if value is not None}
    if known.get("recipe") is not None:
        known["registry"] = settings.registry
    with observing(settings) as observe:
        result = api.diff(a, b, **known, **sizes(shapes, dims), observe=observe)
    Terminal(settings).show(result, lambda: diff_table(result))
