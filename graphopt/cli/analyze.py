"""`graphopt analyze`: where a model loses accuracy, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command
from graphopt.cli.options import (
    FILE,
    complete_presets,
    model_argument,
    pass_settings,
    target_option,
)
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("analyze", cls=Command, short_help="Show which operators lose accuracy, and why.")
@model_argument()
@click.option("--quantization", is_flag=True, help="Analyse the noise that integers make.")
@click.option("--data", type=FILE, help="Samples: .npz, .npy, or a folder of them or of images.")
@target_option()
@click.option(
    "--reference", type=FILE, help="The float original, where MODEL is quantized already."
)
@click.option(
    "--recipe",
    metavar="PRESET|FILE",
    shell_complete=complete_presets,
    help="How to quantize; by default the preset `default`.",
)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Show so many.")
@click.option(
    "--samples", type=click.IntRange(1), default=32, show_default=True, help="Measure on so many."
)
@pass_settings
def command(
    settings: Settings,
    model: Path,
    quantization: bool,
    data: Path | None,
    target: str | None,
    reference: Path | None,
    recipe: str | None,
    top: int,
    samples: int,
) -> None:
    """Show which operators of MODEL lose accuracy when they are quantized, worst first, and why.

    Each operator is measured against the float model twice: quantized alone, and in the fully
    quantized model. A float model is quantized here for the purpose; nothing is written.
    """
    if not quantization:
        raise click.UsageError("say what to analyse\nwrite `graphopt analyze MODEL --quantization`")
    from graphopt import api
    from graphopt.cli.progress import observing

    with observing(settings) as observe:
        result = api.analyze(
            model,
            data=data,
            target=target,
            reference=reference,
            recipe=recipe,
            samples=samples,
            registry=settings.registry,
            observe=observe,
        )
    terminal = Terminal(settings)
    if settings.json:
        terminal.data(result)
    else:
        from graphopt.cli.render_analyze import analysis

        terminal.result(analysis(result, top=top, verbose=settings.verbose > 0))
    terminal.notices(result.notices)
