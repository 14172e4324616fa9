"""`graphopt analyze`: where a model loses accuracy and why, and what can be pruned from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


_SAMPLES = 32


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    model: Path
    quantization: bool
    pruning: bool
    data: Path | None
    target: str | None
    reference: Path | None
    recipe: str | None
    top: int
    samples: int | None

    def check(self) -> None:
        """Raise a usage error where the options do not go together."""
        if self.quantization == self.pruning:
            raise click.UsageError(
                "say what to analyse, one thing at a time\n"
                "write `graphopt analyze MODEL --quantization`, or `--pruning`"
            )
        for name in ("reference", "samples"):
            if self.pruning and getattr(self, name) is not None:
                raise click.UsageError(f"`--{name}` is for --quantization\nleave it out")


@click.command(
    "analyze", cls=Command, short_help="Show what loses accuracy, or what can be pruned."
)
@model_argument()
@click.option("--quantization", is_flag=True, help="Analyse the noise that integers make.")
@click.option("--pruning", is_flag=True, help="List what can be removed, and why the rest stays.")
@click.option("--data", type=FILE, help="Samples: .npz, .npy, or a folder of them or of images.")
@target_option()
@click.option(
    "--reference", type=FILE, help="The float original, where MODEL is quantized already."
)
@click.option(
    "--recipe",
    metavar="PRESET|FILE",
    shell_complete=complete_presets,
    help="How to simplify and quantize; by default the preset `default`.",
)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Show so many.")
@click.option("--samples", type=click.IntRange(1), help="Measure noise on so many.  [default: 32]")
@pass_settings
def command(settings: Settings, /, **options: Any) -> None:
    """Show which operators of MODEL lose accuracy in integers, or what can be pruned from it.

    For --quantization each operator is measured against the float model twice: quantized alone, and
    in the fully quantized model. For --pruning every group of channels, heads or hidden units and
    every residual branch is listed with what hangs on it; with --data also with what the outputs
    lose when half of the group goes. MODEL is simplified, or quantized, here for the purpose;
    nothing is written.
    """
    request = Request(**options)
    request.check()
    if request.pruning:
        _pruning(settings, request)
    else:
        _quantization(settings, request)


def _quantization(settings: Settings, request: Request) -> None:
    from graphopt import api
    from graphopt.cli.progress import observing

    with observing(settings) as observe:
        result = api.analyze(
            request.model,
            data=request.data,
            target=request.target,
            reference=request.reference,
            recipe=request.recipe,
            samples=request.samples or _SAMPLES,
            registry=settings.registry,
            observe=observe,
        )
    terminal = Terminal(settings)
    if settings.json:
        terminal.data(result)
    else:
        from graphopt.cli.render_analyze import analysis

        terminal.result(analysis(result, top=request.top, verbose=settings.verbose > 0))
    terminal.notices(result.notices)


def _pruning(settings: Settings, request: Request) -> None:
    from graphopt.api.prunable import analyze_pruning
    from graphopt.cli.progress import observing

    with observing(settings) as observe:
        result = analyze_pruning(
            request.model,
            data=request.data,
            target=request.target,
            recipe=request.recipe,
            registry=settings.registry,
            observe=observe,
        )
    terminal = Terminal(settings)
    if settings.json:
        terminal.data(result)
    else:
        from graphopt.cli.render_pruning import prunable

        terminal.result(prunable(result, top=request.top, verbose=settings.verbose > 0))
    terminal.notices(result.notices)
