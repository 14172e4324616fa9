"""What a task is given to reach parcels by, and to leave what it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.workers.parcel import describe, save

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.workers.parcel import Contents, Parcel
    from graphopt.workers.store import Store


class Absent(BaseException):
    """This worker does not have a parcel yet: it is sent, and the task begins again.

    Not an Exception: a task that catches those must not take it for a fault of its own.
    """

    def __init__(self, parcel: Parcel) -> None:
        super().__init__(parcel.key)
        self.parcel = parcel


class Shelf:
    """What a task is given to reach parcels by, and to leave what it made.

    Args:
        store: what this worker keeps.
        home: the coordinator's folder of parcels, as the coordinator calls it.
        at_home: whether that folder can be written from here.
    """

    def __init__(self, store: Store, home: Path, *, at_home: bool) -> None:
        self._store = store
        self._home = home
        self._at_home = at_home
        self._held: list[str] = []
        self.carried: list[tuple[Parcel, bytes]] = []
        """What has to go back with the answer."""

    def receive(self, parcel: Parcel, found: Contents) -> None:
        """Take in a parcel that came with the task."""
        self._store.put(parcel, found)
        self._held.append(parcel.key)

    def path(self, parcel: Parcel) -> Path:
        """Return where a parcel can be read here, until the task ends; it must not be changed.

        Where it is not here yet, the task is left, and begins again from the top once it is: ask
        for parcels first, then work.
        """
        found = self._store.take(parcel)
        if found is None:
            raise Absent(parcel)
        self._held.append(parcel.key)
        return found

    def keep(self, data: bytes, name: str) -> Parcel:
        """Return the parcel of a new file, for the coordinator and for later tasks to read.

        Args:
            data: the content.
            name: of the file, without a folder.

        Raises:
            WorkerError: G606, the name leads out of the folder.
        """
        made = describe(data, name, self._home)
        if self._at_home:
            save(made, {name: data})
        else:
            self._store.keep(made, {name: data})
            self.carried.append((made, data))
        return made

    def end(self) -> None:
        """Let go of what was held."""
        for key in self._held:
            self._store.release(key)
        self._held.clear()
