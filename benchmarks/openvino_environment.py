"""An environment of its own: onnxruntime-openvino, graphopt, the plugin graphopt-openvino."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "plugins/graphopt-openvino"
RUNTIME = "onnxruntime-openvino==1.24.1"


class SetupError(Exception):
    """The environment cannot be made; the text says why."""


def set_up(folder: Path) -> Path:
    """Return the Python of the environment in ``folder``, made when it is not there.

    graphopt and the plugin are installed anew each time, without their dependencies: the provider's
    package takes the place of onnxruntime.

    Raises:
        SetupError: pip failed.
    """
    python = folder / "bin/python"
    if not python.exists():
        _call(sys.executable, "-m", "venv", str(folder))
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        others = [name for name in needed if not name.startswith("onnxruntime")]
        _call(*_pip(python), RUNTIME, "hatchling>=1.25", *others)
    local = ("--no-deps", "--no-build-isolation", "--force-reinstall")
    _call(*_pip(python), *local, str(ROOT), str(PLUGIN))
    return python


def _pip(python: Path) -> tuple[str, ...]:
    return str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(done.stderr.strip()[-500:])
