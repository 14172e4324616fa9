"""`graphopt plugins`: what is installed beside graphopt, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command
from graphopt.cli.options import pass_settings
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from graphopt.cli.settings import Settings


@click.command("plugins", cls=Command)
@pass_settings
def command(settings: Settings) -> None:
    """List the plugins, and those that failed.

    GRAPHOPT_PLUGINS=a,b uses only the plugins a and b; empty, none.
    """
    from graphopt.cli.render_lists import plugin_list

    terminal = Terminal(settings)
    plugins = settings.registry.plugins(load=True)
    settings.told.update(plugin.name for plugin in plugins)
    if settings.json:
        terminal.data(plugins)
    elif plugins:
        terminal.result(plugin_list(plugins))
    else:
        terminal.say("no plugins are installed")
