"""`graphopt completion`: the script that teaches a shell to complete graphopt's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from graphopt.cli.group import Command
from graphopt.cli.options import pass_settings
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from graphopt.cli.settings import Settings

VARIABLE = "_GRAPHOPT_COMPLETE"


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
@pass_settings
def command(settings: Settings, context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: graphopt completion bash >> ~/.bashrc
    zsh:  graphopt completion zsh >> ~/.zshrc
    fish: graphopt completion fish > ~/.config/fish/completions/graphopt.fish
    """  # noqa: D301 - click keeps the lines after a backspace as they are
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for `{shell}`", context)
    script = kind(context.find_root().command, {}, "graphopt", VARIABLE).source()
    terminal = Terminal(settings)
    terminal.show({"shell": shell, "script": script}, lambda: [script.strip()])
