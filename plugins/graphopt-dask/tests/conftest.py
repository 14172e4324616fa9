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


@pytest.fixture(scope="module")
def cluster(_installed: None) -> Iterator[LocalCluster]:
    """Two workers of one thread each."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as made:
        yield made
