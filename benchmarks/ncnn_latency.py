"""Unseen models and unknown devices on ncnn's published CPU latencies, one thread.

Tables and network definitions of ../shared/data/latency/ncnn: phones, boards and servers, timed by
many people with different versions of ncnn. The minimum of each entry is used. Two protocols:

A. *Unseen model*: the latency of model m on device d from d's other models and from the other
   devices' other models. No latency of m on any device is used, only its graph; int8 twins are not
   used either. `family` also leaves out the models of m's family.
B. *Unknown device*: from 5 anchor models measured on device d, its other models, which are known on
   other devices. All tables of d's processor are left out, and the other devices choose the
   anchors.

Baselines under protocol A are fitted per device: multiply-accumulates, and a roofline of
multiply-accumulates, bytes and calls. Under protocol B: the mean device, scaled to the anchors. The
noise ceiling is another table of the same processor, scaled to the median. Nothing is timed here.

Usage: ncnn_latency.py [--shared DIR]. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from device_population import Beliefs, Newcomer, Population, learn
from graphopt.cost.curves import grid_of
from graphopt.cost.fitting import robust_nnls
from graphopt.cost.transfer import columns, group_of, log_times, target_curves
from graphopt.targets import read_target
from graphopt.targets.profile import KernelCurve
from latency_scores import WITHIN
from machine import describe
from ncnn_graphs import signatures

Array = np.ndarray[Any, Any]

RESULTS = Path(__file__).parent / "results" / "ncnn_latency.json"
BASE = Path(__file__).parents[1] / "graphopt" / "targets" / "data" / "arm64-neon.toml"
UNSEEN_MODEL_BAR, UNKNOWN_DEVICE_BAR = 14.0, 7.0
ANCHORS = (3, 5, 8)
_NOT_CNN = frozenset({"vision_transformer"})
"""Measured on nine devices only, and nothing else has its kernels."""

FAMILIES = {
    "mobilenet": "mobilenet mobilenet_ssd mobilenet_yolo",
    "mobilenet_v2": "mobilenet_v2 mobilenetv2_yolov3 mnasnet proxylessnasnet mobilenet_v3",
    "efficientnet": "efficientnet_b0 efficientnetv2_b0",
    "shufflenet": "shufflenet shufflenet_v2 nanodet_m yolo-fastestv2 FastestDet",
    "squeezenet": "squeezenet squeezenet_ssd",
    "resnet": "resnet18 resnet50",
    "vgg": "vgg16 alexnet",
}
"""Models with the same blocks, by family; the others are alone."""

# Tables of one processor, by what their names have in common; the others are alone.
_PROCESSORS = ("RK3588", "RK3568", "RK3566", "BCM2837", "BCM2711", "Orin", "Xavier", "MSM8996")


class Tables:
    """Latencies in microseconds, (tables, models), NaN where not measured."""

    def __init__(self, folder: Path) -> None:
        stored = json.loads((folder / "cpu_tables.json").read_text(encoding="utf-8"))
        self.devices = [str(table["device"]) for table in stored]
        self.processors = [processor_of(name) for name in self.devices]
        self.threads = np.array([table["threads"] for table in stored])
        kernels = {path.stem: signatures(path) for path in sorted(folder.glob("*.param"))}
        self.models = [m for m in kernels if not m.endswith("_int8") and m not in _NOT_CNN]
        self.kernels = [kernels[m] for m in self.models]
        rows = [[table["ms"].get(m, [np.nan])[0] for m in self.models] for table in stored]
        self.us = np.array(rows, float) * 1e3
        self.us[self.us <= 0] = np.nan  # a model that crashed
        self.single = np.flatnonzero(self.threads == 1)


def processor_of(device: str) -> str:
    """Return what tables of the same processor share."""
    found = [name for name in _PROCESSORS if name.lower() in device.lower()]
    return found[0] if found else device


def parts_of(tables: Tables) -> Array:
    """Return microseconds by group of terms on the base, (models, groups)."""
    base = read_target(BASE)
    _, parts = columns(tables.kernels, ncnn_curves(), grid_of(base), ncnn_group)
    found: Array = parts[:, parts.any(axis=0)]
    return found


def ncnn_curves() -> dict[str, KernelCurve]:
    """Return the base's curves and those of three kernels that onnxruntime does not have.

    Winograd saves 2.25 multiplications on 2x2 tiles (Lavin and Gray, arXiv:1509.09308, section 4).
    Local response normalization counts as a reduction. Detection sorts equal scores and suppresses
    boxes: 50 us per thousand is a guess that the tables correct.
    """
    curves = target_curves(read_target(BASE))
    winograd = dict(curves["float32.conv"].terms)
    winograd["mac"] /= 2.25
    call = winograd["call"]
    return curves | {
        "float32.Winograd": KernelCurve(winograd),
        "float32.LRN": curves["float32.reduction"],
        "float32.DetectionOutput": KernelCurve({"element": 50.0, "call": call}),
    }


def ncnn_group(key: str, term: str) -> str:
    """Return the group of a term: ncnn's own kernels have groups of their own."""
    name = key.split(".")[1]
    if term == "call":
        return "call"
    if name == "Winograd" and term in {"moved", "spilled"}:
        return "winograd.transform"
    if name == "Winograd" and term == "mac":
        return "winograd"
    if name in {"LRN", "DetectionOutput"}:
        return name
    if name == "gemv" and term not in {"moved", "spilled"}:
        return "gemv"
    return group_of(key, term)


def unseen_model(logs: Array, parts: Array, left_out: list[set[int]], beliefs: Beliefs) -> Array:
    """Return log latencies, each model predicted without the models that go out with it."""
    whole = learn(parts, logs, beliefs)
    predicted = np.full_like(logs, np.nan)
    for model, out in enumerate(left_out):
        kept = [m for m in range(len(parts)) if m not in out]
        start = Population(
            whole.mean.copy(), whole.deltas.copy(), whole.effects[kept], whole.covariance.copy()
        )
        found = learn(parts[kept], logs[:, kept], beliefs, start, rounds=6)
        predicted[:, model] = log_times(found.mean + found.deltas, parts[[model]])[0][:, 0]
    return predicted


def by_features(features: Array, us: Array) -> Array:
    """Return log latencies by nonnegative least squares per device, each model left out."""
    predicted = np.full_like(us, np.nan)
    for device, row in enumerate(us):
        for model in np.flatnonzero(~np.isnan(row)):
            others = ~np.isnan(row) & (np.arange(len(row)) != model)
            scaled = features[others] / row[others][:, None]
            found = robust_nnls(scaled, np.ones(int(others.sum())))
            predicted[device, model] = np.log(max(features[model] @ found, 1e-9))
    return predicted


def unknown_device(
    tables: Tables, parts: Array, logs: Array, beliefs: Beliefs, count: int
) -> tuple[Array, Array, list[list[str]]]:
    """Return log latencies by the population and by the scaled mean device, and the anchors."""
    ours, scaled = np.full((2, len(tables.single), len(parts)), np.nan)
    names, known = [], dict[str, Newcomer]()
    for row, table in enumerate(tables.single):
        processor = tables.processors[table]
        if processor not in known:
            foreign = np.array([p != processor for p in tables.processors])
            known[processor] = Newcomer(parts, logs[foreign & (tables.threads == 1)], beliefs)
        newcomer = known[processor]
        measured = np.flatnonzero(~np.isnan(logs[table])).tolist()
        chosen = newcomer.anchors(measured, count)
        names.append([tables.models[m] for m in chosen])
        ours[row] = newcomer.predict(chosen, logs[table])
        mean = log_times(newcomer.found.mean, parts)[0] + newcomer.found.effects
        scaled[row] = mean + np.median(logs[table][chosen] - mean[chosen])
        ours[row, chosen] = scaled[row, chosen] = np.nan
    return ours, scaled, names


def families(models: list[str]) -> list[set[int]]:
    """Return for each model the models of its family, itself among them."""
    home = {m: name for name, members in FAMILIES.items() for m in members.split()}
    return [
        {i for i, other in enumerate(models) if home.get(other, other) == home.get(m, m)}
        for m in models
    ]


def twins(tables: Tables) -> dict[str, float]:
    """Return how far two one-thread tables of one processor are apart behind a common factor."""
    found = []
    for one, two in permutations(tables.single, 2):
        if tables.processors[one] == tables.processors[two]:
            ratio = np.log(tables.us[one] / tables.us[two])
            error = np.abs(np.expm1(ratio - np.nanmedian(ratio)))
            found.append(100 * float(np.nanmean(error)))
    return {"pairs": len(found) // 2, "median": round(float(np.median(found)), 2),
            "least": round(min(found), 2), "most": round(max(found), 2)}  # fmt: skip


def summary(predicted: Array, logs: Array) -> dict[str, float]:
    """Return the median over tables of MAPE and of the share within 10 %, and the mean MAPE."""
    error = np.abs(np.expm1(predicted - logs))
    known = ~np.isnan(error)
    each = 100 * np.nanmean(error, axis=1)
    within = 100 * ((error <= WITHIN) & known).sum(axis=1) / known.sum(axis=1)
    return {
        "median_mape": round(float(np.median(each)), 2),
        "mean_mape": round(float(each.mean()), 2),
        "median_within_10": round(float(np.median(within)), 1),
        "median_error": round(100 * float(np.nanmedian(error)), 2),
    }


def protocol_a(tables: Tables, parts: Array) -> dict[str, Any]:
    """Return the scores of unseen models."""
    us = tables.us[tables.single]
    logs = np.log(us)
    macs = np.array([[sum(s.macs for s in k)] for k in tables.kernels], float)
    moved = [
        [sum(s.read_bytes + s.write_bytes + s.weight_bytes for s in k), len(k)]
        for k in tables.kernels
    ]
    alone = [{m} for m in range(len(parts))]
    ours = unseen_model(logs, parts, alone, Beliefs())
    error = np.nanmean(np.abs(np.expm1(ours - logs)), axis=0)
    wide = unseen_model(logs, parts, alone, Beliefs(spread=0.4))
    family = unseen_model(logs, parts, families(tables.models), Beliefs())
    return {
        "transfer": summary(ours, logs),
        "transfer, spread 0.4": summary(wide, logs),
        "transfer, family left out": summary(family, logs),
        "roofline": summary(by_features(np.hstack([macs, np.array(moved, float)]), us), logs),
        "macs": summary(by_features(macs, us), logs),
        "mape_by_model": {
            m: round(100 * float(e), 1) for m, e in zip(tables.models, error, strict=True)
        },
    }


def protocol_b(tables: Tables, parts: Array) -> dict[str, Any]:
    """Return the scores of unknown devices, by number of anchors."""
    logs, found = np.log(tables.us), {}
    beliefs = Beliefs(model_error=0.1)
    for count in ANCHORS:
        ours, scaled, names = unknown_device(tables, parts, logs, beliefs, count)
        wanted = logs[tables.single]
        found[str(count)] = {
            "transfer": summary(ours, wanted),
            "scaled mean device": summary(scaled, wanted),
            "anchors": {
                m: sum(m in chosen for chosen in names)
                for m in tables.models if any(m in chosen for chosen in names)
            },
        }  # fmt: skip
    ours, _, _ = unknown_device(tables, parts, logs, Beliefs(model_error=0.1, noise=0.03), 5)
    found["5"]["transfer, noise 0.03"] = summary(ours, logs[tables.single])
    return found


def main() -> int:
    """Run both protocols, write the results, and return 1 when a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--shared", type=Path, default=default)
    given = parser.parse_args()
    tables = Tables(given.shared / "latency" / "ncnn")
    parts = parts_of(tables)
    results: dict[str, Any] = {
        "machine": describe(),
        "what": (__doc__ or "").splitlines()[0],
        "tables": len(tables.single),
        "models": len(tables.models),
        "unseen_model": protocol_a(tables, parts),
        "unknown_device": protocol_b(tables, parts),
        "noise_ceiling": twins(tables),
    }
    model = results["unseen_model"]["transfer"]["median_mape"]
    device = results["unknown_device"]["5"]["transfer"]["median_mape"]
    results["missed"] = [
        f"{name}: median MAPE {have} % > {bar} %"
        for name, have, bar in (
            ("unseen model", model, UNSEEN_MODEL_BAR),
            ("unknown device, 5 anchors", device, UNKNOWN_DEVICE_BAR),
        )
        if have > bar
    ]
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))
    return 1 if results["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
