"""`graphopt recipe`: what a recipe says once everything that bears on it is taken together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graphopt.cli.group import Command, Commands
from graphopt.cli.options import FILE, complete_presets, pass_settings
from graphopt.cli.render import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.cli.settings import Settings
    from graphopt.recipe import ResolvedRecipe


@click.group("recipe", cls=Commands)
def command() -> None:
    """Show or check a recipe."""


@command.command("show", cls=Command)
@click.argument("recipe", metavar="[PRESET|FILE]", required=False, shell_complete=complete_presets)
@click.option(
    "--set", "overrides", multiple=True, metavar="PASS.OPTION=VALUE", help="Change one value."
)
@pass_settings
def show(settings: Settings, recipe: str | None, overrides: tuple[str, ...]) -> None:
    """Print a preset to copy, or a recipe with the origin of each value.

    Without an argument, the names of the presets.
    """
    from graphopt.recipe import preset_names, preset_text

    terminal = Terminal(settings)
    names = preset_names()
    if recipe is None:
        terminal.show(names, lambda: names)
    elif recipe in names and not overrides and not settings.json:
        terminal.result([preset_text(recipe).rstrip()])
    else:
        from graphopt import api

        resolved = api.resolve_recipe(
            recipe=recipe, overrides=overrides, registry=settings.registry
        )
        show_resolved(terminal, resolved)


@command.command("check", cls=Command)
@click.argument("recipe", type=FILE)
@pass_settings
def check(settings: Settings, recipe: Path) -> None:
    """Check a recipe file: keys, values, passes and required plugins."""
    from graphopt import api
    from graphopt.cli.layout import plural, printable

    # A path without a suffix is a file here, not the name of a preset.
    found = api.resolve_recipe(recipe=recipe.absolute(), registry=settings.registry).recipe
    terminal = Terminal(settings)
    if settings.json:
        facts = {"recipe": recipe, "valid": True, "target": found.target}
        terminal.data({**facts, "passes": [entry.use for entry in found.passes]})
    else:
        text = f"{recipe}: valid, {plural(len(found.passes), 'pass', 'passes')} for {found.target}"
        terminal.result([printable(text)])


def show_resolved(terminal: Terminal, resolved: ResolvedRecipe) -> None:
    """Print a recipe as TOML, with the origin of each value as a comment."""
    from graphopt.recipe import write_recipe

    recipe, origins = resolved.recipe, resolved.origins
    if terminal.settings.json:
        text = write_recipe(recipe)
        sources = resolved.sources
        terminal.data({"recipe": recipe, "toml": text, "origins": origins, "sources": sources})
    else:
        terminal.result([write_recipe(recipe, origins).rstrip()])
