"""The models of ../shared/data for searches: one half to calibrate, fit and judge, one to test.

A search sees the first half of the labelled samples and nothing else; every figure of accuracy
that is reported is of the second. Where there are no labels, all feeds are compared on.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from workloads import Array, Workload

MAX_DROP = {"top1": "1%", "next_token": "1%", "psnr_db": 0.3}
"""Points, or dB; models without labels keep 20 dB of signal-to-noise ratio."""
METRIC = {"next_token": "next-token-top1", "psnr_db": "psnr"}
MIN_SNR_DB = 20.0


def search_file(workload: Workload, folder: Path) -> Path:
    """Write what a search is given as an .npz file, and return it."""
    if workload.labels() is None:
        return workload.write_calibration(folder)
    path = folder / f"{workload.name}.search.npz"
    if not path.exists():
        feeds, labels = workload.feeds(), workload.labels()
        assert labels is not None
        half = len(feeds) // 2
        arrays: dict[str, Array] = {
            name: np.concatenate([feed[name] for feed in feeds[:half]]) for name in feeds[0]
        }
        if workload.metric != "next_token":  # those labels are the inputs, one further
            arrays["labels"] = _as_outputs(workload, labels[:half])
        np.savez(path, **arrays)
    return path


def tested(workload: Workload) -> Workload:
    """Return the workload with what a search did not see."""
    labels = workload.labels()
    if labels is None:
        return workload
    half = len(workload.feeds()) // 2
    return dataclasses.replace(
        workload, feeds=lambda: workload.feeds()[half:], labels=lambda: labels[half:]
    )


def asked(workload: Workload) -> dict[str, object]:
    """Return what a search is told: the drop that is allowed, or the noise."""
    if workload.labels() is None:
        return {"overrides": [f"limits.min-snr-db={MIN_SNR_DB:g}"], "pick": "fastest"}
    metric = METRIC.get(workload.metric)
    found: dict[str, object] = {"max_drop": MAX_DROP[workload.metric]}
    if metric is not None:
        found["overrides"] = [f"limits.metric={metric}"]
    return found


def _as_outputs(workload: Workload, labels: Array) -> Array:
    """Return labels in the shape of outputs: images get their channel."""
    return labels[:, None] if workload.metric == "psnr_db" else labels
