"""A crew: a list of tasks goes out to workers, results come back as they are done."""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from graphopt.errors import GraphOptError, WorkerError
from graphopt.workers.folder import claim
from graphopt.workers.likeness import differences, likeness
from graphopt.workers.order import Done, Order, Refused, Unlike, Wanting, perform
from graphopt.workers.parcel import pack, save

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from graphopt.report.progress import Observe
    from graphopt.workers.folder import Claimed
    from graphopt.workers.order import Answer
    from graphopt.workers.parcel import Parcel
    from graphopt.workers.pool import Pool
    from graphopt.workers.shelf import Shelf

T = TypeVar("T")
R = TypeVar("R")

TRIES = 3
"""How many workers may die of a task before it is given up."""

LOOK_SECONDS = 5.0
"""How often it is looked whether there is still somebody to wait for."""

_SHOWN = 60


class Crew:
    """Workers for lists of tasks; results do not depend on how many there are, or on which die.

    Args:
        pool: who does the tasks; shut down when the crew ends.
        executor: what the user calls them.
        folder: where parcels that workers made are kept; a temporary one, gone at the end, when
            None.
        observe: is told how many tasks of a list are done.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        executor: str,
        folder: Path | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.executor = executor
        self._pool = pool
        self._observe = observe
        self._name = secrets.token_hex(8)
        self._known: dict[str, Parcel] = {}
        self._claimed: Claimed | None = None
        if folder is None:
            self._claimed = claim("graphopt-crew-")
            folder = self._claimed.path
        self._folder = folder.absolute()

    @property
    def workers(self) -> int:
        """How many tasks are done at a time."""
        return self._pool.workers

    @property
    def name(self) -> str:
        """What workers know the crew by; random."""
        return self._name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(at_once=kind is not None)

    def close(self, *, at_once: bool = False) -> None:
        """End all workers; what they keep for this crew is removed.

        Args:
            at_once: do not wait for what they are doing.
        """
        try:
            with contextlib.suppress(OSError):
                self._pool.dismiss(self._name)
            self._pool.shutdown(wait=not at_once, cancel_futures=True)
        finally:
            if self._claimed is not None:
                self._claimed.release()

    def parcel(self, path: Path, *beside: str) -> Parcel:
        """Return what tasks carry in place of a file or folder; its bytes travel by their content.

        Args:
            path: the file, or a folder with everything in it.
            beside: further files that belong to it, relative to the folder it lies in.

        Raises:
            WorkerError: G606, it cannot be read.
        """
        made = pack(Path(path), *beside)
        return self._known.setdefault(made.key, made)

    def map(
        self, function: Callable[[T, Shelf], R], tasks: Iterable[T], *, label: str = "tasks"
    ) -> Iterator[tuple[int, R | GraphOptError]]:
        """Yield (index, result) of every task as it is done, in any order.

        A task that raises a GraphOptError has that error as its result, and so has one of which
        three workers died (WorkerError G602). Leaving the loop stops what is not done.

        Args:
            function: importable by workers, called with a task and a ``Shelf``; what it returns
                must follow from the task alone, as it may be called again in another worker.
            tasks: small and picklable; they carry parcels for what is not.
            label: what the user is shown of this list.

        Raises:
            WorkerError: G603 workers are of other versions; G604 the cluster is gone; G605 no
                worker could be started; G606 a parcel cannot be read any more.
            Exception: whatever else a task raised, with the worker's traceback as a note.
        """
        run = _Run(self, self._pool, function, list(tasks))
        total = len(run.tasks)
        self._tell(label, 0, total)
        try:
            for done, (index, outcome) in enumerate(run.outcomes(), 1):
                self._tell(label, done, total)
                yield index, outcome
        finally:
            self._pool.abandon(list(run.out))

    def order(self, function: Callable[[Any, Shelf], Any], task: Any, *sent: Parcel) -> Order:
        """Return the order of one task."""
        pool = self._pool
        return Order(
            crew=self._name,
            home=self._folder,
            at_home=pool.at_home,
            in_place=pool.in_place,
            likeness=likeness(),
            function=function,
            task=task,
            sent=sent,
        )

    def known(self, key: str) -> Parcel:
        """Return the parcel of that key; only what this crew packed or made is ever sent.

        Raises:
            WorkerError: G606, there is none.
        """
        if key not in self._known:
            name = key.rpartition("/")[2]
            raise WorkerError(
                f"a task asks for `{name}`, which this crew does not have",
                code="G606",
                hint="make parcels with `parcel` of the crew that runs the task",
            )
        return self._known[key]

    def receive(self, done: Done) -> Any:
        """Take in what a worker made; return the result of its task."""
        for parcel, data in done.carried:
            save(parcel, {parcel.name: data})
            self._known[parcel.key] = parcel
        return done.value

    def _tell(self, label: str, done: int, total: int) -> None:
        if self._observe is not None:
            self._observe.progress(label, done, total)


class _Run:
    """One list of tasks on its way.

    Args:
        out: what was submitted and is not settled, by future the index of the task.
    """

    def __init__(
        self, crew: Crew, pool: Pool, function: Callable[[Any, Shelf], Any], tasks: list[Any]
    ) -> None:
        self.tasks = tasks
        self.out: dict[Future[Answer], int] = {}
        self._crew = crew
        self._pool = pool
        self._function = function
        self._waiting = deque(range(len(tasks)))
        self._deaths = [0] * len(tasks)
        self._suspects: deque[int] = deque()
        # Done again when nothing else is out, so that no worker dies of another task meanwhile.
        self._alone: set[int] = set()
        self._wants: list[dict[str, Parcel]] = [{} for _ in tasks]

    def outcomes(self) -> Iterator[tuple[int, Any]]:
        """Yield the results as they come."""
        while self._waiting or self.out or self._suspects:
            self._hand_out()
            ended = sorted(self._ended(), key=self.out.__getitem__, reverse=True)
            while ended:
                index = self.out[ended[-1]]
                # Taken out of the list, so that the cluster need not keep what was received.
                outcome = self._settle(index, ended.pop())
                if outcome is not None:
                    yield index, outcome[0]

    def _hand_out(self) -> None:
        while self._waiting and len(self.out) < self._pool.ahead:
            self._submit(self._waiting.popleft())
        if not self.out:
            index = self._suspects.popleft()
            self._alone.add(index)
            self._submit(index)

    def _ended(self) -> set[Future[Answer]]:
        while not (ended := wait(self.out, LOOK_SECONDS, FIRST_COMPLETED).done):
            self._pool.check()
        return ended

    def _submit(self, index: int) -> None:
        wants = self._wants[index]
        order = self._crew.order(self._function, self.tasks[index], *wants.values())
        contents: Any = {key: self._pool.parcel(parcel) for key, parcel in wants.items()}
        self.out[self._pool.submit(perform, order, contents)] = index

    def _settle(self, index: int, future: Future[Answer]) -> tuple[Any] | None:
        """Return the result of a task, in a tuple of one; None when it is to go out again."""
        del self.out[future]
        try:
            answer = future.result()
        except CancelledError:
            raise _gone(self._crew.executor) from None
        except Exception as error:
            deaths = self._pool.deaths(error)
            if not deaths:
                raise
            self._deaths[index] += deaths
            return self._lost(index)
        return self._read(index, answer)

    def _lost(self, index: int) -> tuple[WorkerError] | None:
        if self._deaths[index] < TRIES:
            self._waiting.appendleft(index)
        elif self._pool.is_sure or index in self._alone:
            return (self._given_up(index),)
        else:
            self._suspects.append(index)
        return None

    def _read(self, index: int, answer: Answer) -> tuple[Any] | None:
        match answer:
            case Done():
                return (self._crew.receive(answer),)
            case Refused(error):
                return (error,)
            case Wanting(key):
                self._wants[index][key] = self._crew.known(key)
                self._waiting.appendleft(index)
                return None
            case Unlike(theirs):
                raise _unlike(differences(likeness(), theirs))

    def _given_up(self, index: int) -> WorkerError:
        shown = str(self.tasks[index])
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
        return WorkerError(
            f"{self._deaths[index]} workers died of the task `{shown}`",
            code="G602",
            hint="it may need more memory than there is: use fewer workers, or a smaller model",
        )


def _gone(executor: str) -> WorkerError:
    return WorkerError(
        f"the tasks given to {executor} were cancelled from outside",
        code="G604",
        hint="see whether the scheduler of the cluster still runs, and start again",
    )


def _unlike(told: str) -> WorkerError:
    return WorkerError(
        f"a worker differs from this machine: {told}",
        code="G603",
        hint="install the same versions everywhere: results must not depend on who computes them",
    )
