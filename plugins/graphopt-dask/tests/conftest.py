"""A cluster: a real scheduler and two worker processes on this machine's own network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import LocalCluster

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def _importable() -> Iterator[None]:
    """Let workers, which get this process's path, import `cluster_errands`."""
    sys.path.insert(0, HERE)
    yield
    sys.path.remove(HERE)


@pytest.fixture(autouse=True)
def _patient(_installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for workers: on a busy machine one takes minutes to start again."""
    from graphopt_dask import cluster as clusters

    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 120.0)
    monkeypatch.setattr(clusters, "WORKER_SECONDS", 900.0)


@pytest.fixture(scope="module")
def cluster(_installed: None) -> Iterator[LocalCluster]:
    """Two workers of one thread each, which are started again as often as they die."""
    import dask
    from distributed import LocalCluster

    # A worker that is away when this is over is not started again, even if it died only just now.
    patience = {"distributed.deploy.lost-worker-timeout": "1 hour"}
    with (
        dask.config.set(patience),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as made,
    ):
        yield made
