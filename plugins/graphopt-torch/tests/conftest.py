"""What tests of the plugin need: torch, the models, and a cache of their own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

PLUGIN = Path(__file__).resolve().parents[1]
ROOT = PLUGIN.parents[1]
HAS_TORCH = importlib.util.find_spec("torch") is not None

# Test modules may import the plugin at their top, before it is installed for them.
sys.path.insert(0, str(PLUGIN))


def missing(reason: str) -> NoReturn:
    """Skip, or fail where the environment promises that nothing is missing (CI)."""
    if os.environ.get("GRAPHOPT_NO_SKIP") == "1":
        pytest.fail(f"must not be missing here: {reason}")
    pytest.skip(reason, allow_module_level=True)


class WithoutTorch(pytest.Module):
    """A test module that is not imported, since what it tests is not there."""

    def collect(self) -> Iterable[pytest.Item]:
        """Skip the module, or fail."""
        missing("torch is not installed: pip install torch")


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Let modules be skipped with a reason where there is no torch to import."""
    return None if HAS_TORCH else WithoutTorch.from_parent(parent, path=module_path)


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


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what one test has cached from answering another."""
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path_factory.mktemp("cache")))
