"""The graph optimisers that are compared, each as its users run it from the command line.

Peers live in virtual environments of their own (peer_models.py). OnnxSlim folds constants with
onnxruntime where that is installed, so its environment has it. The process that does the work is
what is timed, from its start to its exit, imports included, for all alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peer_models import ENVIRONMENTS, HERE, python_of

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = HERE.parent / "graphopt"
OURS = "graphopt"
VERIFIED_ONLY = "graphopt --no-measure"
PEERS = ("onnxsim", "onnxslim", "onnxoptimizer")
TOOLS = (OURS, VERIFIED_ONLY, *PEERS)
RIVALS = ("onnxsim", "onnxslim")
"""Whose node counts are to be reached."""

_ENVIRONMENT = {
    "onnxsim": "onnxsim",
    "onnxslim": "onnxslim-onnxruntime",
    "onnxoptimizer": "onnxoptimizer",
}


def our_python(folder: Path) -> Path:
    """Return an interpreter with what graphopt needs and no more, which finds this repository."""
    python = python_of(OURS, folder)
    packages = next(python.parent.parent.glob("lib/python*/site-packages"))
    (packages / "graphopt.pth").write_text(f"{HERE.parent}\n")
    return python


@dataclass(frozen=True)
class Tool:
    """One optimiser with its defaults.

    Args:
        name: as it stands in the tables.
        folder: where environments are kept.
    """

    name: str
    folder: Path

    @property
    def is_ours(self) -> bool:
        """Whether its source is in this repository."""
        return self.name.startswith(OURS)

    def command(self, model: Path, output: Path) -> list[str]:
        """Return what its user types, with the interpreter's full path."""
        if self.is_ours:
            start = [str(our_python(self.folder)), "-m", "graphopt", "compile", str(model)]
            rest = ["--recipe", "lossless", "-o", str(output)]
            return [*start, *rest, *(["--no-measure"] if self.name == VERIFIED_ONLY else [])]
        python = python_of(_ENVIRONMENT[self.name], self.folder)
        if self.name == "onnxoptimizer":
            return [str(python), "-m", "onnxoptimizer", str(model), str(output)]
        return [str(python.with_name(self.name)), str(model), str(output)]

    def key(self) -> str:
        """Return what its results depend on, beside the model."""
        state = hashlib.sha256(self.name.encode())
        if self.is_ours:
            for path in sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.toml")]):
                state.update(path.relative_to(SOURCE).as_posix().encode())
                state.update(path.read_bytes())
        else:
            state.update(repr(ENVIRONMENTS[_ENVIRONMENT[self.name]]).encode())
        return state.hexdigest()[:16]
