"""Local worker processes: spawned, one thread each; one that dies takes only its own task along."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from graphopt.errors import WorkerError
from graphopt.workers.capacity import affordable_workers
from graphopt.workers.pool import Pool
from graphopt.workers.serve import READY, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

_THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
"""Read by the libraries when they are loaded, so they are set before a worker starts."""

_STARTING = threading.Lock()
_PATIENCE = 5.0
"""Seconds that a worker without a task gets to leave before it is killed."""


class _Job(NamedTuple):
    future: Future[Any]
    message: bytes


class LocalProcesses(Pool):
    """Processes of this machine, started when there is work for them.

    A worker that dies fails its own task with ``BrokenProcessPool``, and another takes its place.
    All of them end with this process, even if it is killed.

    Args:
        workers: how many; as many as cores and memory carry when None.
    """

    at_home = True
    is_sure = True

    def __init__(self, workers: int | None = None) -> None:
        count = affordable_workers(0) if workers is None else workers
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lanes = [_Lane(self._jobs) for _ in range(count)]
        self._open = True

    @classmethod
    def at(cls, url: str) -> LocalProcesses:
        """Return those of a URL such as ``local://2``; without a number, as many as fit.

        Raises:
            WorkerError: G601, what follows the scheme is not a number.
        """
        count = urlsplit(url).netloc
        if count and not (count.isdecimal() and int(count)):
            raise WorkerError(
                f"`{url}` does not say how many processes",
                code="G601",
                hint="write `local://2` for two, or `local://` for as many as fit",
            )
        return cls(int(count) if count else None)

    @property
    def workers(self) -> int:
        """How many processes there are at most."""
        return len(self._lanes)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a picklable function and its arguments to the next process that is free."""
        if not self._open:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if kwargs:
            raise TypeError("arguments are given by position")
        job = _Job(Future(), pickle.dumps((fn, args), protocol=pickle.HIGHEST_PROTOCOL))
        self._jobs.put(job)
        return job.future

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Stop them; a process that is at work on one is killed."""
        stopped = [future for future in futures if not future.cancel()]
        for lane in self._lanes:
            lane.kill(only=stopped)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes: after what was submitted, or at once when not told to wait."""
        if self._open:
            self._open = False
            if cancel_futures or not wait:
                self._cancel_waiting()
            for lane in self._lanes:
                self._jobs.put(None)
                if not wait:
                    lane.kill()
        for lane in self._lanes:
            lane.join()

    def _cancel_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.future.cancel()
                    job.future.set_running_or_notify_cancel()


class _Lane:
    """A thread that hands tasks to a process of its own, and starts another when that one dies."""

    def __init__(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        self._jobs = jobs
        self._process: SpawnProcess | None = None
        self._wire: Connection | None = None
        self._at_work_on: Future[Any] | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def kill(self, only: list[Future[Any]] | None = None) -> None:
        """Kill the process, if it is at work (on one of these) or about to be."""
        with self._lock:
            busy = self._at_work_on
            if busy is not None and (only is None or busy in only):
                self._stopped = True
                if self._process is not None:
                    self._process.kill()

    def join(self) -> None:
        """Wait until the thread and its process have ended."""
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            with self._lock:
                self._at_work_on, self._stopped = job.future, False
            try:
                result = self._ask(job.message)
            except Exception as error:
                self._finish()
                job.future.set_exception(error)
            else:
                self._finish()
                job.future.set_result(result)
            del job
        self._end()

    def _finish(self) -> None:
        with self._lock:
            self._at_work_on = None

    def _ask(self, message: bytes) -> Any:
        wire = self._wire or self._start()
        try:
            wire.send_bytes(message)
            reply = wire.recv_bytes()
        except (EOFError, OSError):
            code = self._end()
            raise BrokenProcessPool(f"a worker process ended (exit code {code})") from None
        ok, result = pickle.loads(reply)  # noqa: S301 - from our own worker
        if not ok:
            raise result
        return result

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), name="graphopt", daemon=True)
        with _STARTING, _one_thread():
            process.start()
        theirs.close()
        with self._lock:
            self._process, self._wire = process, ours
            if self._stopped:
                process.kill()
        try:
            assert ours.recv_bytes() == READY
        except (EOFError, OSError):
            raise _not_started(self._end()) from None
        return ours

    def _end(self) -> int | None:
        """Close the process; return its exit code."""
        with self._lock:
            process, wire = self._process, self._wire
            self._process = self._wire = None
        if wire is not None:
            wire.close()
        if process is None:
            return None
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        return code


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Have what is started meanwhile compute with one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _not_started(code: int | None) -> WorkerError:
    return WorkerError(
        f"a worker process could not be started (exit code {code})",
        code="G605",
        hint="in a script, call graphopt below `if __name__ == '__main__':`, or use one worker",
    )
