"""Imports point downwards and each dependency has one home; the contracts are in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of the package and its contracts."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "graphopt", folder / "graphopt")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("ir/text.py", "import graphopt.runtime.session", "Layers point downwards"),
        ("recipe/toml.py", "import graphopt.registry", "Layers point downwards"),
        ("passes/base.py", "import onnx", "onnx and onnx_graphsurgeon live in ir"),
        ("cost/size.py", "import onnxruntime", "onnxruntime lives in runtime"),
        ("api/source.py", "import pluggy", "pluggy lives in hookspecs and registry"),
        ("report/compiling.py", "import rich", "The terminal lives in cli"),
        ("ir/order.py", "import networkx", "networkx lives in analysis, cost and planner"),
        ("api/source.py", "import jinja2", "Templates and plots live in page"),
    ],
)
def test_each_contract_bites(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "graphopt" / module
    original = path.read_text(encoding="utf-8")
    path.write_text(f"{original}\n{line}\n", encoding="utf-8")
    try:
        done = lint_imports(copy)
    finally:
        path.write_text(original, encoding="utf-8")
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


def test_a_new_folder_must_be_given_a_layer(copy: Path) -> None:
    stray = copy / "graphopt" / "stray.py"
    stray.write_text('"""In no layer."""\n', encoding="utf-8")
    try:
        done = lint_imports(copy)
    finally:
        stray.unlink()
    assert done.returncode == 1
    assert "graphopt.stray" in done.stdout
