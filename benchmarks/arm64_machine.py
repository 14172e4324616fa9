"""An emulated arm64 machine in a folder: QEMU in user mode, a Python, onnxruntime's arm64 wheel.

Debian's packages are only unpacked, with an apt configuration of its own in the folder; nothing is
installed on the host. QEMU has to be version 10: with older ones onnxruntime reads the host's
processor from /proc/cpuinfo and crashes. Needs apt-get, dpkg-deb and pip; about 0.3 GB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
SUITE = "trixie"
PYTHON = "3.13"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6", "libgomp1")
WHEELS = ("onnxruntime", "numpy")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64")
PROCESSORS = {
    "arm64-neon": "cortex-a72",
    "arm64-dotprod": "cortex-a76",
    "arm64-i8mm": "neoverse-v1",
}
"""What QEMU imitates for a target of graphopt."""


class MachineError(Exception):
    """The emulated machine cannot be set up or crashed; the text says why."""


@dataclass(frozen=True)
class Arm64:
    """A machine that is set up in ``folder``."""

    folder: Path

    def run(self, jobs: list[dict[str, str]], processor: str, seconds: float) -> dict[str, str]:
        """Run arm64/guest.py on the jobs; return what it says about itself.

        Raises:
            MachineError: it crashed or took longer than ``seconds``.
        """
        file = self.folder / "jobs.json"
        file.write_text(json.dumps(jobs))
        command = [
            self.folder / "host/usr/bin/qemu-aarch64",
            *("-cpu", processor, "-L", self.folder / "root"),
            self.folder / f"root/usr/bin/python{PYTHON}",
            *(HERE / "arm64/guest.py", self.folder / "site", file),
        ]
        done = _call([str(part) for part in command], seconds)
        return dict(json.loads(done.splitlines()[0]))


def set_up(folder: Path) -> Arm64:
    """Return the machine in ``folder``; make it when it is not there.

    Raises:
        MachineError: a tool is missing, or packages cannot be reached.
    """
    stamp = folder / "ready.json"
    wanted = json.dumps([SUITE, PYTHON, *(f"{name} {version(name)}" for name in WHEELS)])
    if stamp.exists() and stamp.read_text() == wanted:
        return Arm64(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _unpack_emulator(folder)
    _unpack_system(folder)
    _unpack_wheels(folder)
    stamp.write_text(wanted)
    return Arm64(folder)


def _unpack_emulator(folder: Path) -> None:
    """Unpack QEMU for the host's own architecture."""
    architecture = _call(["dpkg", "--print-architecture"]).strip()
    options = _apt(folder, architecture)
    _call(["apt-get", *options, "update"])
    _call(["apt-get", *options, "install", *_DOWNLOAD, "qemu-user"])
    _unpack(folder / "apt" / architecture, folder / "host", only="qemu-user")


def _unpack_system(folder: Path) -> None:
    """Unpack Python and what it needs, for arm64."""
    options = _apt(folder, "arm64")
    _call(["apt-get", *options, "update"])
    _call(["apt-get", *options, "install", *_DOWNLOAD, *PACKAGES])
    _unpack(folder / "apt" / "arm64", folder / "root")
    if not (folder / "root/lib").exists():
        (folder / "root/lib").symlink_to("usr/lib")


def _unpack_wheels(folder: Path) -> None:
    """Unpack the arm64 wheels in the versions that run here."""
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    command += ["--no-deps", "--python-version", PYTHON, "--dest", str(wheels)]
    for name in PLATFORMS:
        command += ["--platform", name]
    _call([*command, *(f"{name}=={version(name)}" for name in WHEELS)])
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")


_DOWNLOAD = ("--yes", "--no-install-recommends", "--download-only")


def _apt(folder: Path, architecture: str) -> list[str]:
    """Return options with which apt knows only SUITE, on the mirror that the host uses."""
    home = folder / "apt" / architecture
    for part in ("lists/partial", "archives/partial"):
        (home / part).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    (home / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
        "Dir::Cache": home,
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": home / "lists",
        "Dir::State::status": home / "status",
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _mirror() -> str:
    """Return the mirror that the host's apt is configured with."""
    lines = _call(["apt-get", "indextargets", "--format", "$(SITE) $(COMPONENT)"]).splitlines()
    sites = [site for site, _, component in (line.partition(" ") for line in lines)
             if component == "main" and site.rstrip("/").endswith("/debian")]  # fmt: skip
    if not sites:
        raise MachineError("apt is not configured with a mirror of Debian")
    return sites[0]


def _unpack(home: Path, root: Path, only: str = "") -> None:
    root.mkdir(exist_ok=True)
    for package in sorted((home / "archives").glob(f"{only}*.deb")):
        _call(["dpkg-deb", "--extract", str(package), str(root)])


def _call(command: list[str], seconds: float = 600) -> str:
    """Run a command and return what it writes; its last words are the error's text."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise MachineError(f"there is no `{command[0]}` here") from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"`{Path(command[0]).name}` was not done after {seconds} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        last = said[-1][:300] if said else "it said nothing"
        raise MachineError(f"`{Path(command[0]).name}` failed ({done.returncode}): {last}")
    return done.stdout
