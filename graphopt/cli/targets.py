"""`graphopt targets`: the hardware that graphopt knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command
from graphopt.cli.options import complete_targets, pass_settings
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from graphopt.cli.settings import Settings


@click.command("targets", cls=Command)
@click.argument("name", required=False, shell_complete=complete_targets)
@pass_settings
def command(settings: Settings, name: str | None) -> None:
    """List the targets, or explain one.

    An explanation has every figure and what it rests on.
    """
    from graphopt.cli.render_targets import target_list, target_page

    terminal, registry = Terminal(settings), settings.registry
    if name is not None:
        target = registry.target(name)
        terminal.show(target, lambda: target_page(target))
        return
    targets = list(registry.targets().values())
    terminal.show(targets, lambda: target_list(targets, terminal.width))
