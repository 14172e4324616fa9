"""The machine that graphopt runs on as a target: the nearest built-in, its clock and its cores."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.targets.reader import builtin_target

if TYPE_CHECKING:
    from graphopt.targets.base import Target

_ARM_MACHINES = ("aarch64", "arm64")
_SYSCTL = "/usr/sbin/sysctl"


@cache
def host_target() -> Target:
    """Return this machine as the target ``host``; detected once.

    The base is the built-in target with the best instruction set that the machine has; the clock
    is the machine's own where it can be known.
    """
    info = _cpu_info()
    base_name = base_for(info["flags"].split(), platform.machine())
    base = builtin_target(base_name)
    assert base is not None
    sources = {key: f"{base.name}: {text}" for key, text in base.sources.items()}
    clock = _clock_ghz(info)
    compute = dataclasses.replace(base.compute, cores=_cores())
    if clock is not None:
        compute = dataclasses.replace(compute, frequency_ghz=clock)
        sources["compute.frequency_ghz"] = "read from this machine"
    sources["compute.cores"] = "read from this machine"
    model = info["model"] or platform.processor() or platform.machine()
    return dataclasses.replace(
        base,
        name="host",
        aliases=(),
        summary=f"this machine: {model}, treated as {base.name}",
        compute=compute,
        sources=sources,
        is_host=True,
    )


def base_for(flags: list[str], machine: str) -> str:
    """Return the name of the built-in target for CPU feature flags of ``/proc/cpuinfo``.

    ``machine`` is ``platform.machine()``. Features are what Linux calls them; an unknown machine
    gets ``x86-avx2``, whose rules are the most careful ones.
    """
    have = set(flags)
    if machine.lower() in _ARM_MACHINES:
        if "i8mm" in have:
            return "arm64-i8mm"
        return "arm64-dotprod" if "asimddp" in have else "arm64-neon"
    if "avx512_vnni" in have:
        return "x86-avx512-vnni"
    return "x86-avx-vnni" if "avx_vnni" in have else "x86-avx2"


def parse_cpuinfo(text: str) -> dict[str, str]:
    """Return flags, model and clock (MHz) of the first processor in ``/proc/cpuinfo`` text.

    What is not there is an empty string.
    """
    names = {"flags": "flags", "Features": "flags", "model name": "model", "cpu MHz": "mhz"}
    found = {"flags": "", "model": "", "mhz": ""}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        name = names.get(key.strip())
        if colon and name and not found[name]:
            found[name] = value.strip()
    return found


def _cpu_info() -> dict[str, str]:
    try:
        return parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return _darwin_info() if platform.system() == "Darwin" else parse_cpuinfo("")


def _darwin_info() -> dict[str, str]:
    """Return the same facts on macOS, with feature flags in Linux's names."""
    flags = {
        "hw.optional.arm.FEAT_DotProd": "asimddp",
        "hw.optional.arm.FEAT_I8MM": "i8mm",
    }
    have = [flag for key, flag in flags.items() if _sysctl(key) == "1"]
    return {"flags": " ".join(have), "model": _sysctl("machdep.cpu.brand_string"), "mhz": ""}


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed program, fixed keys
            [_SYSCTL, "-n", key], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _clock_ghz(info: dict[str, str]) -> float | None:
    """Return the highest clock; None where only a nominal one is told.

    A virtual machine's ``cpu MHz`` is the time-stamp counter's rate, not what the core runs at.
    """
    limit = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    try:
        return int(limit.read_text(encoding="ascii")) / 1e6
    except (OSError, ValueError):
        pass
    if "hypervisor" in info["flags"].split():
        return None
    try:
        return round(float(info["mhz"]) / 1e3, 3) or None
    except ValueError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
