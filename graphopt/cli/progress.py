"""Progress of a compile on stderr: bars on a terminal, a line per pass elsewhere, or silence."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from graphopt.cli import layout
from graphopt.cli.settings import is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.cli.settings import Settings
    from graphopt.report import Notice, Observe, PassRecord


class Silence:
    """Shows nothing."""

    def pass_started(self, name: str) -> None:
        """Ignore it."""

    def pass_finished(self, record: PassRecord) -> None:
        """Ignore it."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Ignore it."""

    def notice(self, notice: Notice) -> None:
        """Ignore it: the report has it, and is printed when all is done."""


class Lines(Silence):
    """One line for each pass that has finished: for logs of continuous integration."""

    def pass_finished(self, record: PassRecord) -> None:
        """Write the pass, what it did and how long it took."""
        text = f"{record.name}: {outcome(record)} ({record.seconds:.1f} s)"
        click.echo(layout.printable(text), err=True)


def outcome(record: PassRecord) -> str:
    """Return what became of a pass, in words."""
    if record.status == "rolled back":
        return f"rolled back: {record.reason or 'no reason given'}"
    if record.status == "unchanged":
        return ", ".join(("no change", *record.notes))
    return ", ".join(record.notes) or "changed"


@contextmanager
def observing(settings: Settings) -> Iterator[Observe]:
    """Yield what shows the progress of a compile; whatever it drew is gone afterwards."""
    if settings.quiet or settings.no_progress:
        yield Silence()
    elif is_terminal(sys.stderr) and settings.verbose < 2:
        from graphopt.cli.render_progress import Bars

        with Bars(color=settings.colored(sys.stderr)) as bars:
            yield bars
    else:
        yield Lines()
