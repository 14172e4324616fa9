"""`graphopt compile`: make a model smaller and faster, and write it with its report."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from graphopt.cli.group import Command
from graphopt.cli.options import (
    FILE,
    complete_passes,
    complete_presets,
    model_argument,
    pass_settings,
    size_options,
    sizes,
    target_option,
)
from graphopt.cli.recipe import show_resolved
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from graphopt.api import Compiled
    from graphopt.cli.settings import Settings
    from graphopt.recipe import ResolvedRecipe


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    model: Path
    target: str | None
    data: Path | None
    recipe: str | None
    overrides: tuple[str, ...]
    output: Path | None
    strict: bool
    no_measure: bool
    dry_run: bool
    explain: tuple[str, ...]
    dump_after: tuple[str, Path] | None
    keep: bool
    max_error: float | None
    min_snr: float | None
    max_drop: float | None
    prune_to: str | None
    shapes: tuple[Any, ...]
    dims: tuple[Any, ...]

    def bearing_on_recipe(self) -> dict[str, Any]:
        """Return what decides the recipe, as the API takes it; what was not given is left out."""
        limits = {
            "max-relative-error": self.max_error,
            "min-snr-db": self.min_snr,
            "max-drop": self.max_drop,
        }
        stated = [f"limits.{key}={value}" for key, value in limits.items() if value is not None]
        if self.prune_to is not None:
            stated.append(f"prune-channels.to={self.prune_to}")
        given = {"target": self.target, "data": self.data, "recipe": self.recipe}
        known = {key: value for key, value in given.items() if value is not None}
        known |= sizes(self.shapes, self.dims)
        return {**known, "overrides": (*self.overrides, *stated)}


@click.command("compile", cls=Command, short_help="Compile a model for a target.")
@model_argument()
@target_option()
@click.option("--data", type=FILE, help="Samples: .npz, .npy, or a folder of them or of images.")
@click.option(
    "--recipe",
    metavar="PRESET|FILE",
    shell_complete=complete_presets,
    help="What to do; by default the preset `default`.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PASS.OPTION=VALUE",
    help="Change one value of the recipe; may be repeated.",
)
@size_options
@click.option("--output", "-o", type=FILE, help="Model to write.  [default: MODEL.TARGET.onnx]")
@click.option("--max-error", type=float, help="Largest relative error of an exact pass.")
@click.option("--min-snr", type=float, help="Lowest signal-to-noise ratio of the outputs, in dB.")
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="Largest loss of accuracy on labelled data, in points of top-1.",
)
@click.option(
    "--prune-to",
    metavar="GOAL",
    help="Remove channels and branches until latency=0.6x; or macs, params, ram, size.",
)
@click.option("--keep", is_flag=True, help="Write the model even if a limit failed.")
@click.option("--strict", is_flag=True, help="Stop at the first pass that fails.")
@click.option("--no-measure", is_flag=True, help="Time nothing: decide by the estimate.")
@click.option("--dry-run", is_flag=True, help="Print the recipe and where each value is from.")
@click.option("--explain", multiple=True, metavar="NODE", help="Print what was decided on a node.")
@click.option(
    "--dump-after",
    type=(str, FILE),
    metavar="PASS DIR",
    shell_complete=complete_passes,
    help="Write the graph as text to DIR after PASS.",
)
@pass_settings
def command(settings: Settings, /, **given: Any) -> None:
    """Compile MODEL for a target, and write it with a report beside it.

    Exit status: 0 written; 1 a stated limit failed, and nothing was written unless --keep was
    given; 2 usage, input or internal error.
    """
    from graphopt import api
    from graphopt.errors import LimitError

    request = Request(**given)
    bearing = request.bearing_on_recipe()
    resolved = api.resolve_recipe(model=request.model, registry=settings.registry, **bearing)
    if request.dry_run:
        show_resolved(Terminal(settings), resolved)
        return
    output = _output(request, resolved.recipe.target)
    try:
        compiled = _compile(settings, request)
    except LimitError as error:
        if request.keep and error.compiled is not None:
            _finish(settings, request, resolved, cast("Compiled", error.compiled), output)
        raise
    _finish(settings, request, resolved, compiled, output)


def _compile(settings: Settings, request: Request) -> Compiled:
    from graphopt import api
    from graphopt.cli.progress import observing

    after, folder = request.dump_after or (None, None)
    with observing(settings) as observe:
        return api.compile(
            request.model,
            **request.bearing_on_recipe(),
            strict=request.strict,
            measure=False if request.no_measure else None,
            registry=settings.registry,
            observe=observe,
            explain=request.explain,
            dump_after=after,
            dump_dir=folder,
        )


def _finish(
    settings: Settings,
    request: Request,
    resolved: ResolvedRecipe,
    compiled: Compiled,
    output: Path,
) -> None:
    """Write the model and its report, then tell what was done."""
    written = compiled.save(output)
    terminal, report = Terminal(settings), compiled.report
    if settings.json:
        from graphopt.cli.encode import to_data

        terminal.data({**to_data(report), "written": written})
    else:
        from graphopt.cli.render_compile import explanations, summary

        lines = summary(report, resolved.sources, written, verbose=settings.verbose > 0)
        if request.explain and not settings.verbose:
            lines += ["", *explanations(report, request.explain)]
        terminal.result(lines)
    terminal.notices(report.notices)


def _output(request: Request, target: str) -> Path:
    """Return where to write; what cannot be written is found out before any work is done."""
    from graphopt.errors import ModelError

    model = request.model
    name = Path(target).stem if target.endswith(".toml") else target.replace(":", ".")
    output = request.output or model.with_name(f"{model.stem}.{name}.onnx")
    fault, hint = None, "choose another file with `--output`"
    if output.is_dir():
        fault = "the output is a folder"
    elif output.suffix == ".json":
        fault = "the output is named as the report, which is written beside it"
    elif request.output and not output.parent.is_dir():
        fault, hint = "the folder of the output does not exist", "create it, or choose another"
    elif any(_same(path, model) for path in (output, output.with_suffix(".json"))):
        fault = "the output is the model itself, which is never overwritten"
    elif output.parent.is_dir() and not os.access(output.parent, os.W_OK):
        fault = "the folder of the output may not be written"
    if fault:
        raise ModelError(fault, code="G208", where=str(output), hint=hint)
    return output


def _same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()
