"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let golden files be rewritten: ``pytest tests/golden --update-golden``."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def missing(reason: str) -> None:
    """Skip, or fail where the environment promises that nothing is missing (CI)."""
    if os.environ.get("GRAPHOPT_NO_SKIP") == "1":
        pytest.fail(f"must not be missing here: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of shipped models and their data."""
    return ROOT / "models"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and data beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        missing("../shared/data is not beside the repository")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what fixtures of whole modules make away from what the user's cache holds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GRAPHOPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep cached statistics of one test from answering another."""
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path_factory.mktemp("cache")))
