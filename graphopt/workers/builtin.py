"""The executors that come with graphopt, registered through the hook that plugins use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor


@hookimpl
def graphopt_register_executors() -> Sequence[tuple[str, Callable[[str], Executor]]]:
    """Return the local processes, under the scheme ``local``."""
    from graphopt.workers.processes import LocalProcesses

    return [("local", LocalProcesses.at)]
