"""Models of MLPerf Tiny's class within 320 KB of RAM and 1 MB of flash on a Cortex-M7.

Each is searched for the most accurate model that fits; accuracy is of samples that the search has
not seen (joint_data.py), and the plan of its activations' memory is printed: its size, the operator
at its peak, and how far it is from the lower bound. Memory and latency are estimates: no board is
here.

    python benchmarks/mcu_fit.py [--effort quick] [--folder DIR] [MODEL...]

Exit status 1 when a model does not fit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import graphopt
from graphopt.api import estimate_targets
from graphopt.cli.render_estimate import estimate_lines
from graphopt.runtime import open_session
from joint_data import search_file, tested
from machine import describe
from peer_models import default_folder
from peer_quality import Judge, loss
from workloads import Workload, workloads

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mcu_fit.json"
MODELS = (
    "kws_dscnn_bn",
    "mnist_cntk",
    "cifar10_resnet20_jpegft_unfolded_bn",
    "cifar10_resnet56_unfolded_bn",
    "imagenet_proxyless_w025_r112_unfolded_bn",
)
TARGET, RAM, FLASH = "cortex-m7", "320KB", "1MB"
RAM_BYTES, FLASH_BYTES = 320 * 1024, 1_000_000


def row(workload: Workload, effort: str, folder: Path) -> dict[str, object]:
    """Search one model, print its plan, and return what it came to."""
    found = graphopt.search(
        workload.path,
        data=search_file(workload, folder),
        target=TARGET,
        budgets={"max_ram": RAM, "max_size": FLASH},
        effort=effort,
        folder=folder / "searches" / f"{workload.name}.{TARGET}.{effort}",
    )
    path = folder / f"{workload.name}.{TARGET}.onnx"
    found.compiled.save(path, search=found.record)
    estimate = estimate_targets(path, [TARGET], max_ram=RAM_BYTES, max_flash=FLASH_BYTES)
    print(f"\n{workload.name}")
    print("\n".join(estimate_lines(estimate, verbose=True, width=None)), flush=True)
    judge = Judge(tested(workload), folder / "quality-of-half")
    before = judge.judge(workload.path, open_session(workload.path))
    after = judge.judge(path, open_session(path))
    lost = loss(before, after)
    chosen = next(p for p in found.record.points if p.chosen)
    assert chosen.ram_bytes is not None
    assert chosen.size_bytes is not None
    original = found.record.original
    return {
        "model": workload.name,
        "picked": chosen.label,
        "ram_bytes": chosen.ram_bytes,
        "ram_bytes_before": original.ram_bytes,
        "flash_bytes": chosen.size_bytes,
        "flash_bytes_before": original.size_bytes,
        "latency_ms": chosen.latency_ms,
        "latency_ms_before": original.latency_ms,
        "fits": chosen.ram_bytes <= RAM_BYTES and chosen.size_bytes <= FLASH_BYTES,
        "drop": round(lost.drop, 3),
        "interval": [round(b, 3) for b in lost.interval] if lost.interval else None,
    }


def main() -> None:
    """Search, print, write; exit 1 when a model does not fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--effort", default="quick")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="kept between runs")
    options = parser.parse_args()
    folder = (options.folder / "joint").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe()
    rows = [row(w, options.effort, folder) for w in workloads(options.models or list(MODELS))]
    for each in rows:
        print(json.dumps(each))
    if not options.models:
        RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    sys.exit(0 if all(each["fits"] for each in rows) else 1)


if __name__ == "__main__":
    main()
