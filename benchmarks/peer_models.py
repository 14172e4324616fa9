"""The peers: what is installed for each, and the models that they make, kept between runs.

Every peer runs in a virtual environment of its own, made from the package registry that pip is
configured with. Its script in peers/ gets a model and calibration samples and writes a model. A
peer that fails is recorded with the last thing it said.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads import Workload

HERE = Path(__file__).parent
SCRIPTS = HERE / "peers"
TIME_LIMIT = 900

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    # sympy: quant_pre_process imports it, onnxruntime does not require it.
    "ort": ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy"),
    "nncf": ("nncf==3.4.0", "onnxruntime==1.31.1", "onnx"),
    "onnxsim": ("onnxsim==0.8.1", "onnxruntime==1.31.1"),
    "onnxslim": ("onnxslim==0.1.98",),
    "onnxslim-onnxruntime": ("onnxslim==0.1.98", "onnxruntime==1.31.1"),
    # What graphopt needs; it is itself read from this repository.
    "graphopt": (
        *("numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.31.1", "networkx", "pluggy", "cattrs"),
        *("click", "rich", "onnx-graphsurgeon", "tomlkit", "pillow"),
    ),
    "onnxoptimizer": ("onnxoptimizer==0.4.2",),
    # It imports prettytable and scipy without requiring them, and breaks with numpy 2.
    "inc": (
        "onnx-neural-compressor==1.0",
        "onnxruntime==1.31.1",
        "numpy<2",
        "prettytable",
        "scipy",
    ),
}


@dataclass(frozen=True)
class Peer:
    """One tool in one configuration.

    Args:
        name: as it stands in the tables.
        environment: key of ENVIRONMENTS.
        script: file in peers/ without suffix.
        options: what the script gets after MODEL, CALIBRATION and OUTPUT.
    """

    name: str
    environment: str
    script: str
    options: tuple[str, ...] = ()

    def options_for(self, workload: Workload) -> tuple[str, ...]:
        """Return the options; NNCF's guide asks for a model type on transformers."""
        if self.script == "nncf_ptq" and workload.metric == "next_token":
            return ("transformer",)
        return self.options


PEERS: tuple[Peer, ...] = (
    Peer("ort default", "ort", "ort_default"),
    Peer("ort u8s8pc", "ort", "ort_u8s8_per_channel"),
    Peer("ort dynamic", "ort", "ort_dynamic"),
    Peer("nncf", "nncf", "nncf_ptq"),
    Peer("onnxsim lossless", "onnxsim", "onnxsim_lossless"),
    Peer("onnxsim static", "onnxsim", "onnxsim_static"),
    Peer("onnxsim static full", "onnxsim", "onnxsim_static", ("full",)),
    Peer("onnxslim lossless", "onnxslim", "onnxslim_lossless"),
    Peer("inc default", "inc", "inc_static"),
    Peer("inc qdq", "inc", "inc_static", ("qdq",)),
)


def refusal(error: BaseException) -> str:
    """Return why onnxruntime refused a model, without the path that it names first."""
    text = str(error.__cause__ or error).strip()
    return f"onnxruntime refuses its model: {text.rpartition(' failed:')[2][:300]}"


@dataclass(frozen=True)
class Made:
    """A peer's model, or why there is none."""

    path: Path | None
    reason: str = ""


def default_folder() -> Path:
    """Return where environments and models are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "graphopt-peers"


def calibration_folder(folder: Path) -> Path:
    """Return where calibration samples are kept, so that every run gives the same to every peer.

    The frames of the speech models come out of a network, and may differ in the last bit.
    """
    home = folder / "calibration" / _digest([HERE / "workloads.py"])
    home.mkdir(parents=True, exist_ok=True)
    return home


def python_of(name: str, folder: Path) -> Path:
    """Return the interpreter of an environment; make the environment when it is not there."""
    home = folder / name
    python, stamp = home / "bin" / "python", home / "requirements.txt"
    wanted = "".join(f"{line}\n" for line in ENVIRONMENTS[name])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]]
    subprocess.run(install, check=True)
    stamp.write_text(wanted)
    return python


def make(peer: Peer, workload: Workload, calibration: Path, folder: Path) -> Made:
    """Return the peer's model for a workload: kept from an earlier run, or made now."""
    output = folder / "models" / f"{workload.name}-{_key(peer, workload, calibration)}.onnx"
    failure = output.with_suffix(".failed")
    if failure.exists():
        return Made(None, failure.read_text())
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        reason = _run(peer, workload, calibration, output, folder)
        if reason:
            output.unlink(missing_ok=True)
            failure.write_text(reason)
            return Made(None, reason)
    return Made(output)


def _run(peer: Peer, workload: Workload, calibration: Path, output: Path, folder: Path) -> str:
    """Run the peer's script; return why it failed, or nothing."""
    script = SCRIPTS / f"{peer.script}.py"
    command = [python_of(peer.environment, folder), script, workload.path, calibration, output]
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            [*map(str, command), *peer.options_for(workload)],
            capture_output=True,
            text=True,
            check=False,
            cwd=scratch,  # some peers leave files where they run
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIME_LIMIT} s"
    if done.returncode == 0 and output.exists():
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if not said:
        return f"exit status {done.returncode}, nothing written"
    return said[-1].replace(str(workload.path), workload.path.name).replace(f"{folder}/", "")[:300]


def _key(peer: Peer, workload: Workload, calibration: Path) -> str:
    """Return a digest of everything that a peer's model depends on."""
    files = [workload.path, calibration, SCRIPTS / f"{peer.script}.py", SCRIPTS / "samples.py"]
    options = repr((ENVIRONMENTS[peer.environment], peer.options_for(workload)))
    return f"{peer.name.replace(' ', '_')}-{_digest(files, options)}"


def _digest(files: list[Path], text: str = "") -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    digest.update(text.encode())
    return digest.hexdigest()[:16]
