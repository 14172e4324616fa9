"""Progress bars on a terminal; the only module that imports rich."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.text import Text

from graphopt.cli import layout

if TYPE_CHECKING:
    from types import TracebackType

    from graphopt.report import Notice, PassRecord

_REDRAW_SECONDS = 0.1


class _Label(ProgressColumn):
    """The name of the pass or step; not as markup, since brackets are legal in names."""

    def render(self, task: Task) -> Text:
        return Text(layout.printable(task.description)[:32].ljust(24))


class _Rate(ProgressColumn):
    """Steps done, steps in all, and steps per second."""

    def render(self, task: Task) -> Text:
        if not task.completed:
            return Text(" " * 21)
        done = f"{task.completed:.0f}" + (f"/{task.total:.0f}" if task.total else "")
        speed = f"{layout.digits(task.speed)}/s" if task.speed else ""
        return Text(f"{done:>11} {speed:>9}")


class Bars:
    """The pass that runs, and a bar with rate and remaining time for each of its long steps.

    There is no thread that redraws: it would run beside the timings that a compile takes.
    """

    def __init__(self, *, color: bool, console: Console | None = None) -> None:
        if console is None:
            console = Console(stderr=True, no_color=not color, highlight=False)
        self._progress = Progress(
            _Label(),
            BarColumn(bar_width=20),
            _Rate(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def pass_started(self, name: str) -> None:
        """Name the pass; its bar pulses until a step says how far it is."""
        self._clear()
        self._tasks[name] = self._progress.add_task(name, total=None)
        self._draw(force=True)

    def pass_finished(self, record: PassRecord) -> None:
        """Take the pass and its steps off the screen."""
        self._clear()
        self._draw(force=True)

    def progress(self, label: str, done: int, total: int) -> None:
        """Move the bar of one step."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(f"  {label}", total=total or None)
        self._progress.update(self._tasks[label], completed=done, total=total or None)
        self._draw(force=done == total)

    def notice(self, notice: Notice) -> None:
        """Ignore it: the report has it, and is printed when the bars are gone."""

    def _clear(self) -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._progress.refresh()
