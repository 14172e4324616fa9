"""Balanced against nearest rounding of weights, everything else equal; docs/decisions/0002.

``python benchmarks/rounding_ablation.py [MODEL ...]`` compiles models of ../shared/data twice with
the preset `integer` (every operator that can be is integer) for x86-avx512-vnni, and compares both
with the float original on samples that calibration did not see. The observer is min-max, and
calibration sees the same samples both times.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

import graphopt
from graphopt import ir
from graphopt.passes.quantize.qdq import parameters
from graphopt.pipeline import snr_db
from graphopt.runtime import open_session
from workloads import Workload, scores, workloads

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = np.ndarray[Any, Any]
TARGET = "x86-avx512-vnni"
DEFAULT = (
    "superres_espcn_x3_y",
    "cifar10_resnet20_jpegft",
    "imagenet_proxyless_w025_r112",
    "kws_dscnn_bn",
)
LIMIT = 500
"""Samples that a model is compared on, at most."""


def nearest(steps: Array, limit: int) -> Array:
    """Round each weight on its own: what ``round_balanced`` is compared with."""
    return np.clip(np.rint(steps), -limit, limit)


@contextmanager
def rounding(function: Any) -> Iterator[None]:
    """Use another way to round weights, for as long as the block runs."""
    original = parameters.round_balanced
    parameters.round_balanced = function
    try:
        yield
    finally:
        parameters.round_balanced = original


def outputs_of(model: Any, feeds: list[dict[str, Array]]) -> list[Array]:
    """Run a model and return its first output for each feed."""
    session = open_session(model)
    return [session.run(feed)[0] for feed in feeds]


def compare(workload: Workload) -> list[str]:
    """Return a line per rounding: integer operators, signal-to-noise ratio, metric."""
    feeds = workload.feeds()[:LIMIT]
    labels = workload.labels()
    labels = None if labels is None else labels[:LIMIT]
    original = ir.load(workload.path)
    wanted = outputs_of(original, feeds)
    base = None if labels is None else scores(workload, wanted, labels).mean()
    lines = []
    for name, function in (("nearest", nearest), ("balanced", parameters.round_balanced)):
        with rounding(function):
            compiled = graphopt.compile(
                original,
                target=TARGET,
                data=workload.calibration(),
                recipe="integer",
                measure=False,
                overrides=(
                    "calibration.observer=min-max",
                    "calibration.held-out=0",
                    "limits.min-snr-db=-100",
                ),
            )
        found = outputs_of(compiled.graph, feeds)
        executed = [o.execution for o in compiled.report.operators]
        counts = f"{executed.count('integer')} of {len(executed)}"
        change = "-"
        if base is not None:
            after = scores(workload, found, labels).mean()
            unit, factor = (" dB", 1) if workload.metric == "psnr_db" else (" points", 100)
            change = f"{factor * (after - base):+.2f}{unit}"
        snr = f"{snr_db(wanted, found):.2f} dB"
        lines.append(f"| {workload.name} | {len(feeds)} | {name} | {counts} | {snr} | {change} |")
    return lines


def main() -> None:
    """Print the table."""
    print("| model | samples | rounding | integer | SNR | change of metric |")
    print("|---|--:|---|---|--:|--:|")
    for workload in workloads(sys.argv[1:] or list(DEFAULT)):
        print("\n".join(compare(workload)), flush=True)


if __name__ == "__main__":
    main()
