"""Crews of every kind, and the folder that worker processes import tasks from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from graphopt.workers import Crew, InThisProcess, LocalProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = str(Path(__file__).resolve().parents[3])


@pytest.fixture(scope="session", autouse=True)
def _importable() -> Iterator[None]:
    """Let worker processes, which get this process's path, import `tests.unit.workers.errands`."""
    sys.path.insert(0, ROOT)
    yield
    sys.path.remove(ROOT)


class Elsewhere(LocalProcesses):
    """Processes that do as if they were on other machines: nothing of ours can be read there."""

    at_home = False
    in_place = False


def crew_of(kind: str, folder: Path | None = None) -> Crew:
    """Return a crew of a kind: "here", "processes" or "elsewhere"."""
    pools = {
        "here": InThisProcess,
        "processes": lambda: LocalProcesses(2),
        "elsewhere": lambda: Elsewhere(2),
    }
    return Crew(pools[kind](), executor=kind, folder=folder)


@pytest.fixture(params=["here", "processes", "elsewhere"])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    """A crew of each kind, one after another."""
    with crew_of(request.param) as made:
        yield made
