"""What a worker process keeps of the parcels of one crew: in place, or in a bounded folder."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from graphopt.errors import WorkerError
from graphopt.workers.folder import claim
from graphopt.workers.parcel import is_intact, lies_at, write

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.workers.folder import Claimed
    from graphopt.workers.parcel import Contents, Parcel

STORE_BYTES = 8 << 30
"""How much a worker keeps for one crew before it lets go of what was not used for longest."""


class Store:
    """What a worker process keeps for one crew; gone with the process at the latest.

    Several threads may use it.

    Args:
        limit: bytes that may be kept; running tasks may need more, and then have it.
        in_place: look for the coordinator's files where the coordinator has them. A cluster on one
            machine and one with a common file system need no copies.
    """

    def __init__(self, limit: int = STORE_BYTES, *, in_place: bool = True) -> None:
        self.limit = limit
        self.arrived: Counter[str] = Counter()
        """By digest, how many times the bytes came here."""
        self._in_place = in_place
        self._claimed: Claimed | None = None
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._readers: Counter[str] = Counter()
        self._checked: dict[Parcel, tuple[int, ...]] = {}
        self._lock = threading.RLock()

    @property
    def folder(self) -> Path:
        """The folder; made when it is first needed."""
        with self._lock:
            if self._claimed is None:
                self._claimed = claim("graphopt-worker-")
            return self._claimed.path

    def take(self, parcel: Parcel) -> Path | None:
        """Return where a parcel lies, held until ``release``; None if it is not here."""
        with self._lock:
            if self._lies_in_place(parcel):
                self._readers[parcel.key] += 1
                return parcel.path
            if parcel.key not in self._kept:
                return None
            self._kept.move_to_end(parcel.key)
            self._readers[parcel.key] += 1
            return self._place(parcel.key) / parcel.name

    def release(self, key: str) -> None:
        """Say that a task that held a parcel has ended."""
        with self._lock:
            self._readers[key] -= 1
            self._shrink()

    def put(self, parcel: Parcel, found: Contents) -> None:
        """Keep what came, unless it is here already, and hold it until ``release``.

        Raises:
            WorkerError: G606, it is not what the parcel is called after.
        """
        with self._lock:
            if parcel.key in self._kept:
                self._readers[parcel.key] += 1
                return
            if not is_intact(parcel, found):
                message = f"`{parcel.name}` did not arrive as it was sent"
                raise WorkerError(message, code="G606", hint="check the network, and run it again")
            self.arrived[parcel.digest] += 1
            self._readers[parcel.key] += 1
            self.keep(parcel, found)

    def keep(self, parcel: Parcel, found: Contents) -> None:
        """Keep what was made here, or what came."""
        with self._lock:
            write(self._place(parcel.key), found)
            self._kept[parcel.key] = parcel.size
            self._kept.move_to_end(parcel.key)
            self._shrink(spared=parcel.key)

    def close(self) -> None:
        """Remove the folder."""
        with self._lock:
            if self._claimed is not None:
                self._claimed.release()
            self._claimed = None
            self._kept.clear()

    def _place(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode()).hexdigest()

    def _lies_in_place(self, parcel: Parcel) -> bool:
        """Whether the coordinator's files can be read from here; read once, then watched."""
        root = parcel.path.parent
        try:
            stats = [(root / name).stat() for name in parcel.files] if self._in_place else []
        except OSError:
            return False
        now = tuple(each for stat in stats for each in (stat.st_size, stat.st_mtime_ns))
        if not now or self._checked.get(parcel) == now:
            return bool(now)
        self._checked.pop(parcel, None)
        if lies_at(parcel, root):
            self._checked[parcel] = now
        return parcel in self._checked

    def _shrink(self, spared: str = "") -> None:
        held = sum(self._kept.values())
        for key, size in list(self._kept.items()):
            if held <= self.limit:
                return
            if key != spared and not self._readers[key]:
                held -= size
                del self._kept[key]
                shutil.rmtree(self._place(key), ignore_errors=True)


_STORES: dict[str, Store] = {}
_STORES_LOCK = threading.Lock()


def store_of(crew: str, *, in_place: bool = True) -> Store:
    """Return what this process keeps for a crew."""
    with _STORES_LOCK:
        if crew not in _STORES:
            _STORES[crew] = Store(in_place=in_place)
        return _STORES[crew]


def forget(crew: str) -> None:
    """Remove what this process keeps for a crew."""
    with _STORES_LOCK:
        store = _STORES.pop(crew, None)
    if store is not None:
        store.close()


def arrivals(crew: str) -> dict[str, int]:
    """Return how many times the bytes of each parcel came to this process, by digest."""
    with _STORES_LOCK:
        store = _STORES.get(crew)
    return dict(store.arrived) if store else {}
