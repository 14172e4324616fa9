"""Races that end as a test wants them to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.api import job, timing

if TYPE_CHECKING:
    import pytest


def lose_first_race(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let what was compiled lose its first race against the original; return the races, as run."""
    real, calls = job.confirmed, list[Any]()

    def lost(*args: Any, **options: Any) -> timing.Timed:
        calls.append(args)
        found = real(*args, **options)
        slow = {**vars(found), "ratio": 0.5, "ratio_of_minima": 0.5}
        return timing.Timed(**slow) if len(calls) == 1 else found

    monkeypatch.setattr(job, "confirmed", lost)
    return calls
