"""Where text goes: results to stdout, everything else to stderr, in colour where that is wanted."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli import layout
from graphopt.cli.settings import is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.cli.settings import Settings
    from graphopt.errors import GraphOptError
    from graphopt.report import Notice

_COLORS = {"error": "red", "warning": "yellow", "hint": "cyan"}


class Terminal:
    """The two streams of one invocation."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def width(self) -> int | None:
        """Columns of the terminal that reads stdout; None where it is no terminal."""
        return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None

    def result(self, lines: Sequence[str]) -> None:
        """Print the result of a command, for a person or a pipe, to stdout."""
        if not self.settings.quiet:
            click.echo("\n".join(lines), color=self.settings.colored(sys.stdout))

    def data(self, value: Any) -> None:
        """Print the result as one JSON document to stdout."""
        from graphopt.cli.encode import to_json

        click.echo(to_json(value))

    def show(self, value: Any, lines: Callable[[], Sequence[str]]) -> None:
        """Print a result in the format that was asked for: as data, or as lines made for it."""
        if self.settings.json:
            self.data(value)
        else:
            self.result(lines())

    def say(self, text: str) -> None:
        """Print a remark to stderr, unless -q."""
        if not self.settings.quiet:
            self._err(layout.printable(text))

    def notices(self, notices: Sequence[Notice]) -> None:
        """Print warnings with code and hint to stderr, unless -q."""
        if self.settings.quiet:
            return
        for notice in notices:
            label = f"warning[{notice.code}]: "
            indent = " " * len(label)
            lines = layout.wrap(notice.message, first=label, rest=indent)
            if notice.hint:
                lines += layout.wrap(notice.hint, first=indent, rest=indent)
            self._err("\n".join(lines), label="warning")

    def plugin_warnings(self) -> None:
        """Name the plugins that were needed, failed and were left out, each once."""
        for plugin in self.settings.broken_plugins:
            if plugin.name not in self.settings.told:
                from graphopt.report import Notice

                self.settings.told.add(plugin.name)
                what = f"plugin `{plugin.name}` {plugin.version}".rstrip()
                fault = f"{what} could not be used and is ignored: {plugin.error}"
                self.notices([Notice(plugin.code or "G401", fault, "`graphopt plugins` lists all")])

    def error(self, error: GraphOptError) -> None:
        """Print an error: the fact, the place, and after an empty line what to do."""
        self._err(layout.printable(f"error[{error.code}]: {error.message}"), label="error")
        if error.where:
            self._err(layout.printable(f"  --> {error.where}"))
        if error.hint:
            self._err("")
            self._err(layout.printable(f"hint: {error.hint}"), label="hint")

    def _err(self, text: str, label: str | None = None) -> None:
        if label and self.settings.colored(sys.stderr):
            head, colon, rest = text.partition(":")
            text = click.style(head + colon, fg=_COLORS[label], bold=True) + rest
        click.echo(text, err=True, color=self.settings.colored(sys.stderr))


def heading(text: str) -> str:
    """Return ``text`` as the header of a table; plain once colour is off."""
    return click.style(text, bold=True)


def table(rows: Sequence[Sequence[str]], **how: Any) -> list[str]:
    """Return aligned rows, the first of which is the header; options as ``layout.columns``."""
    head, *body = layout.columns(rows, **how)
    return [heading(head), *body]
