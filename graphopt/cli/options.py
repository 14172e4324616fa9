"""Arguments and options that several commands share, with their shell completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from graphopt.cli.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
"""A path that may not exist: the API says what is wrong with it, with a code and a hint."""

pass_settings = click.make_pass_decorator(Settings, ensure=True)


def _names(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        # A shell must not see an error of ours in the middle of somebody's command line.
        try:
            found = getattr(context.ensure_object(Settings).registry, kind)().values()
        except Exception:
            return []
        names = {name for thing in found for name in (thing.name, *getattr(thing, "aliases", ()))}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]

    return complete


complete_targets = _names("targets")
complete_passes = _names("passes")


def complete_presets(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the presets that begin like this; the shell adds files where there are none."""
    from graphopt.recipe import preset_names

    found = [CompletionItem(name) for name in preset_names() if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def target_option(default: str | None = None) -> Callable[[F], F]:
    """Return the decorator that adds ``--target``."""
    return click.option(
        "--target",
        default=default,
        show_default=True,
        metavar="NAME|FILE",
        shell_complete=complete_targets,
        help="Hardware to aim at: `graphopt targets` lists it.",
    )


def model_argument(name: str = "model") -> Callable[[F], F]:
    """Return the decorator that adds a model as an argument."""
    return click.argument(name, type=FILE)
