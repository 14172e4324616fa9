"""From an exception to a message and an exit code."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import click

from graphopt.cli.group import ClosedOutputError, suggest
from graphopt.cli.render import Terminal
from graphopt.errors import GraphOptError

if TYPE_CHECKING:
    from graphopt.cli.settings import Settings

INTERRUPTED = 130
CLOSED_OUTPUT = 141


def exit_code_of(error: BaseException, settings: Settings) -> int:
    """Print what went wrong and return the exit code; what is not ours to handle is raised on."""
    terminal = Terminal(settings)
    if isinstance(error, ClosedOutputError | BrokenPipeError):
        _discard_stdout()
        return CLOSED_OUTPUT
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, click.ClickException):
        error = _from_click(error)
    if isinstance(error, GraphOptError):
        return _expected(error, terminal)
    return _internal(error, terminal)


def warn_of_plugins(settings: Settings) -> None:
    """Print a warning for each plugin that failed; a plugin never changes the exit code."""
    try:
        Terminal(settings).plugin_warnings()
    except (BrokenPipeError, KeyboardInterrupt):
        _discard_stdout()


def _expected(error: GraphOptError, terminal: Terminal) -> int:
    if terminal.settings.json:
        fields = {k: getattr(error, k) for k in ("code", "message", "where", "hint")}
        terminal.data({"error": fields})
    terminal.error(error)
    return error.exit_code


def _internal(error: BaseException, terminal: Terminal) -> int:
    """A fault of ours: the traceback on demand, and where to report it."""
    summary = str(error).partition("\n")[0]
    if terminal.settings.debug:
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        hint = "this is a fault of graphopt or of a plugin: report it with the traceback above"
    else:
        hint = "this is a fault of graphopt or of a plugin: rerun with `--debug` for the traceback"
    message = f"internal error: {type(error).__name__}: {summary}"
    return _expected(GraphOptError(message.rstrip(": "), hint=hint), terminal)


def _from_click(error: click.ClickException) -> GraphOptError:
    message, hint = error.format_message().strip(), None
    if isinstance(error, click.NoSuchOption):
        known = _options(error.ctx)
        message = f"no such option `{error.option_name}`"
        hint = suggest(error.option_name, known)
    elif "\n" in message:
        message, _, hint = message.partition("\n")
    variable = _variable(error)
    if variable and variable not in message:  # click 8.1 leaves it out
        message += f" ({variable} is set)"
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None or hint is None:  # click does not always say which command it was
        path = context.command_path if context is not None else "graphopt COMMAND"
        hint = " ".join(filter(None, [hint, f"`{path} --help` lists what there is"]))
    message = message[:1].lower() + message[1:].rstrip(".")
    return GraphOptError(re.sub(r"'([^']*)'", r"`\1`", message), code="G108", hint=hint)


def _variable(error: click.ClickException) -> str | None:
    """Return the environment variable that a bad value may come from."""
    option = error.param if isinstance(error, click.BadParameter) else None
    variable = option.envvar if isinstance(option, click.Option) else None
    return variable if isinstance(variable, str) and variable in os.environ else None


def _options(context: click.Context | None) -> list[str]:
    if context is None:
        return []
    return [o for p in context.command.get_params(context) for o in p.opts if o.startswith("--")]


def _discard_stdout() -> None:
    """Let the interpreter flush stdout at exit without a second complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
