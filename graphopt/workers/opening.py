"""From what the user says to a crew: a number of workers, or the URL of an executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.errors import GraphOptError, WorkerError
from graphopt.workers.capacity import affordable_workers
from graphopt.workers.crew import Crew
from graphopt.workers.pool import InThisProcess, Plain, Pool
from graphopt.workers.processes import LocalProcesses

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from pathlib import Path

    from graphopt.report.progress import Observe

BROUGHT_BY = {"tcp": "graphopt-dask", "tls": "graphopt-dask"}
"""By URL scheme, the package of the plugin that has it."""


def open_crew(
    executor: str | None = None,
    *,
    find: Callable[[str], Callable[[str], Executor]],
    workers: int | None = None,
    peak_bytes: int = 0,
    folder: Path | None = None,
    observe: Observe | None = None,
) -> Crew:
    """Return a crew; used in a ``with`` statement, which ends it.

    Args:
        executor: URL such as "tcp://scheduler:8786"; local processes when None.
        find: gives, for a URL scheme, what makes an executor of a URL: ``Registry.executor``.
        workers: local processes at most; as many as there are cores when None. One is this process.
            Fewer where memory is short. A cluster has as many as it has.
        peak_bytes: what the largest task takes, beyond a bare worker.
        folder: where parcels that workers made are kept; temporary when None.
        observe: is told how many tasks are done.

    Raises:
        WorkerError: G601, no executor has that scheme; or what the executor raises.
    """
    if executor is not None:
        pool = _pool_at(executor, find)
        return Crew(pool, executor=executor, folder=folder, observe=observe)
    count = affordable_workers(peak_bytes, workers)
    if count == 1:
        return Crew(InThisProcess(), executor="this process", folder=folder, observe=observe)
    local = LocalProcesses(count)
    return Crew(local, executor="local processes", folder=folder, observe=observe)


def _pool_at(url: str, find: Callable[[str], Callable[[str], Executor]]) -> Pool:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise WorkerError(
            f"`{url}` is not the URL of an executor",
            code="G601",
            hint="write a scheme and an address, such as `tcp://scheduler:8786`",
        )
    try:
        make = find(scheme)
    except GraphOptError as error:
        if error.code != "G601" or scheme not in BROUGHT_BY:
            raise
        package = BROUGHT_BY[scheme]
        hint = f"the plugin {package} brings it: `pip install {package}`"
        raise WorkerError(error.message, code="G601", hint=hint) from None
    made = make(url)
    return made if isinstance(made, Pool) else Plain(made)
