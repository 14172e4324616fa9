"""`graphopt compile`: make a model smaller and faster, and write it with its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from graphopt.cli.group import Command
from graphopt.cli.options import (
    FILE,
    complete_passes,
    model_argument,
    pass_settings,
    recipe_options,
    size_options,
    sizes,
    target_option,
)
from graphopt.cli.output import checked_output
from graphopt.cli.recipe import show_resolved
from graphopt.cli.render import Terminal
from graphopt.cli.search_options import (
    budget_options,
    budgets_of,
    effort_options,
    max_drop_option,
    recover_option,
)

if TYPE_CHECKING:
    from pathlib import Path

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
    html: bool
    keep: bool
    max_error: float | None
    min_snr: float | None
    max_drop: str | None
    budgets: dict[str, str]
    effort: str | None
    time_limit: float | None
    workers: int | None
    executor: str | None
    validation: Path | None
    prune_to: str | None
    recover: str | None
    shapes: tuple[Any, ...]
    dims: tuple[Any, ...]

    @property
    def searches(self) -> bool:
        """Whether the best of many models is asked for, and not this one compile."""
        stated = self.prune_to or self.explain or self.dump_after or self.strict
        return bool(self.budgets or (self.max_drop is not None and not stated))

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
        given |= {"validation": self.validation, "recover": self.recover}
        known = {key: value for key, value in given.items() if value is not None}
        known |= sizes(self.shapes, self.dims)
        return {**known, "overrides": (*self.overrides, *stated)}


@click.command("compile", cls=Command, short_help="Compile a model for a target.")
@model_argument()
@target_option()
@click.option("--data", type=FILE, help="Samples: .npz, .npy, or a folder of them or of images.")
@recipe_options("What to do; by default the preset `default`.")
@size_options
@click.option("--output", "-o", type=FILE, help="Model to write.  [default: MODEL.TARGET.onnx]")
@click.option("--max-error", type=float, help="Largest relative error of an exact pass.")
@click.option("--min-snr", type=float, help="Lowest signal-to-noise ratio of the outputs, in dB.")
@max_drop_option
@click.option("--validation", type=FILE, help="Samples to judge the drop on; by default of --data.")
@budget_options
@effort_options
@click.option(
    "--prune-to",
    metavar="GOAL",
    help="Remove channels and branches until latency=0.6x; or macs, params, ram, size.",
)
@recover_option
@click.option("--html", is_flag=True, help="Write the report as a page too, for a browser.")
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

    With --max-drop or another budget many models are made, pruned and quantized together, and the
    best within the budgets is written: `graphopt search` shows all of them. With --prune-to,
    --explain, --dump-after or --strict --max-drop is of one compile.
    Exit status: 0 written; 1 a stated limit failed, and nothing was written unless --keep was
    given; 2 usage, input or internal error.
    """
    from graphopt import api
    from graphopt.errors import LimitError

    request = Request(budgets=budgets_of(given), **given)
    bearing = request.bearing_on_recipe()
    resolved = api.resolve_recipe(model=request.model, registry=settings.registry, **bearing)
    if request.dry_run:
        show_resolved(Terminal(settings), resolved)
        return
    if request.html:
        from graphopt.page import check_available

        check_available()
    output = checked_output(request.model, request.output, resolved.recipe.target)
    if not request.searches:
        _demand_budget(request)
    if request.searches:
        from graphopt.cli.searching import compile_by_search

        compile_by_search(settings, request, resolved, output)
        return
    try:
        compiled = _compile(settings, request, resolved)
    except LimitError as error:
        if request.keep and error.compiled is not None:
            _finish(settings, request, resolved, cast("Compiled", error.compiled), output)
        raise
    _finish(settings, request, resolved, compiled, output)


def _demand_budget(request: Request) -> None:
    """Raise RecipeError G108 for options of a search where nothing is searched."""
    from graphopt.api.requested import demand_option

    of_search = {
        "--effort": request.effort,
        "--time-limit": request.time_limit,
        "--workers": request.workers,
        "--executor": request.executor,
    }
    demand_option(False, "a budget such as `--max-drop`", of_search)


def _compile(settings: Settings, request: Request, resolved: ResolvedRecipe) -> Compiled:
    from graphopt import api
    from graphopt.cli.progress import observing

    after, folder = request.dump_after or (None, None)
    with observing(settings) as observe:
        return api.compile(
            request.model,
            recipe=resolved,
            strict=request.strict,
            measure=False if request.no_measure else None,
            registry=settings.registry,
            observe=observe,
            explain=request.explain,
            dump_after=after,
            dump_dir=folder,
            sensitivity=request.html,
        )


def _finish(
    settings: Settings,
    request: Request,
    resolved: ResolvedRecipe,
    compiled: Compiled,
    output: Path,
) -> None:
    """Write the model and its report, then tell what was done."""
    written = compiled.save(output, html=request.html)
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
