"""Tasks that workers of other processes import."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import GraphOptError, LimitError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.workers import Parcel, Shelf


class OwnError(GraphOptError):
    """A plugin's kind of error, with an argument of its own."""

    def __init__(self, board: str) -> None:
        super().__init__(f"the board `{board}` is not there", code="G501", where=board, hint="plug")
        self.board = board


class FragileError(Exception):
    """It can be written, but not be read again."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left}, {right}")


def double(task: int, shelf: Shelf) -> int:
    return 2 * task


def process(task: object, shelf: Shelf) -> tuple[int, str | None, str | None]:
    time.sleep(0.2)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return os.getpid(), *(os.environ.get(name) for name in names)


def product(task: tuple[int, Parcel], shelf: Shelf) -> Parcel:
    """Return a file that is computed from a parcel and a number."""
    seed, parcel = task
    data = np.load(shelf.path(parcel))
    drawn = np.random.default_rng(seed).normal(size=data.shape)
    return shelf.keep((data @ drawn).tobytes(), f"product-{seed}.bin")


def read(task: tuple[Parcel, ...], shelf: Shelf) -> list[bytes]:
    return [shelf.path(parcel).read_bytes() for parcel in task]


def read_carelessly(task: Parcel, shelf: Shelf) -> bytes:
    try:
        return shelf.path(task).read_bytes()
    except Exception as error:
        return repr(error).encode()


def names_below(task: Parcel, shelf: Shelf) -> list[str]:
    path = shelf.path(task)
    return sorted(each.relative_to(path.parent).as_posix() for each in path.parent.rglob("*"))


def refuse(task: str, shelf: Shelf) -> None:
    if task == "own":
        raise OwnError("blue")
    if task == "limit":
        error = LimitError("too large", where="model.onnx", hint="prune")
        error.compiled = lambda: None
        raise error
    error = ModelError("the model is strange", code="G205", where="node `a`", hint="look at it")
    error.add_note("seen twice")
    raise error


def blunder(task: str, shelf: Shelf) -> object:
    if task == "fragile":
        raise FragileError(1, 2)
    if task == "unpicklable":
        return lambda: None
    raise ValueError("a bug")


def die_first(task: tuple[int, Path], shelf: Shelf) -> int:
    """Kill the worker that gets the task first; a later one does it."""
    number, flag = task
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_of_three(task: int, shelf: Shelf) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def sleep(task: tuple[float, Path], shelf: Shelf) -> None:
    seconds, folder = task
    (folder / str(os.getpid())).touch()
    time.sleep(seconds)
