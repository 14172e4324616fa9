"""What a device says of itself; for Python 3.9 and later, with onnxruntime and numpy alone."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def device_facts() -> dict[str, Any]:
    """Return what the device says of itself; what it does not say is empty or None."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    info = _cpuinfo()
    return {
        "processor": info["model"] or platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "flags": info["flags"].split(),
        "runtime": f"onnxruntime {ort.__version__}",
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cores": core_count(),
        "governor": _text(cpu + "scaling_governor"),
        "mhz": _number(info["mhz"]) or _kilo(_text(cpu + "scaling_cur_freq")),
        "max_mhz": _kilo(_text(cpu + "cpuinfo_max_freq")),
    }


def core_count() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    names = {
        "flags": "flags", "Features": "flags", "model name": "model", "Hardware": "model",
        "Model": "model", "cpu MHz": "mhz",
    }  # fmt: skip
    found = {"flags": "", "model": "", "mhz": ""}
    for line in _text("/proc/cpuinfo").splitlines():
        key, colon, value = line.partition(":")
        name = names.get(key.strip())
        if colon and name and not found[name]:
            found[name] = value.strip()
    if platform.system() == "Darwin":
        found["model"] = _sysctl("machdep.cpu.brand_string")
        told = {"asimddp": "hw.optional.arm.FEAT_DotProd", "i8mm": "hw.optional.arm.FEAT_I8MM"}
        found["flags"] = " ".join(flag for flag, key in told.items() if _sysctl(key) == "1")
    return found


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  (fixed program, fixed keys)
            ["/usr/sbin/sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _kilo(text: str) -> float | None:
    number = _number(text)
    return number / 1e3 if number else None
