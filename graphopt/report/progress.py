"""Who is told what a compile is doing while it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from graphopt.report.compiling import PassRecord
    from graphopt.report.models import Notice


class Observe(Protocol):
    """Is told what a compile is doing while it does it; all of it is in the report as well."""

    def pass_started(self, name: str) -> None:
        """Take note that a pass, or a stage such as ``(calibration)``, begins."""
        ...

    def pass_finished(self, record: PassRecord) -> None:
        """Take note of what became of it."""
        ...

    def progress(self, label: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are behind us; ``total`` is 0 where unknown."""
        ...

    def notice(self, notice: Notice) -> None:
        """Show something that the user should know."""
        ...
