"""The command line's front door: the list of commands, and the way from an error to an exit code.

This module and what it imports stay light: no onnx, onnxruntime, networkx, numpy or rich.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import click

from graphopt.cli.failures import exit_code_of, warn_of_plugins
from graphopt.cli.group import LazyGroup
from graphopt.cli.memory import return_freed_memory
from graphopt.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "compile": ("graphopt.cli.compile", "Compile a model for a target."),
    "inspect": ("graphopt.cli.inspect", "Show what a model is made of."),
    "estimate": ("graphopt.cli.estimate", "Estimate latency, memory and energy on targets."),
    "search": ("graphopt.cli.search", "Find the best model within budgets."),
    "analyze": ("graphopt.cli.analyze", "Show what loses accuracy, or what can be pruned."),
    "bench": ("graphopt.cli.bench", "Time a model on this machine."),
    "profile": ("graphopt.cli.profile", "Measure a device for better estimates."),
    "doctor": ("graphopt.cli.doctor", "Say why a quantized model is slow, and repair it."),
    "diff": ("graphopt.cli.diff", "Compare two models, in results and in structure."),
    "targets": ("graphopt.cli.targets", "List the targets, or explain one."),
    "passes": ("graphopt.cli.passes", "List the passes, or explain one."),
    "plugins": ("graphopt.cli.plugins", "List the plugins, and those that failed."),
    "recipe": ("graphopt.cli.recipe", "Show or check a recipe."),
    "explain": ("graphopt.cli.explain", "Explain an error code, a node or a tensor."),
    "completion": ("graphopt.cli.completion", "Print the completion script of a shell."),
}


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"graphopt {version('graphopt')}")
    except PackageNotFoundError:
        click.echo("graphopt, run from its source tree")
    context.exit()


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Plugins may add commands: `graphopt plugins` lists them.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Make ONNX models smaller and faster, and verify that they still compute the same."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done · 1 a stated limit failed · 2 usage, input or internal error · 130 interrupted ·
        141 whoever read the output has gone.
    """
    if args is None:
        # A process of its own makes much that lives until its end, and little that is garbage: most
        # compiles end before the first collection.
        gc.set_threshold(400_000, 10, 10)
        return_freed_memory()
    settings = Settings()
    try:
        result = cli.main(args, prog_name="graphopt", standalone_mode=False, obj=settings)
        code = result if isinstance(result, int) else 0
    except BaseException as error:
        code = exit_code_of(error, settings)
    warn_of_plugins(settings)
    return code
