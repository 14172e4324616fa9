"""What is sent to a worker, what comes back, and what the worker does in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.errors import GraphOptError
from graphopt.workers.likeness import likeness
from graphopt.workers.shelf import Absent, Shelf
from graphopt.workers.store import store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from graphopt.workers.likeness import Likeness
    from graphopt.workers.parcel import Contents, Parcel


@dataclass(frozen=True)
class Order:
    """One task for a worker.

    Args:
        crew: whose order it is; workers keep parcels per crew.
        home: the coordinator's folder of parcels, as the coordinator calls it.
        at_home: whether the worker writes into that folder itself.
        in_place: whether the worker may look for files where the coordinator has them.
        likeness: of the coordinator.
        function: called with the task and a ``Shelf``.
        task: its argument.
        sent: the parcels that come with the order.
    """

    crew: str
    home: Path
    at_home: bool
    in_place: bool
    likeness: Likeness
    function: Callable[[Any, Shelf], Any]
    task: Any
    sent: tuple[Parcel, ...] = ()


@dataclass(frozen=True)
class Done:
    """The task was done; ``carried`` holds the files it made that are not yet at home."""

    value: Any
    carried: tuple[tuple[Parcel, bytes], ...] = ()


@dataclass(frozen=True)
class Refused:
    """The task raised an error that is the user's to solve."""

    error: GraphOptError


@dataclass(frozen=True)
class Wanting:
    """The worker does not have a parcel, told by its key."""

    key: str


@dataclass(frozen=True)
class Unlike:
    """The worker could not give the same result, being of other versions."""

    likeness: Likeness


Answer = Done | Refused | Wanting | Unlike


def perform(order: Order, contents: Mapping[str, Contents]) -> Answer:
    """Do one task in this process; faults that are not the user's to solve are raised.

    Args:
        order: the task.
        contents: the files of the parcels that come with it, by the parcel's key.
    """
    if order.likeness != likeness():
        return Unlike(likeness())
    kept = store_of(order.crew, in_place=order.in_place)
    shelf = Shelf(kept, order.home, at_home=order.at_home)
    try:
        for parcel in order.sent:
            shelf.receive(parcel, contents[parcel.key])
        value = order.function(order.task, shelf)
    except Absent as absent:
        return Wanting(absent.parcel.key)
    except GraphOptError as error:
        return Refused(portable(error))
    finally:
        shelf.end()
    return Done(value, tuple(shelf.carried))


def portable(error: GraphOptError) -> GraphOptError:
    """Return the error with its code, place, hint and notes, and nothing else that it holds.

    What else an error holds, such as a compiled model, may be large or bound to its process.
    """
    kind = type(error)
    try:
        told = kind(error.message, code=error.code, where=error.where, hint=error.hint)
    except TypeError:  # a plugin's own kind of error, with arguments of its own
        told = GraphOptError(error.message, code=error.code, where=error.where, hint=error.hint)
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told
