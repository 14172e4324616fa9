"""`graphopt doctor`: why a quantized model is slow or wrong, and what can be repaired exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command
from graphopt.cli.options import FILE, model_argument, pass_settings, target_option
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api.diagnosis import Diagnosis
    from graphopt.cli.settings import Settings


@click.command(
    "doctor", cls=Command, short_help="Say why a quantized model is slow, and repair it."
)
@model_argument()
@target_option(default="host")
@click.option("--fix", is_flag=True, help="Write the model with everything repaired that can be.")
@click.option("--output", "-o", type=FILE, help="Model to write.  [default: MODEL.fixed.onnx]")
@click.option("--no-measure", is_flag=True, help="Time nothing on this machine.")
@pass_settings
def command(
    settings: Settings, model: Path, target: str, fix: bool, output: Path | None, no_measure: bool
) -> None:
    """Say which operators of a quantized MODEL run in float, why, and what it costs.

    Takes models of any tool: with Q and DQ, with quantized operators, or dynamic. Exit status: 0
    told, and written where --fix found something to repair; 1 the repaired model did not pass its
    check, and nothing was written; 2 usage, input or internal error.
    """
    from graphopt.api.diagnosis import doctor
    from graphopt.errors import LimitError

    if output is not None and not fix:
        raise click.UsageError("`--output` goes with `--fix`")
    path = _output(model, output) if fix else None
    found = doctor(model, target=target, measure=not no_measure, registry=settings.registry)
    refused = found.repaired.refused if found.repaired is not None else None
    written: tuple[Path, ...] = ()
    if path is not None and found.repaired is not None and not refused:
        written = found.save(path)
    _show(settings, found, written, fix=fix)
    if fix and refused:
        raise LimitError(
            f"the repaired model was not written: {refused}",
            code="G306",
            where=str(model),
            hint="compile the original with `graphopt compile --data`",
        )


def _show(settings: Settings, found: Diagnosis, written: tuple[Path, ...], *, fix: bool) -> None:
    terminal = Terminal(settings)
    if settings.json:
        from graphopt.cli.encode import to_data

        facts = {k: v for k, v in vars(found).items() if k != "graph"}
        terminal.data({**{k: to_data(v) for k, v in facts.items()}, "written": written})
        return
    from graphopt.cli.render_doctor import diagnosis

    terminal.result(diagnosis(found, written, fix=fix, verbose=settings.verbose > 0))


def _output(model: Path, output: Path | None) -> Path:
    """Return where to write; what cannot be written is found out before any work is done."""
    from graphopt.errors import ModelError

    path = output or model.with_name(f"{model.stem}.fixed.onnx")
    fault = None
    if path.is_dir():
        fault = "the output is a folder"
    elif not path.parent.is_dir():
        fault = "the folder of the output does not exist"
    elif path.exists() and model.exists() and path.samefile(model):
        fault = "the output is the model itself, which is never overwritten"
    if fault:
        raise ModelError(
            fault, code="G208", where=str(path), hint="choose another file with `--output`"
        )
    return path
