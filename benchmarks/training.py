"""Recovery by training without labels: what it brings back of what pruning and few bits cost.

Per model: pruned in closed form to so many times fewer multiply-accumulates, and trained by the
original (distill-weights) from there; every operator in 8-bit integers, without and with training,
of the original and of what was pruned and trained; weights of 4 bits. Training sees unlabelled
samples only, and none that is tested on. Every row that trains is made once for each seed; figures
are means over the seeds with 95 % intervals (Student's t); paired intervals against fp32 over the
test samples are those of the first seed.

    python benchmarks/training.py [MODEL ...] [--rows NAME,...] [--seeds 1,2,3] [--minutes M]
        [--again] [--quick] [--folder DIR] [--output FILE]

Rows are recorded as they come, so that a run can be ended and go on; what is recorded is not made
again without --again. --quick takes three steps, 64 samples and 40 tests, and records in a file of
its own. Exit status 1 when a bar of training_bars.py is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.runtime import open_session
from machine import describe
from peer_models import default_folder
from peer_quality import Judge, loss
from training_bars import FLOAT, SUBJECTS, Step, Subject, verdicts
from training_models import PLANS, Kitchen, Order, tested, workload_of
from weight_only import logits_of, per_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pruning_contenders import Made
    from workloads import Workload

RESULTS = Path(__file__).parent / "results" / "training.json"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Two-sided 95 % quantile of t, by the number of seeds."""
TRAINERS = ("distill-weights", "prune-while-training", "learn-widths")
QUICK_STEPS, QUICK_SAMPLES, QUICK_TESTS = 3, 64, 40

Row = dict[str, Any]
Results = dict[str, Any]


def say(text: str) -> None:
    """Report progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# -- making --------------------------------------------------------------------------------


class Bench:
    """One model: makes its rows and judges them.

    Args:
        subject: what is asked for.
        options: of the command line.
    """

    def __init__(self, subject: Subject, options: argparse.Namespace) -> None:
        samples = min(subject.samples, QUICK_SAMPLES) if options.quick else subject.samples
        self.subject, self.options = subject, options
        self.workload = tested(workload_of(subject.name))
        workload = workload_of(subject.name)
        self.kitchen = Kitchen(workload, samples, options.folder)
        limit = QUICK_TESTS if options.quick else 0
        kept = options.folder / "training" / "quality"
        self.judge = Judge(
            self.workload, kept / f"{subject.name}-{len(self.workload.feeds())}", limit
        )
        self.before = self.judge.judge(self.workload.path, open_session(self.workload.path))

    def made(self, step: Step, seed: int) -> Made:
        """Compile a row's model, and before that what it is made of."""
        source = self.workload.path
        if step.source != FLOAT:
            before = self.made(self.step(step.source), seed)
            if before.path is None:
                return before
            source = before.path
        closed = ""
        if step.plan == "train":
            before = self.made(self.step("closed form"), self.options.seeds[0])
            if before.path is None:
                return before
            closed = before.report["recipe"]
        goal = self.kitchen.goal(self.subject.times) if self.subject.times else ""
        extra = str(self.kitchen.others) if step.others else ""
        order = Order(goal, self.kitchen.samples, self.training(step), closed, extra)
        return self.kitchen.make(source, PLANS[step.plan](order), seed)

    def training(self, step: Step) -> dict[str, Any]:
        """Return the options of a row's training."""
        if not step.share:
            return {}
        if self.options.quick:
            return {"steps": QUICK_STEPS, "rate": 1e-4}
        return {"minutes": round(step.share * self.options.minutes, 2)}

    def step(self, name: str) -> Step:
        """Return how a row is made."""
        return next(step for step in self.subject.steps if step.name == name)

    def row(self, step: Step, seed: int) -> Row:
        """Make a row, and judge it."""
        made = self.made(step, seed)
        if made.path is None:
            return {"failed": made.reason}
        return self.judged(made.path) | facts(made)

    def judged(self, path: Path) -> Row:
        """Return what a model is worth on samples that nothing was trained on."""
        found = self.judge.judge(path, open_session(path))
        lost = loss(self.before, found)
        row: Row = {
            "score": round(found.score, 3),
            "drop": round(lost.drop, 3),
            "interval": None if lost.interval is None else [round(b, 3) for b in lost.interval],
            "size_kb": round(path.stat().st_size / 1000, 1),
        }
        if found.agreement is not None:
            row["agreement"] = round(found.agreement, 4)
        if found.metric == "next_token":
            row["cross_entropy"] = cross_entropy(path, self.workload)
        return row


def facts(made: Made) -> Row:
    """Return what a compile took, and what its training said of itself."""
    row: Row = {
        "minutes": round(made.seconds / 60, 2),
        "cpu_minutes": round(made.cpu_seconds / 60, 2),
        "peak_mb": made.peak_mb,
    }
    ran = [p for p in made.report["passes"] if p["name"] in TRAINERS]
    if any(p["status"] == "rolled back" for p in ran):
        row["failed"] = "; ".join(p["reason"] or "" for p in ran)
    if ran:
        row["training"] = [
            {k: p[k] for k in ("status", "seconds", "metrics", "settled", "notes") if p.get(k)}
            for p in ran
        ]
    told = [f"{n['code']}: {n['message']}" for n in made.report.get("notices", ())]
    return row | ({"notices": told} if told else {})


def cross_entropy(path: Path, workload: Workload) -> float:
    """Return the mean cross-entropy of the next token, in nats."""
    sequences = np.concatenate([feed["input_ids"] for feed in workload.feeds()])
    logits = logits_of(open_session(path), sequences)
    return round(float(per_sequence(logits, logits, sequences)["cross_entropy"].mean()), 5)


# -- the record ----------------------------------------------------------------------------


def key_of(name: str, seed: int) -> str:
    """Return what a row is recorded under."""
    return f"{name} | seed {seed}"


def summary(subject: Subject, rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the mean of every row over its seeds, with intervals."""
    found: dict[str, Row] = {}
    for name in (FLOAT, *(step.name for step in subject.steps)):
        made = [r for k, r in rows.items() if k.startswith(f"{name} | ") and "failed" not in r]
        if made:
            found[name] = {"seeds": len(made), **dict(means(made)), "interval": made[0]["interval"]}
    for name, bars in verdicts(subject, found).items():
        found[name]["bars"] = bars
    return found


def means(rows: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    """Yield each figure's mean, and half of its interval over the seeds."""
    for figure in ("score", "drop", "agreement", "cross_entropy", "size_kb", "minutes", "peak_mb"):
        values = [row[figure] for row in rows if row.get(figure) is not None]
        if not values:
            continue
        yield figure, round(statistics.fmean(values), 5)
        if len(values) in STUDENT and figure in ("score", "agreement", "cross_entropy"):
            half = STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5
            yield f"{figure}_over_seeds", round(half, 5)


def load(path: Path) -> Results:
    """Return what was recorded so far."""
    if path.exists():
        found: Results = json.loads(path.read_text())
        return found
    return {"machine": describe(), "models": {}}


def record(path: Path, results: Results, subject: Subject) -> None:
    """Write everything, with the summary of one model renewed."""
    model = results["models"][subject.name]
    model["summary"] = summary(subject, model["rows"])
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def run(subject: Subject, results: Results, options: argparse.Namespace) -> None:
    """Make all rows of a model that are not recorded yet."""
    about = {"samples": subject.samples, "times": subject.times, "rows": {}}
    rows = results["models"].setdefault(subject.name, about)["rows"]
    steps = [s for s in subject.steps if not options.rows or s.name in options.rows]
    wanted = [(s, n) for s in steps for n in seeds_of(s, options) if is_open(s, n, rows, options)]
    if not wanted and key_of(FLOAT, 0) in rows:
        return
    bench = Bench(subject, options)
    rows[key_of(FLOAT, 0)] = bench.judged(bench.workload.path)
    for step, seed in wanted:
        name = key_of(step.name, seed)
        say(f"{subject.name}: {name}")
        rows[name] = bench.row(step, seed)
        say(f"  {json.dumps({k: v for k, v in rows[name].items() if k != 'training'})}")
        record(options.output, results, subject)


def seeds_of(step: Step, options: argparse.Namespace) -> Sequence[int]:
    """Return the seeds that a row is made for: the first where nothing is trained before it."""
    seeds: Sequence[int] = options.seeds
    return seeds if step.share or step.source != FLOAT else seeds[:1]


def is_open(step: Step, seed: int, rows: Mapping[str, Row], options: argparse.Namespace) -> bool:
    """Whether a row is still to be made."""
    known = rows.get(key_of(step.name, seed))
    return options.again or known is None or "failed" in known


def show(name: str, model: Row) -> None:
    """Print the table of a model."""
    print(f"\n{name}")
    print("| row | score | over seeds | lost | agreement | nats | minutes | MB | bars |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for row, found in model["summary"].items():
        bars = "; ".join(f"{text}: {holds}" for text, holds in found.get("bars", {}).items())
        cells = [
            *(found.get(k, "") for k in ("score", "score_over_seeds", "drop", "agreement")),
            *(found.get(k, "") for k in ("cross_entropy", "minutes", "peak_mb")),
        ]
        print(f"| {row} | {' | '.join(map(str, cells))} | {bars} |")


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rows", type=lambda t: t.split(";"), help="names, separated by ;")
    parser.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[1, 2, 3])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the longest training")
    parser.add_argument("--again", action="store_true", help="make what is recorded once more")
    parser.add_argument("--quick", action="store_true", help="three steps, to see that it runs")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="kept between runs")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.folder = (options.folder / "quick" if options.quick else options.folder).resolve()
    options.output = options.output or (
        options.folder / "training.json" if options.quick else RESULTS
    )
    known = {step.name for subject in SUBJECTS for step in subject.steps}
    if unknown := set(options.rows or ()) - known:
        parser.error(f"no rows: {'; '.join(sorted(unknown))}, of {'; '.join(sorted(known))}")
    if options.quick:
        options.seeds = options.seeds[:1]
    return options


def main() -> None:
    """Make, judge, record, print; exit 1 when a bar is missed."""
    options = parsed()
    results = load(options.output)
    for subject in SUBJECTS:
        if not options.models or subject.name in options.models:
            run(subject, results, options)
            show(subject.name, results["models"][subject.name])
    bars = [
        holds
        for model in results["models"].values()
        for row in model["summary"].values()
        for holds in row.get("bars", {}).values()
    ]
    print(f"{sum(bars)} of {len(bars)} bars")
    sys.exit(0 if all(bars) else 1)


if __name__ == "__main__":
    main()
