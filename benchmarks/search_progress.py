"""Whether the progress bar of a search is right about the remaining time, within a factor of two.

What a bar is told is written down as it comes; between two tellings the remaining time is what was
told last, less what has passed since. After the search every second of it is compared with what
really remained. Run it on a quiet machine: what remains depends on what else runs.

    python benchmarks/search_progress.py [--effort normal] [--drop 1%] [MODEL...]

Without models: three of different sizes, and only these write results. Exit status 1 when the
remaining time is wrong by more than a factor of two for more than a quarter of a search. The last
two seconds, where a bar shows 0 or 1, do not count, nor does the time before the first telling.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graphopt
from joint_data import asked, search_file
from machine import describe
from peer_models import default_folder
from workloads import Workload, workloads

if TYPE_CHECKING:
    from graphopt.report import Notice, PassRecord

RESULTS = Path(__file__).parent / "results" / "search_progress.json"
MODELS = ("kws_dscnn_bn", "stories260k_decoder", "cifar10_resnet20_jpegft_unfolded_bn")
FACTOR = 2.0
LEAST = 0.75
END_SECONDS = 2.0


class Clock:
    """Writes down what a progress bar is told of the search."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.told: list[tuple[float, float]] = []
        """Seconds since the start, and seconds that remain."""

    def pass_started(self, name: str) -> None:
        """Ignore it."""

    def pass_finished(self, record: PassRecord) -> None:
        """Ignore it."""

    def notice(self, notice: Notice) -> None:
        """Ignore it."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Keep what is said of the whole search; its steps are seconds."""
        if label == "searching":
            self.told.append((time.perf_counter() - self.started, float(total - done)))


def watched(workload: Workload, options: argparse.Namespace) -> dict[str, Any]:
    """Search a model, with nothing kept from earlier, and return how right the bar was."""
    folder = (options.folder / "joint").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = search_file(workload, folder)
    told = asked(workload)
    if "max_drop" in told and workload.metric != "psnr_db":
        told["max_drop"] = options.drop
    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        graphopt.search(
            workload.path,
            data=data,
            target="host",
            effort=options.effort,
            folder=place,
            observe=clock,
            **told,
        )
    end = time.perf_counter() - clock.started
    return {"model": workload.name, "seconds": round(end, 1), **judged(clock.told, end)}


def judged(told: list[tuple[float, float]], end: float) -> dict[str, Any]:
    """Return the share of time in which what was told is right within the factor."""
    right, seen, worst = 0, 0, 1.0
    moment = told[0][0]
    while moment < end - END_SECONDS:
        when, left = [each for each in told if each[0] <= moment][-1]
        said = max(left - (moment - when), 1.0)
        ratio = said / (end - moment)
        worst = max(worst, ratio, 1.0 / ratio)
        right += 1.0 / FACTOR <= ratio <= FACTOR
        seen += 1
        moment += 1.0
    return {
        "first_told_after": round(told[0][0], 1),
        "tellings": len(told),
        "within_factor_of_two": round(right / seen, 3) if seen else 1.0,
        "worst_factor": round(worst, 2),
        "told": [[round(when, 1), round(left, 1), round(end - when, 1)] for when, left in told],
    }


def main() -> None:
    """Watch, print, write; exit 1 when a bar was wrong for too long."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--drop", default="1%")
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    machine = describe()
    rows = []
    for workload in workloads(options.models or list(MODELS)):
        rows.append(watched(workload, options))
        print(json.dumps(rows[-1]), flush=True)
    kept = all(row["within_factor_of_two"] >= LEAST for row in rows)
    if not options.models:
        content = {"machine": machine, "least": LEAST, "kept": kept, "rows": rows}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
