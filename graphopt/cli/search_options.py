"""Options that say what a model may cost, and how hard to look for one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., Any])
    _ParamType = click.ParamType[float]
else:  # older versions are not generic
    _ParamType = click.ParamType

_BUDGETS = {
    "max_latency": ("TIME", "Longest latency, such as 5ms, or 0.6x of the original's."),
    "max_size": ("SIZE", "Largest file, such as 500KB or 0.25x."),
    "max_ram": ("SIZE", "Most activation memory, such as 320KB or 0.5x."),
    "max_energy": ("ENERGY", "Most energy per inference, such as 2mJ or 0.5x."),
}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class _Duration(_ParamType):
    """A length of time: 90, 90s, 5m, 1.5h."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; a usage error where it is no time."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value))
        if found is None or found[2] not in _SECONDS:
            self.fail(f"`{value}` is no length of time: write 90s, 5m or 1h", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


def max_drop_option(command: F) -> F:
    """Add ``--max-drop``."""
    return click.option(
        "--max-drop",
        metavar="DROP",
        help="Largest loss of accuracy: 1% is one point of top-1.",
    )(command)


def budget_options(command: F) -> F:
    """Add ``--max-latency`` and the other budgets."""
    for name, (metavar, text) in reversed(_BUDGETS.items()):
        command = click.option(f"--{name.replace('_', '-')}", metavar=metavar, help=text)(command)
    return command


def budgets_of(given: dict[str, Any]) -> dict[str, str]:
    """Take the budgets out of what was given, and return those that were stated."""
    found = {name: given.pop(name) for name in _BUDGETS}
    return {name: value for name, value in found.items() if value is not None}


def recover_option(command: F) -> F:
    """Add ``--recover``."""
    return click.option(
        "--recover",
        metavar="AMOUNT",
        help="Train what is left, without labels: off, light, full, minutes=5 or steps=200. "
        "Takes the plugin graphopt-torch.",
    )(command)


def effort_options(command: F) -> F:
    """Add ``--effort``, ``--time-limit``, ``--workers`` and ``--executor``."""
    options = (
        click.option(
            "--effort",
            type=click.Choice(["quick", "normal", "thorough"]),
            help="How many models to try, and how carefully.  [default: normal]",
        ),
        click.option(
            "--time-limit",
            type=_Duration(),
            help="Begin no further model after this time, such as 90s or 1h.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            help="Processes that make models.  [default: what cores and memory carry]",
        ),
        click.option(
            "--executor",
            metavar="URL",
            help="Cluster that makes models, such as tcp://host:8786.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
