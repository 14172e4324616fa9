"""`graphopt profile`: measure a device, so that estimates for it rest on measurements."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command
from graphopt.cli.options import FILE, complete_targets, pass_settings
from graphopt.cli.render import Terminal
from graphopt.cli.settings import is_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings


@click.command("profile", cls=Command)
@click.option("-o", "--output", type=FILE, help="JSON file for the profile, a target by its path.")
@click.option("--bundle", type=FILE, help="Write the one file that measures another device.")
@click.option(
    "--from", "source", type=FILE, help="Results of that file, or a CSV of whole-model times."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.1, max=120),
    default=4.0,
    show_default=True,
    help="How long to measure.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Measured besides one; else all cores.")
@click.option(
    "--base",
    metavar="NAME",
    shell_complete=complete_targets,
    help="Target whose rules the device follows; else by its processor.",
)
@pass_settings
def command(
    settings: Settings,
    output: Path | None,
    bundle: Path | None,
    source: Path | None,
    minutes: float,
    threads: int | None,
    base: str | None,
) -> None:
    """Measure a device for better estimates.

    Without options this machine is measured, once, with the whole of its processor: the target
    `host` uses the profile from then on. For another device, --bundle writes a program that needs
    only Python, onnxruntime and numpy there, and --from reads what it wrote.
    """
    from graphopt import api

    terminal = Terminal(settings)
    if bundle is not None:
        _write_bundle(terminal, bundle)
        return
    progress = _Progress(settings)
    result = api.profile(
        source=source,
        output=output,
        minutes=minutes,
        threads=threads,
        base=base,
        quiet=progress.is_silent,
        step=progress.step,
        registry=settings.registry,
    )
    progress.clear()
    from graphopt.cli.render_profile import profile_page

    terminal.show(result, lambda: profile_page(result, verbose=settings.verbose > 0))


def _write_bundle(terminal: Terminal, path: Path) -> None:
    from graphopt import api
    from graphopt.cli import layout

    nbytes = api.write_bundle(path)
    if terminal.settings.json:
        terminal.data({"bundle": path, "bytes": nbytes})
        return
    terminal.result(
        [
            layout.printable(f"wrote {path} ({layout.size(nbytes)})"),
            "",
            "on the device, with onnxruntime and numpy:",
            layout.printable(f"  python {path.name} results.json"),
            "then here:",
            "  graphopt profile --from results.json -o my-device.json",
            "  graphopt estimate model.onnx --target ./my-device.json",
        ]
    )


class _Progress:
    """What follows the measurement itself, on one line of stderr that is written over."""

    def __init__(self, settings: Settings) -> None:
        self.is_silent = settings.quiet or settings.no_progress
        self._live = is_terminal(sys.stderr) and not self.is_silent
        self._told = ""

    def step(self, what: str, done: int, total: int) -> None:
        """Show one step; elsewhere than on a terminal only that it has begun."""
        if self.is_silent:
            return
        if self._live:
            share = f" {done} of {total}" if total > 1 else ""
            click.echo(f"\r{what + share:<78}", nl=False, err=True)
        elif what != self._told:
            click.echo(what, err=True)
        self._told = what

    def clear(self) -> None:
        """Leave an empty line behind."""
        if self._live:
            click.echo(f"\r{'':<78}\r", nl=False, err=True)
