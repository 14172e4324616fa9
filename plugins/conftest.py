"""Makes sure that each plugin is installed, as its users have it: with its entry points."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-index", "--no-deps", "--no-build-isolation"]
PLUGINS = Path(__file__).parent


@pytest.fixture(scope="session")
def _site_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Give the folder that a plugin is installed in, once a session."""

    @functools.cache
    def site_of(source: Path) -> Path:
        site = tmp_path_factory.mktemp("site")
        subprocess.run([*PIP, *OFFLINE, "--target", site, source], check=True)
        return site

    return site_of


@pytest.fixture(scope="module", autouse=True)
def _installed(request: pytest.FixtureRequest, _site_of: Callable[[Path], Path]) -> Iterator[None]:
    """Install the plugin for its tests when the environment does not have it."""
    source = PLUGINS / request.path.relative_to(PLUGINS).parts[0]
    try:
        importlib.metadata.distribution(source.name)
    except importlib.metadata.PackageNotFoundError:
        site = _site_of(source)
        sys.path.insert(0, str(site))
        yield
        sys.path.remove(str(site))
        for name in {path.stem for path in site.iterdir()}:
            sys.modules.pop(name, None)
    else:
        yield
