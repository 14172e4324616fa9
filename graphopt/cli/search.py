"""`graphopt search`: budgets in, best model out, and everything that was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.group import Command
from graphopt.cli.options import (
    FILE,
    model_argument,
    pass_settings,
    recipe_options,
    size_options,
    target_option,
)
from graphopt.cli.output import checked_output
from graphopt.cli.render import Terminal
from graphopt.cli.search_options import (
    budget_options,
    effort_options,
    max_drop_option,
    recover_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled
    from graphopt.cli.searching import Order
    from graphopt.cli.settings import Settings
    from graphopt.report import SearchRecord


@click.command("search", cls=Command, short_help="Find the best model within budgets.")
@model_argument()
@target_option()
@click.option("--data", type=FILE, required=True, help="Samples to calibrate on and to judge by.")
@click.option("--validation", type=FILE, help="Samples to judge by; by default some of --data.")
@recipe_options("What every model starts from; by default the preset `default`.")
@max_drop_option
@budget_options
@effort_options
@recover_option
@click.option(
    "--pick",
    metavar="RULE|KEY",
    help="Take the fastest, smallest, most-accurate or balanced one; or the point of a key.",
)
@click.option("--folder", type=FILE, help="Where models are kept.  [default: MODEL.TARGET.search]")
@size_options
@click.option("--output", "-o", type=FILE, help="Model to write.  [default: MODEL.TARGET.onnx]")
@click.option("--html", is_flag=True, help="Write a page with the report as well.")
@click.option("--keep", is_flag=True, help="Write the nearest model even if no model holds.")
@click.option("--no-measure", is_flag=True, help="Time nothing: decide by the estimate.")
@pass_settings
def command(settings: Settings, /, **given: Any) -> None:
    """Search for the best model within budgets, and write it with a report beside it.

    With --max-drop the fastest model that keeps the accuracy is picked; with other budgets alone
    the most accurate that fits. Everything that is made stays in the folder: a search that was
    interrupted goes on where it was, and a second one with other budgets uses it again.
    Exit status: 0 written; 1 no model holds; 2 usage, input or internal error.
    """
    from graphopt import api
    from graphopt.cli.searching import Order, carry_out

    if given["html"]:
        from graphopt.page import check_available

        check_available()
    order = Order.of(given)
    target = (
        order.target
        or api.resolve_recipe(
            model=order.model, recipe=order.recipe, registry=settings.registry
        ).recipe.target
    )
    output = checked_output(order.model, given["output"], target)
    folder = given["folder"] or output.with_suffix(".search")
    carry_out(settings, order, output, folder, _finish)


def _finish(
    settings: Settings, order: Order, compiled: Compiled, record: SearchRecord, output: Path
) -> None:
    """Write the model, its report and the page, then tell what was found."""
    written = compiled.save(output, html=order.html, search=record)
    terminal = Terminal(settings)
    if settings.json:
        from graphopt.cli.encode import to_data

        terminal.data({**to_data(record), "report": to_data(compiled.report), "written": written})
        return
    from graphopt.cli.render_recovery import recovered
    from graphopt.cli.render_search import search_lines, written_line

    lines = search_lines(record, verbose=settings.verbose > 0)
    trained = recovered(compiled.report.recovery)
    lines += ["", *trained] if trained else []
    terminal.result([*lines, "", written_line(record, written)])
    terminal.notices(compiled.report.notices)
