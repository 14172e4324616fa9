"""A dask cluster as a pool of graphopt: tasks by its scheduler, files as its data."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client
from distributed.scheduler import KilledWorker

from graphopt.errors import WorkerError
from graphopt.workers import Contents, Parcel, Pool, contents, forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    import distributed

ANSWER_SECONDS = 10.0
"""How long the scheduler may take to answer."""

WORKER_SECONDS = 60.0
"""How long is waited for the first worker to join."""

COUNT_SECONDS = 2.0
"""How long a count of the workers holds: clusters grow and shrink."""

QUIET = {"distributed.admin.large-graph-warning-threshold": "1 PiB"}
"""dask warns of large data within a task; here that task is the data, and there is one a file."""


class Cluster(Pool):
    """The workers of one scheduler.

    A parcel's files are the result of a task that hands them on: dask brings them to each worker
    that needs them once, from whichever has them, and makes them again when that one died.

    Args:
        url: address of the scheduler, such as ``tcp://host:8786``.

    Raises:
        WorkerError: G604, the scheduler does not answer, or has no worker.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.client = Client(url, set_as_default=False, timeout=ANSWER_SECONDS, name="graphopt")
        except (OSError, ValueError) as error:
            raise _unreachable(url, error) from None
        self._executor = self.client.get_executor(pure=False)
        self._files: dict[str, distributed.Future] = {}
        self._count, self._counted = 0, 0.0
        self._manned = time.monotonic()
        try:
            self.client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            self.client.close()
            raise WorkerError(
                f"no worker has joined the cluster at {url}",
                code="G604",
                hint=f"start one: `dask worker {url} --nthreads 1`",
            ) from None

    @property
    def workers(self) -> int:
        """Threads of all workers; at least 1."""
        if time.monotonic() - self._counted > COUNT_SECONDS:
            self._count = sum(self._threads().values())
            self._counted = time.monotonic()
            if self._count:
                self._manned = self._counted
        return max(1, self._count)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand it to the scheduler."""
        return self._executor.submit(fn, *args, **kwargs)

    def parcel(self, parcel: Parcel) -> object:
        """Return the dask future of a parcel's files."""
        held = self._files.get(parcel.key)
        if held is None or held.status in {"error", "cancelled", "lost"}:
            found: Contents = contents(parcel)
            with dask.config.set(QUIET):
                self._files[parcel.key] = self.client.submit(dict, found, pure=False)
        return self._files[parcel.key]

    def check(self) -> None:
        """Raise if there has been no worker for a while, or no scheduler is there.

        Raises:
            WorkerError: G604.
        """
        if self.workers and time.monotonic() - self._manned > WORKER_SECONDS:
            raise WorkerError(
                f"all workers of the cluster at {self.url} are gone",
                code="G604",
                hint="see why they ended; lack of memory is the usual reason",
            )

    def _threads(self) -> dict[str, int]:
        try:
            return dict(self.client.nthreads())
        except (OSError, TimeoutError, ValueError) as error:
            raise _unreachable(self.url, error) from None

    def deaths(self, error: BaseException) -> int:
        """Count all workers that died: the scheduler has given the task to others before."""
        if isinstance(error, KilledWorker):
            return error.allowed_failures + 1
        return super().deaths(error)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Cancel them; what a worker is in the middle of, it finishes for nobody."""
        for future in futures:
            future.cancel()

    def dismiss(self, crew: str) -> None:
        """Let all workers remove the files that they keep for a crew."""
        for future in self._files.values():
            future.release()
        self._files.clear()
        if self.client.status == "running":
            self.client.run(forget, crew, on_error="ignore")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; it goes on for others."""
        if self.client.status == "closed":
            return
        with contextlib.suppress(OSError):
            self._executor.shutdown(wait=wait and not cancel_futures)
        self.client.close()


def _unreachable(url: str, error: Exception) -> WorkerError:
    return WorkerError(
        f"no scheduler answers at {url}: {' '.join(str(error).split())}",
        code="G604",
        hint="check the address; `dask scheduler` prints its own when it starts",
    )
