"""Other tools that prune without training: their models at the multiply-accumulates of ours.

Every tool runs in a virtual environment of its own (see peer_models.py). Its script in peers/ gets
a model, calibration samples, a folder and ratios, and writes one model per ratio; the one with the
most multiply-accumulates within the limit competes. Torch-Pruning is installed alone, and uses the
torch of the interpreter that runs the benchmark.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peer_models import SCRIPTS, python_of
from pruning_contenders import digest, macs_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workloads import Workload

TORCH_PRUNING = "torch-pruning==1.6.1"
RATIOS = tuple(f"{percent / 100:.2f}" for percent in range(1, 61))
TIME_LIMIT = 1800
COUNTED = 1.005
"""How far a model may be above the limit: channels are whole."""


@dataclass(frozen=True)
class PruningPeer:
    """One tool in one configuration.

    Args:
        name: as it stands in the tables.
        environment: "torch-pruning", or one of peer_models.py.
        script: file in peers/ without suffix.
        option: what the script gets before the ratios.
        variant: what is appended to the model's name to find the file that this tool is given.
    """

    name: str
    environment: str
    script: str
    option: str
    variant: str = ""


PEERS: tuple[PruningPeer, ...] = (
    PruningPeer("onnxsim l2", "onnxsim", "onnxsim_pruning", "l2"),
    PruningPeer("onnxsim wanda", "onnxsim", "onnxsim_pruning", "wanda"),
    PruningPeer("torch-pruning", "torch-pruning", "torch_pruning_magnitude", "all", "_unfolded_bn"),
    PruningPeer(
        "torch-pruning inside blocks",
        *("torch-pruning", "torch_pruning_magnitude", "inner", "_unfolded_bn"),
    ),
)


@dataclass(frozen=True)
class Sweep:
    """A tool's models by ratio, with their multiply-accumulates; or why there are none."""

    models: Mapping[Path, int]
    reason: str = ""

    def within(self, limit: float) -> Path | None:
        """Return the model with the most multiply-accumulates that are few enough."""
        fitting = {path: macs for path, macs in self.models.items() if macs <= limit * COUNTED}
        return max(fitting, key=lambda path: fitting[path], default=None)


def sweep(peer: PruningPeer, workload: Workload, calibration: Path, folder: Path) -> Sweep:
    """Return what a tool makes of a model, made once and kept.

    Args:
        peer: the tool.
        workload: the model.
        calibration: samples.
        folder: of the peers' environments; models are kept in "pruning" below it.
    """
    model = workload.path.with_stem(workload.name + peer.variant)
    script = SCRIPTS / f"{peer.script}.py"
    text = repr((peer, RATIOS, TORCH_PRUNING))
    key = digest([model, calibration, script, SCRIPTS / "samples.py"], text)
    home = folder / "pruning" / "peers" / f"{workload.name}-{peer.name.replace(' ', '-')}-{key}"
    said = home / "said.txt"
    if not said.exists():
        home.mkdir(parents=True, exist_ok=True)
        said.write_text(_run(peer, [script, model, calibration, home], folder))
    made = {path: macs_of(path) for path in sorted(home.glob("*.onnx"))}
    return Sweep(made, "" if made else said.read_text())


def _run(peer: PruningPeer, paths: list[Path], folder: Path) -> str:
    """Run the script; return its last words if it failed, or nothing."""
    try:
        python = environment(peer.environment, folder)
        done = subprocess.run(
            [str(python), *map(str, paths), peer.option, *RATIOS],
            capture_output=True,
            text=True,
            check=False,
            cwd=paths[-1],
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIME_LIMIT} s"
    except (OSError, subprocess.CalledProcessError, ModuleNotFoundError) as error:
        return f"its environment was not made: {error}"[:300]
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = said[-1] if said else f"exit status {done.returncode}, nothing written"
    for path in paths:
        last = last.replace(str(path), path.name)
    return last[:300]


def environment(name: str, folder: Path) -> Path:
    """Return the interpreter of a tool; make its environment when it is not there."""
    if name != "torch-pruning":
        return python_of(name, folder)
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError("torch is not installed here")
    home = folder / name
    python, stamp = home / "bin" / "python", home / "requirements.txt"
    if stamp.exists() and stamp.read_text() == TORCH_PRUNING:
        return python
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", TORCH_PRUNING]
    subprocess.run(install, check=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    # torch and numpy of the interpreter that runs this.
    (packages / "host.pth").write_text(sysconfig.get_paths()["purelib"])
    stamp.write_text(TORCH_PRUNING)
    return python
