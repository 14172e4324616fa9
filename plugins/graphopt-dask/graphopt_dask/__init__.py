"""Workers of a dask cluster for graphopt: the executors ``tcp://`` and ``tls://``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor


@hookimpl
def graphopt_register_executors() -> list[tuple[str, Callable[[str], Executor]]]:
    """Return what joins the cluster of a scheduler's address."""
    return [("tcp", join), ("tls", join)]


def join(url: str) -> Executor:
    """Return the cluster whose scheduler has this address.

    Raises:
        WorkerError: G604, it does not answer, or has no worker.
    """
    # dask takes half a second to import; the list of plugins does not wait for it.
    from graphopt_dask.cluster import Cluster

    return Cluster(url)
