"""Makes sure that the plugin is installed, as its users have it: with its entry point."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTION = "graphopt-openvino"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-index", "--no-deps", "--no-build-isolation"]


@pytest.fixture(scope="session", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install this package for the session when the environment does not have it."""
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        site = tmp_path_factory.mktemp("site")
        source = Path(__file__).parents[1]
        subprocess.run([*PIP, *OFFLINE, "--target", site, source], check=True)
        sys.path.insert(0, str(site))
        yield
        sys.path.remove(str(site))
        for name in ("graphopt_openvino",):
            sys.modules.pop(name, None)
    else:
        yield
