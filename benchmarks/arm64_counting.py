"""A QEMU that counts instructions, built in a folder: Debian's source with plugins switched on.

Debian's own builds of QEMU's user mode are static and cannot load plugins. Nothing is installed on
the host; headers that the build needs are unpacked beside it. Needs apt-get, dpkg-deb, gcc, ninja
and pip, 1.5 GB, and 6 minutes of two cores.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from arm64_machine import KEYRING, PYTHON, SUITE, Arm64, MachineError, _apt, _call, _mirror

HERE = Path(__file__).parent
HEADERS = ("libglib2.0-dev", "libpcre2-dev", "libffi-dev", "libmount-dev", "libblkid-dev",
           "libselinux1-dev", "libsepol-dev")  # fmt: skip
BUILDERS = ("meson==1.8.1", "pycotap==1.3.1", "distlib", "setuptools", "packaging")
LEFT_OUT = r"(pc-bios|functional|migration-stress|unit|tests/functional|tests/unit)"
"""Folders that Debian's archive lacks parts of; user mode needs none of them."""

OPTIONS = ("--target-list=aarch64-linux-user", "--enable-plugins", "--disable-system",
           "--disable-tools", "--disable-docs", "--disable-guest-agent", "--disable-werror",
           "--disable-install-blobs")  # fmt: skip
SECONDS = 7200


@dataclass(frozen=True)
class Counts:
    """Instructions that a run retired: all, loads and stores, vector arithmetic."""

    instructions: int
    memory: int
    simd: int

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.instructions - other.instructions,
            self.memory - other.memory,
            self.simd - other.simd,
        )


@dataclass(frozen=True)
class Counter:
    """An emulated machine whose QEMU counts."""

    machine: Arm64
    emulator: Path
    plugin: Path

    def run(self, jobs: list[dict[str, str]], processor: str) -> list[Counts]:
        """Return what the second inference of each model takes, that of the call included.

        Raises:
            MachineError: it crashed, or a marker is missing.
        """
        file = self.machine.folder / "counted.json"
        file.write_text(json.dumps(jobs))
        command = [
            *(self.emulator, "-cpu", processor, "-plugin", self.plugin),
            *("-L", self.machine.folder / "root"),
            self.machine.folder / f"root/usr/bin/python{PYTHON}",
            *(HERE / "arm64/counted.py", self.machine.folder / "site", file),
        ]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        lines = re.findall(r"^(\d+) (\d+) (\d+)$", done.stderr, re.MULTILINE)
        marks = [Counts(*map(int, line)) for line in lines]
        if done.returncode or len(marks) != 2 * len(jobs):
            raise MachineError(f"{len(marks)} marks of {len(jobs)} models: {done.stderr[-300:]}")
        return [after - before for before, after in zip(marks[::2], marks[1::2], strict=True)]


def set_up_counter(machine: Arm64) -> Counter:
    """Return the machine with a QEMU that counts; build it when it is not there.

    Raises:
        MachineError: a tool is missing, or something cannot be downloaded or built.
    """
    home = machine.folder / "counting"
    emulator, plugin = home / "src/build/qemu-aarch64", home / "count.so"
    home.mkdir(exist_ok=True)
    if not emulator.exists():
        _download(home)
        _build(home)
    if not plugin.exists() or plugin.stat().st_mtime < (HERE / "arm64/count.c").stat().st_mtime:
        _compile_plugin(home, plugin)
    return Counter(machine, emulator, plugin)


def _download(home: Path) -> None:
    """Download and unpack QEMU's source, and the headers of the host's own suite."""
    options = _apt(home, "source")
    sources = home / "apt/source/sources.list"
    sources.write_text(f"deb-src [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    _call(["apt-get", *options, "update"])
    _call_in(home, ["apt-get", *options, "source", "--download-only", "qemu"])
    _call_in(home, ["apt-get", "download", *HEADERS])
    for package in home.glob("*.deb"):
        _call(["dpkg-deb", "--extract", str(package), str(home / "headers")])
    (archive,) = home.glob("qemu_*.orig.tar.xz")
    (home / "src").mkdir()
    _call(["tar", "-xf", str(archive), "-C", str(home / "src"), "--strip-components=1"])
    _link_libraries(home / "headers/usr/lib")


def _link_libraries(folder: Path) -> None:
    """Point the links of header packages, which name no version, to the host's libraries."""
    for link in folder.rglob("*.so"):
        if link.exists() or not link.is_symlink():
            continue
        for place in (Path("/usr/lib"), Path("/lib")):
            found = sorted((place / link.parent.name).glob(f"{link.name}.*"))
            if found:
                link.unlink()
                link.symlink_to(found[0])
                break


def _build(home: Path) -> None:
    source = home / "src"
    for file in (source / "meson.build", source / "tests/meson.build"):
        text = re.sub(rf"(?m)^( *subdir\('{LEFT_OUT}'\))", r"# \1", file.read_text())
        file.write_text(text)
    _call([sys.executable, "-m", "venv", str(home / "python")])
    python = home / "python/bin/python"
    _call([str(python), "-m", "pip", "install", "--quiet", *BUILDERS])
    build = source / "build"
    build.mkdir(exist_ok=True)
    _call_in(build, ["../configure", *OPTIONS, f"--python={python}"], _environment(home))
    _call_in(build, ["ninja", "qemu-aarch64"], _environment(home))


def _environment(home: Path) -> dict[str, str]:
    headers = home / "headers"
    library = next((headers / "usr/lib").glob("*/pkgconfig"))
    return {
        "PATH": f"{home}/python/bin:{os.environ['PATH']}",
        "PKG_CONFIG_SYSROOT_DIR": str(headers),
        "PKG_CONFIG_PATH": f"{library}:{headers}/usr/share/pkgconfig",
        "LIBRARY_PATH": str(library.parent),
    }


def _compile_plugin(home: Path, plugin: Path) -> None:
    flags = _call_in(home, ["pkg-config", "--cflags", "glib-2.0"], _environment(home)).split()
    include = home / "src/include"
    found = next(include.rglob("qemu-plugin.h")).parent
    command = ["gcc", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", f"-I{found}", *flags]
    _call([*command, "-o", str(plugin), str(HERE / "arm64/count.c")])


def _call_in(folder: Path, command: list[str], extra: dict[str, str] | None = None) -> str:
    """Run a command in a folder and return what it writes."""
    done = subprocess.run(
        command, cwd=folder, env=os.environ | (extra or {}), capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MachineError(f"`{command[0]}` failed: {' / '.join(said[-3:])[:400]}")
    return done.stdout
