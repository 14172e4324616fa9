"""Runs an archive that measures, on this machine and in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from graphopt.errors import TargetError


def run_archive(
    archive: bytes, results: Path, *, minutes: float, threads: int = 0, quiet: bool = True
) -> None:
    """Run a bundle as a device would, so that this machine is measured like any other.

    Its own process, because the memory and the threads of this one would disturb it.

    Args:
        archive: what ``graphopt.cost.profiling.bundle.write_archive`` made.
        results: file of results; one that is not complete is continued.
        minutes: time to spend.
        threads: besides one; all cores when 0.
        quiet: show no progress on stderr.

    Raises:
        TargetError: G504, the program failed.
        KeyboardInterrupt: somebody stopped it; what is measured so far is in ``results``.
    """
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        program = Path(folder) / "device.pyz"
        program.write_bytes(archive)
        command = [sys.executable, str(program), str(results), "--minutes", f"{minutes:g}"]
        command += ["--threads", str(threads), *(["--quiet"] if quiet else [])]
        errors = subprocess.PIPE if quiet else None
        done = subprocess.run(  # noqa: S603 - our own program
            command, stderr=errors, stdin=subprocess.DEVNULL, check=False
        )
    if done.returncode == _INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode != 0:
        told = (done.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
        raise TargetError(
            ": ".join([f"the measurement ended with code {done.returncode}", *told]),
            code="G504",
            where=str(results),
            hint="the same command goes on from there; removing the file starts again",
        )


_INTERRUPTED = 130
