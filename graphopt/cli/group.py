"""The click classes: commands with the global options, and a group that imports on demand."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.settings import GLOBAL_OPTIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Entry = tuple[str, str]
"""Module of a command, and its line in ``graphopt --help``."""


class ClosedOutputError(Exception):
    """Whoever read our output has gone, as in ``graphopt targets | head -1``."""


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return "did you mean `x`?" for the known name that is closest to ``word``, if one is."""
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else None


class _GlobalOptions(click.Command):
    """Appends the global options to a command's own, in a section of their own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *GLOBAL_OPTIONS]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [p for p in super().get_params(ctx) if isinstance(p, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([r for p in own if (r := p.get_help_record(ctx)) is not None])
        if ctx.parent is None:
            with formatter.section("Options of every command"):
                records = (p.get_help_record(ctx) for p in GLOBAL_OPTIONS)
                formatter.write_dl([r for r in records if r is not None])
        else:
            names = ", ".join(p.opts[0] for p in GLOBAL_OPTIONS)
            formatter.write_paragraph()
            formatter.write_text(f"Every command also takes {names}: see `graphopt --help`.")


class Command(_GlobalOptions):
    """A command of graphopt's own."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with the log on stderr for -vv."""
        with _logging(ctx.ensure_object(Settings)):
            return super().invoke(ctx)


@contextmanager
def _logging(settings: Settings) -> Iterator[None]:
    if settings.verbose < 2:
        yield
        return
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(relativeCreated)7.0f ms  %(name)s: %(message)s"))
    logger = logging.getLogger("graphopt")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Commands(_GlobalOptions, click.Group):
    """A group whose unknown commands are errors with a suggestion."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of ``args``; an unknown one is an error with a suggestion."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(
                f"no such command `{args[0]}`\n{suggest(args[0], self.list_commands(ctx)) or ''}",
                ctx,
            )
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)


class LazyGroup(Commands):
    """Knows the names and one-liners of its commands, and imports the one that is run.

    Commands of plugins are looked for only when a name is not built in: plugins are foreign code.
    """

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the built-in commands, in the order of the help."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a built-in command, or ask the plugins for it."""
        if cmd_name in self.entries:
            module = importlib.import_module(self.entries[cmd_name][0])
            return module.command  # type: ignore[no-any-return]
        if cmd_name.startswith("-") or ctx.resilient_parsing:
            return None
        settings = ctx.ensure_object(Settings)
        if settings.no_plugins:
            return None
        return settings.registry.commands().get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands as the table tells them, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[1]) for name, entry in self.entries.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a closed pipe is told apart from every other fault."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ClosedOutputError from error
