"""What does int8 gain by core and kind of network, in ncnn's published tables?

    python benchmarks/int8_gain.py

Reads ../shared/data/latency/ncnn/cpu_tables.json (Tencent/ncnn, benchmark/README.md: measured by
ncnn's users on their devices, one thread, minimum of runs); nothing is measured here. The gain is
the time of the float network over that of the same network in int8: ``dense`` is the geometric
mean over networks of ordinary convolutions, ``separable`` that of networks of depthwise and
pointwise ones.

ncnn is not onnxruntime: its float kernels use Winograd and, since Armv8.2, 16-bit arithmetic, so
its gains are lower. They check the order of cores, and that a gain below 1 is real.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from machine import describe

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT.parent / "shared" / "data" / "latency" / "ncnn" / "cpu_tables.json"
RESULT = ROOT / "benchmarks" / "results" / "int8_gain.json"

DENSE = ("squeezenet", "googlenet", "resnet18", "vgg16", "resnet50", "squeezenet_ssd")
SEPARABLE = ("mobilenet", "mobilenet_ssd")

CORES = {
    "cortex-a53": ("Cortex-A53 1.2GHz x 4", "BCM2837B0", "H616", "AX630C", "QRB2210"),
    "cortex-a55": ("RK3568", "Rk3566"),
    "cortex-a72": ("BCM2711B0",),
    "cortex-a76": ("RK3588 (Cortex-A76", "RK3588S"),
    "cortex-a78": ("A78AE",),
    "apple-m1": ("M1, 2020",),
    "neoverse-n1 class": ("Kunpeng 920",),
    "neoverse-n2": ("D64ps v6",),
    "x86 AVX2": ("Threadripper 3970X", "V1605B", "EPYC 7742", "2.6GHz six cores Intel"),
    "x86 AVX-512 VNNI": ("i7-11800H",),
}
"""Words of a device's description, by core; a big core of several is what one thread gets."""


def core_of(device: str, powersave: int) -> str | None:
    """Return the core that a one-thread table of a device is about; None where it is unclear."""
    if "RK3588 (" in device and powersave == 1:
        return "cortex-a55"
    return next((c for c, words in CORES.items() if any(w in device for w in words)), None)


def gain(times: dict[str, list[float]], networks: tuple[str, ...]) -> float | None:
    """Return the geometric mean of float over int8 time; None where no pair was measured."""
    logs = [
        math.log(times[n][0] / times[f"{n}_int8"][0])
        for n in networks
        if n in times and f"{n}_int8" in times
    ]
    return math.exp(statistics.fmean(logs)) if logs else None


def main() -> int:
    """Write and print gains by core."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in json.loads(TABLES.read_text(encoding="utf-8")):
        core = core_of(table["device"], table["powersave"])
        if core is None or table["threads"] != 1:
            continue
        dense, separable = gain(table["ms"], DENSE), gain(table["ms"], SEPARABLE)
        entry = {
            "device": table["device"],
            "dense": round(dense, 3) if dense else None,
            "separable": round(separable, 3) if separable else None,
            "mobilenet_ms": table["ms"].get("mobilenet", [None])[0],
            "resnet18_ms": table["ms"].get("resnet18", [None])[0],
        }
        found.setdefault(core, []).append(entry)
    found = {core: found[core] for core in CORES if core in found}
    record: dict[str, object] = {
        "machine": describe(),
        "data": "ncnn benchmark tables, measured by ncnn's users, one thread",
        "cores": found,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for core, entries in found.items():
        for e in entries:
            print(
                f"{core:20} {e['dense']} {e['separable']} {e['mobilenet_ms']} "
                f"{e['resnet18_ms']} {e['device'][:50]}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
