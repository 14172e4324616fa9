"""A search gives the same bytes with one worker and with several, and after it was killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import graphopt

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Found

SCRIPT = """
import sys
import graphopt

if __name__ == "__main__":
    model, data, folder = sys.argv[1:]
    graphopt.search(
        model, data=data, target="x86", max_drop="1%", folder=folder, workers=1, seconds=600
    )
"""
_PATIENCE = 120.0


def run(models: Path, folder: Path, workers: int) -> Found:
    return graphopt.search(
        models / "digits_resnet.onnx",
        data=models / "digits_test.npz",
        target="x86",
        max_drop="1%",
        folder=folder,
        workers=workers,
        seconds=600.0,
    )


def facts(found: Found) -> list[tuple[object, ...]]:
    points = found.record.points
    return [(p.key, p.label, p.status, p.score, p.latency_ms, p.file, p.chosen) for p in points]


@pytest.mark.slow
def test_one_worker_and_two_give_the_same_bytes(models: Path, tmp_path: Path) -> None:
    one, two = (run(models, tmp_path / str(n), n) for n in (1, 2))
    assert facts(one) == facts(two)
    assert one.compiled.to_bytes() == two.compiled.to_bytes()


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    told = (models / "digits_resnet.onnx", models / "digits_test.npz", folder)
    process = subprocess.Popen([sys.executable, str(script), *map(str, told)])
    try:
        _wait_for(folder / "search.sqlite", 2)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait()
    went_on = run(models, folder, 1)
    whole = run(models, tmp_path / "whole", 1)
    assert sum(p.reused for p in went_on.record.points) >= 2
    assert not all(p.reused for p in went_on.record.points)
    assert facts(went_on) == facts(whole)
    assert went_on.compiled.to_bytes() == whole.compiled.to_bytes()


def _wait_for(path: Path, count: int) -> None:
    """Wait until a search has made so many models."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if path.exists():
            try:
                with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                    if database.execute("select count(*) from made").fetchone()[0] >= count:
                        return
            except sqlite3.OperationalError:
                pass  # it is being created
        time.sleep(0.02)
    pytest.fail("the search made nothing in time")
