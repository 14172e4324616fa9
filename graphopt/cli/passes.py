"""`graphopt passes`: the transformations that a recipe may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.group import Command
from graphopt.cli.options import complete_passes, pass_settings
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from graphopt.cli.settings import Settings
    from graphopt.passes.base import Pass


@click.command("passes", cls=Command)
@click.argument("name", required=False, shell_complete=complete_passes)
@pass_settings
def command(settings: Settings, name: str | None) -> None:
    """List the passes, or explain one."""
    from graphopt.cli.render_lists import pass_list, pass_page

    terminal, registry = Terminal(settings), settings.registry
    if name is not None:
        found = registry.pass_class(name)
        terminal.show(_facts(found), lambda: pass_page(found))
        return
    passes = list(registry.passes().values())
    terminal.show([_facts(p) for p in passes], lambda: pass_list(passes, terminal.width))


def _facts(found: type[Pass]) -> dict[str, Any]:
    from graphopt.cli.render_lists import pass_options, sentence

    return {
        "name": found.name,
        "effect": found.effect,
        "summary": sentence(found),
        "options": pass_options(found),
    }
