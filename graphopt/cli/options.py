"""Arguments and options that several commands share, with their shell completion."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from graphopt.cli.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    _ParamType = click.ParamType[int]
else:  # older versions are not generic
    _ParamType = click.ParamType

FILE = click.Path(path_type=Path)
"""A path that may not exist: the API says what is wrong with it, with a code and a hint."""


class _Size(_ParamType):
    """A number of bytes, in the units of a pruning goal: 300000, 256KiB, 1.5MB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes; a usage error where it is no size."""
        from graphopt.passes.prune.goal import BYTE_UNITS

        if isinstance(value, int):
            return value
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        if found is None or found[2] not in BYTE_UNITS:
            units = ", ".join(filter(None, BYTE_UNITS))
            self.fail(f"`{value}` is no size: a number of bytes, or of {units}", param, ctx)
        return int(float(found[1]) * BYTE_UNITS[found[2]])


SIZE = _Size()

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
