"""onnxruntime-web in a folder, executed by node: models run as WebAssembly, one thread.

Needs node 18 or later and npm; about 150 MB, most of which is onnxruntime-web's own builds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
VERSION = "1.30.0"
_TYPES = {
    "float32": "float32", "int32": "int32", "int64": "int64", "uint8": "uint8", "int8": "int8",
    "bool": "bool", "float64": "float64",
}  # fmt: skip


class WasmError(Exception):
    """onnxruntime-web cannot be set up, or crashed; the text says why."""


@dataclass(frozen=True)
class Job:
    """One model, what to feed it, and which others it is timed with, in turn."""

    name: str
    model: Path
    feeds: Sequence[Mapping[str, np.ndarray[Any, Any]]]
    group: str = ""


@dataclass
class Answer:
    """What one model gave: outputs of every feed, milliseconds of every round, or why it failed."""

    outputs: list[list[np.ndarray[Any, Any]]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    failed: str = ""


@dataclass(frozen=True)
class Wasm:
    """A folder that holds onnxruntime-web."""

    folder: Path

    def run(
        self, jobs: Sequence[Job], scratch: Path, *, rounds: int = 0, seconds: float = 0.2
    ) -> tuple[dict[str, Any], dict[str, Answer]]:
        """Run every job; return what the runtime says of itself, and the answers by name.

        Raises:
            WasmError: node crashed.
        """
        listed = [_written(job, scratch / str(i)) for i, job in enumerate(jobs)]
        file = scratch / "jobs.json"
        file.write_text(json.dumps({"jobs": listed, "rounds": rounds, "seconds": seconds}))
        printed = _call(["node", str(HERE / "wasm/guest.mjs"), str(self.folder), str(file)])
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        answers = {line["name"]: _answer(line) for line in lines[1:]}
        for job, entry in zip(jobs, listed, strict=True):
            if not answers[job.name].failed:
                answers[job.name].outputs = _outputs(Path(entry["outputs"]))
        return lines[0], answers


def set_up(folder: Path) -> Wasm:
    """Install onnxruntime-web into ``folder``, unless it is there.

    Raises:
        WasmError: there is no node or npm, or the registry cannot be reached.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise WasmError("node and npm are needed")
    package = folder / "node_modules/onnxruntime-web/package.json"
    if not package.exists() or json.loads(package.read_text())["version"] != VERSION:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        _call(["npm", "install", *options, f"onnxruntime-web@{VERSION}"])
    return Wasm(folder)


def _written(job: Job, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    feeds = []
    for number, feed in enumerate(job.feeds):
        described = {}
        for position, (name, array) in enumerate(feed.items()):
            file = folder / f"feed_{number}_{position}.raw"
            file.write_bytes(np.ascontiguousarray(array).tobytes())
            described[name] = {
                "type": _TYPES[str(array.dtype)], "dims": array.shape, "file": str(file)
            }  # fmt: skip
        feeds.append(described)
    return {
        "name": job.name, "group": job.group or job.name, "model": str(job.model),
        "feeds": feeds, "outputs": str(folder / "outputs"),
    }  # fmt: skip


def _answer(line: Mapping[str, Any]) -> Answer:
    return Answer(milliseconds=list(line.get("ms", ())), failed=line.get("failed", ""))


def _outputs(folder: Path) -> list[list[np.ndarray[Any, Any]]]:
    rounds: list[list[np.ndarray[Any, Any]]] = []
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["round"] == len(rounds):
            rounds.append([])
        flat = np.frombuffer((folder / entry["file"]).read_bytes(), np.dtype(entry["type"]))
        rounds[-1].append(flat.reshape(entry["dims"]))
    return rounds


def _call(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError as error:
        raise WasmError(f"{command[0]}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise WasmError(f"{command[0]}: {error.stderr.strip()[-500:]}") from error
    return done.stdout
