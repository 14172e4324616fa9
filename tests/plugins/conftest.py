"""Installs the packages beside this file as a user would, into a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "plugins" / "graphopt-example"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-index", "--no-deps", "--no-build-isolation"]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every package of tests/plugins/packages and the example, installed."""
    site = tmp_path_factory.mktemp("site")
    sources = [*sorted((HERE / "packages").iterdir()), EXAMPLE]
    command = [*PIP, *OFFLINE, "--target", site, *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def site(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the installed packages on the path, for one test."""
    monkeypatch.delenv("GRAPHOPT_PLUGINS", raising=False)
    for name in [name for name in sys.modules if name.startswith("graphopt_test_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(packages)
    return packages
