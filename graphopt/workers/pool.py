"""What a crew needs of an executor, and how any executor of ``concurrent.futures`` gives it."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future
from typing import TYPE_CHECKING, Any

from graphopt.workers.parcel import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from graphopt.workers.parcel import Parcel


class Pool(Executor):
    """An executor that knows of its workers: what a plugin may return in place of a plain one.

    ``submit`` is that of ``concurrent.futures``; what is submitted can be pickled. A future whose
    worker died raises an error that ``deaths`` counts.
    """

    at_home: bool = False
    """Whether workers are on this machine, and write into its folders themselves."""

    in_place: bool = True
    """Whether workers may look for files where the coordinator has them."""

    is_sure: bool = False
    """Whether a worker that dies is only ever laid to the task that it was doing."""

    @property
    def workers(self) -> int:
        """How many tasks are done at a time, now; 1 where it is not known."""
        return 1

    @property
    def ahead(self) -> int:
        """How many tasks are handed out at a time, so that no worker waits for its next."""
        return 2 * self.workers

    def parcel(self, parcel: Parcel) -> object:
        """Return what is submitted in place of a parcel's files: they themselves, or a handle.

        Where a task is submitted with a handle, the worker gets the files: a mapping of bytes by
        relative name. It is asked for whenever a worker lacks the parcel.
        """
        return contents(parcel)

    def deaths(self, error: BaseException) -> int:
        """Return how many workers died of a task that ended with this error."""
        return 1 if isinstance(error, BrokenExecutor) else 0

    def check(self) -> None:
        """Raise a GraphOptError if nothing can come in any more; asked while nothing does."""

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Stop what was submitted, as far as that is possible."""
        for future in futures:
            future.cancel()

    def dismiss(self, crew: str) -> None:
        """Let all workers forget what they keep for a crew."""


class InThisProcess(Pool):
    """One worker: this process, which does each task when it is submitted."""

    at_home = True

    @property
    def ahead(self) -> int:
        """One: what is submitted is done at once."""
        return 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do it now."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def dismiss(self, crew: str) -> None:
        """Forget what this process keeps for a crew."""
        from graphopt.workers.store import forget

        forget(crew)


class Plain(Pool):
    """Any executor of ``concurrent.futures``: it says nothing of its workers.

    Args:
        executor: what does the tasks; shut down with this one.
        workers: how many it does at a time; asked of the executor when None.
    """

    def __init__(self, executor: Executor, workers: int | None = None) -> None:
        self._executor = executor
        found: int = getattr(executor, "_max_workers", 1)
        self._workers = found if workers is None else workers

    @property
    def workers(self) -> int:
        """How many tasks are done at a time."""
        return self._workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand it to the executor."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the executor down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
