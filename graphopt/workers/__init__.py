"""Where work is done: processes of this machine, or a cluster; models travel once."""

from __future__ import annotations

from graphopt.workers.crew import TRIES, Crew
from graphopt.workers.opening import open_crew
from graphopt.workers.parcel import Contents, Parcel, contents
from graphopt.workers.pool import InThisProcess, Plain, Pool
from graphopt.workers.processes import LocalProcesses
from graphopt.workers.shelf import Shelf
from graphopt.workers.store import arrivals, forget

__all__ = [
    "TRIES",
    "Contents",
    "Crew",
    "InThisProcess",
    "LocalProcesses",
    "Parcel",
    "Plain",
    "Pool",
    "Shelf",
    "arrivals",
    "contents",
    "forget",
    "open_crew",
]
