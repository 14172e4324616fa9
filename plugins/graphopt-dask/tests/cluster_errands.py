"""Tasks that the workers of a cluster import."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import TYPE_CHECKING

from graphopt.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.workers import Parcel, Shelf


def digest(task: tuple[int, Parcel], shelf: Shelf) -> tuple[int, str]:
    number, parcel = task
    time.sleep(0.02)
    return number, hashlib.sha256(shelf.path(parcel).read_bytes()).hexdigest()


def reverse(task: Parcel, shelf: Shelf) -> Parcel:
    return shelf.keep(shelf.path(task).read_bytes()[::-1], "reversed.bin")


def where(task: Parcel, shelf: Shelf) -> tuple[int, Path]:
    return os.getpid(), shelf.path(task)


def die_first(task: tuple[int, Parcel, Path], shelf: Shelf) -> tuple[int, int]:
    """Kill the worker that gets the task first; a later one does it."""
    number, parcel, flag = task
    size = shelf.path(parcel).stat().st_size
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number, size


def die_of_two(task: int, shelf: Shelf) -> int:
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def wait_for(task: tuple[int, Path], shelf: Shelf) -> int:
    """Say who does the task, and do not end before a file is there."""
    number, folder = task
    (folder / f"{os.getpid()}.pid").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return number


def refuse(task: object, shelf: Shelf) -> None:
    raise ModelError("strange", code="G205", where="node `a`", hint="look at it")


def compiled(task: tuple[Parcel, Parcel, str], shelf: Shelf) -> Parcel:
    """Compile a model with one option set; return the model."""
    from graphopt.api import compile as compile_model

    model, data, option = task
    made = compile_model(
        shelf.path(model), data=shelf.path(data), overrides=[option], measure=False
    )
    return shelf.keep(made.to_bytes(), "compiled.onnx")
