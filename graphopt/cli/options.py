"""Arguments and options that several commands share, with their shell completion."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from graphopt.cli.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    _ParamType = click.ParamType[int]
    _ShapeType = click.ParamType[tuple[str, tuple[int | str, ...]]]
    _DimType = click.ParamType[tuple[str, int | str]]
else:  # older versions are not generic
    _ParamType = _ShapeType = _DimType = click.ParamType

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


class _Shape(_ShapeType):
    """The dimensions of an input: input=1,3,h,w, or 1,3,224,224 for the only one."""

    name = "[NAME=]DIMS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int | str, ...]]:
        """Return the name, empty where none is given, and the dimensions."""
        if not isinstance(value, str):
            return cast("tuple[str, tuple[int | str, ...]]", value)
        name, _, text = value.rpartition("=")
        parts = [part.strip() for part in text.strip("[]() ").split(",")] if text.strip() else []
        if not all(parts) or any(part.startswith("-") for part in parts):
            self.fail(f"`{value}` is no shape: write input=1,3,224,224", param, ctx)
        return name, tuple(int(part) if part.isdecimal() else part for part in parts)


class _Dim(_DimType):
    """The size of a symbol, or its bounds: batch=1, or batch=1..8."""

    name = "SYMBOL=SIZE|LOW..HIGH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | str]:
        """Return the symbol and what it is."""
        if not isinstance(value, str):
            return cast("tuple[str, int | str]", value)
        name, equals, size = (part.strip() for part in value.rpartition("="))
        if not equals or not name or not re.fullmatch(r"\d+(\s*\.\.\s*\d+)?", size):
            self.fail(f"`{value}` is no size of a symbol: write batch=1 or batch=1..8", param, ctx)
        return name, int(size) if size.isdecimal() else size


def size_options(command: F) -> F:
    """Add ``--shape`` and ``--dim``."""
    shape = click.option(
        "--shape",
        "shapes",
        type=_Shape(),
        multiple=True,
        help="Fix the shape of an input, such as input=1,3,224,224; may be repeated.",
    )
    dim = click.option(
        "--dim",
        "dims",
        type=_Dim(),
        multiple=True,
        help="Fix or bound a symbol of the model, such as batch=1 or batch=1..8.",
    )
    return shape(dim(command))


def sizes(shapes: tuple[Any, ...], dims: tuple[Any, ...]) -> dict[str, Any]:
    """Return what ``--shape`` and ``--dim`` gave, as the API takes it.

    Raises:
        click.UsageError: one input or symbol has two different values.
    """
    found: dict[str, Any] = {}
    for option, pairs in (("shapes", shapes), ("dims", dims)):
        for name, given in pairs:
            if found.setdefault(option, {}).setdefault(name, given) != given:
                which = f"`{name}`" if name else "one input"
                raise click.UsageError(f"--{option[:-1]} gives {which} twice")
    return found


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


def recipe_options(text: str) -> Callable[[F], F]:
    """Return the decorator that adds ``--recipe``, with its help, and ``--set``."""

    def add(command: F) -> F:
        recipe = click.option(
            "--recipe", metavar="PRESET|FILE", shell_complete=complete_presets, help=text
        )
        changed = click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="PASS.OPTION=VALUE",
            help="Change one value of the recipe; may be repeated.",
        )
        return recipe(changed(command))

    return add


def model_argument(name: str = "model", *, required: bool = True) -> Callable[[F], F]:
    """Return the decorator that adds a model as an argument."""
    return click.argument(name, type=FILE, required=required)
