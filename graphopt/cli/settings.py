"""The global options: what they are called, where they are read from, what they set."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from graphopt.registry import PluginStatus, Registry


@dataclass
class Settings:
    """The global options of one invocation; filled while the arguments are parsed.

    ``quiet`` leaves errors only; ``verbose`` is the number of times that -v was given.
    """

    format: str = "text"
    quiet: bool = False
    verbose: int = 0
    no_plugins: bool = False
    color: str = "auto"
    no_progress: bool = False
    debug: bool = False
    told: set[str] = field(default_factory=set)
    """Names of the broken plugins that the user has read about."""
    _registry: Registry | None = None

    @property
    def json(self) -> bool:
        """Whether stdout carries one JSON document and nothing else."""
        return self.format == "json"

    def colored(self, stream: TextIO) -> bool:
        """Whether to colour ``stream``: what was asked for, then NO_COLOR, then the terminal."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return is_terminal(stream)

    @property
    def registry(self) -> Registry:
        """Everything that is installed, built in or by plugins; made when first asked for."""
        if self._registry is None:
            from graphopt.registry import Registry

            registry = Registry(plugins=() if self.no_plugins else None)
            if self.verbose > 1:
                registry.enable_tracing()
            self._registry = registry
        return self._registry

    @property
    def broken_plugins(self) -> list[PluginStatus]:
        """The plugins that were needed so far and failed."""
        known = [] if self._registry is None else self._registry.plugins()
        return [plugin for plugin in known if plugin.error]


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that understands more than plain text."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Put a global option into the settings; a later place on the command line wins."""
    source = context.get_parameter_source(parameter.name)
    given = source is ParameterSource.COMMANDLINE
    # The environment is read once, by the group, so that it cannot overrule `graphopt -q compile`.
    if given or (source is ParameterSource.ENVIRONMENT and context.parent is None):
        setattr(context.ensure_object(Settings), parameter.name, value)


def _option(*names: str, **attributes: Any) -> click.Option:
    variable = "GRAPHOPT_" + names[0].removeprefix("--").replace("-", "_").upper()
    return click.Option(
        names,
        envvar=variable,
        show_envvar=True,
        expose_value=False,
        is_eager=True,
        callback=_store,
        **attributes,
    )


GLOBAL_OPTIONS: tuple[click.Option, ...] = (
    _option(
        "--format",
        type=click.Choice(["text", "json"]),
        default="text",
        help="json: one document on stdout and nothing else.",
    ),
    _option("--quiet", "-q", is_flag=True, help="Print errors only."),
    _option("--verbose", "-v", count=True, help="Print details; -vv prints the log as well."),
    _option("--no-plugins", is_flag=True, help="Use only what is built in."),
    _option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set.",
    ),
    _option("--no-progress", is_flag=True, help="Show no progress, neither bars nor lines."),
    _option("--debug", is_flag=True, help="Show the traceback of an internal error."),
)
