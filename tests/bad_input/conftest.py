"""A folder to make mistakes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bad_input.mistakes import Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NO_COLOR", "GRAPHOPT_FORMAT", "GRAPHOPT_COLOR", "GRAPHOPT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(capfd: pytest.CaptureFixture[str]) -> Bench:
    return Bench(capfd)
