"""The machine that a benchmark ran on, for the record."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, object]:
    """Return processor, cores, versions and date."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = next((line for line in info.splitlines() if line.startswith("flags")), "")
    name = next((line for line in info.splitlines() if line.startswith("model name")), ":unknown")
    return {
        "processor": name.split(":")[1].strip(),
        "avx512_vnni": "avx512_vnni" in flags,
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {p: version(p) for p in ("onnxruntime", "onnx", "numpy")},
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }
