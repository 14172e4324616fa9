"""graphopt against every peer on the models of ../shared/data, interleaved, with accuracy.

All contenders of a model run in one process, one thread, without spinning, round by round on the
same evaluation feeds; onnxruntime is the only runtime in that process. Peers make their models in
virtual environments of their own (peer_models.py), with the same calibration samples; quality is
measured on other samples (peer_quality.py). A speed is the median over rounds of
latency(fp32) / latency(contender); the ratio of minima stands beside it. `fp32 again` is the
original a second time: how far it is from 1 is what the clock is worth.

    python benchmarks/peers.py [--all] [--repeat N] [--seconds 8] [--samples N] [MODEL...]

Without models: the ten of the reference table; --all: all 16. Only these two write results.
--samples N evaluates on fewer samples, for a first look.
Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import graphopt
from graphopt.errors import GraphOptError
from graphopt.runtime import RaceResult, Session, open_session, race
from machine import describe
from peer_models import PEERS, calibration_folder, default_folder, make, refusal
from peer_quality import ALLOWED_DROP, Judge, Quality, acceptable, as_good, loss
from workloads import Workload, workloads

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "peers.json"
TEN = (
    "cifar10_resnet20_jpegft_unfolded_bn",
    "cifar10_resnet56_unfolded_bn",
    "imagenet_proxyless_w025_r112_unfolded_bn",
    "kws_dscnn_bn",
    "mnist_cntk",
    "face_rfb320",
    "superres_espcn_x3_y",
    "stories260k_decoder",
    "dtln_model_1",
    "dtln_model_2",
)
OURS, BASE, CONTROL = "graphopt", "fp32", "fp32 again"
GEOMEAN_FP32, GEOMEAN_PEER, LOWEST_PEER = 1.75, 1.2, 0.97
DISTURBED = 0.05
"""A control that is further from 1 says that something else ran; such figures are worth nothing."""
LOWEST_FP32 = 0.98
"""Never slower than fp32, but for what the clock of a shared machine is worth."""


@dataclass
class Entry:
    """One model with everything that competes on it."""

    workload: Workload
    files: dict[str, Path]
    failed: dict[str, str]
    quality: dict[str, Quality]
    facts: dict[str, object]
    samples: dict[str, list[float]] = field(default_factory=dict)
    runs: list[RaceResult] = field(default_factory=list)

    @property
    def result(self) -> RaceResult:
        """All rounds of all runs together."""
        return RaceResult({}, {name: tuple(s) for name, s in self.samples.items()})


def prepare(workload: Workload, options: argparse.Namespace, scratch: Path) -> Entry:
    """Compile, make the peers' models, and measure the quality of all of them."""
    folder = options.folder.resolve()
    data = workload.write_calibration(calibration_folder(folder))
    compiled = graphopt.compile(workload.path, target="host", data=data, recipe=options.recipe)
    ours = scratch / f"{workload.name}.onnx"
    compiled.save(ours)
    files = {BASE: workload.path, CONTROL: workload.path, OURS: ours}
    made = {peer.name: make(peer, workload, data, folder) for peer in PEERS}
    files |= {name: one.path for name, one in made.items() if one.path is not None}
    failed = {name: one.reason for name, one in made.items() if one.path is None}
    quality: dict[str, Quality] = {}
    judge = Judge(workload, folder / "quality", options.samples)
    for name, path in files.items():
        try:
            quality[name] = judge.judge(path, open_session(path))
        except GraphOptError as error:
            failed[name] = refusal(error)
    facts = {
        "placement": next((c.placement for c in compiled.report.candidates if c.chosen), "float"),
        "integer": sum(o.execution == "integer" for o in compiled.report.operators),
        "heavy": len(compiled.report.operators),
        "compile_seconds": round(compiled.report.seconds, 1),
    }
    return Entry(workload, {n: files[n] for n in quality}, failed, quality, facts)


def run(entry: Entry, seconds: float) -> None:
    """Race all contenders of a model once, with sessions opened for this race."""
    sessions: dict[str, Session] = {n: open_session(p) for n, p in entry.files.items()}
    feeds = entry.workload.feeds()[:8]
    result = race(sessions, feeds, seconds=seconds, min_rounds=15, max_rounds=1000)
    entry.runs.append(result)
    for name, samples in result.samples.items():
        entry.samples.setdefault(name, []).extend(samples)


def contender(entry: Entry, name: str) -> dict[str, object]:
    """Return speed, size and quality of one contender."""
    quality, before = entry.quality[name], entry.quality[BASE]
    lost = loss(before, quality)
    row: dict[str, object] = {
        "speed": round(entry.result.speedup(name, BASE), 3),
        "speed_minima": round(entry.result.speedup_of_minima(name, BASE), 3),
        "size_kb": round(entry.files[name].stat().st_size / 1000, 1),
        quality.metric: round(quality.score, 3),
        "snr_db": round(quality.snr_db, 1) if math.isfinite(quality.snr_db) else None,
    }
    if quality.metric != "snr_db":
        row["drop"] = round(lost.drop, 3)
    if lost.interval is not None:
        row["interval"] = [round(bound, 3) for bound in lost.interval]
    if quality.agreement is not None:
        row["agreement"] = round(quality.agreement, 4)
    if name not in (OURS, BASE, CONTROL):
        row["acceptable"] = acceptable(before, quality)
        row["as_accurate_as_graphopt"] = as_good(quality, entry.quality[OURS])
    return row


def against(entry: Entry, rows: dict[str, dict[str, object]], rule: str) -> dict[str, object]:
    """Compare graphopt with the fastest of the peers that fulfil ``rule``."""
    names = [name for name, row in rows.items() if row.get(rule)]
    if not names:
        return {"peer": None}
    result = entry.result
    best = max(names, key=lambda name: result.speedup(name, BASE))
    return {
        "peer": best,
        "peer_speed": rows[best]["speed"],
        "ratio": round(result.speedup(OURS, best), 3),
        "ratio_minima": round(result.speedup_of_minima(OURS, best), 3),
        "ratio_of_each_run": [round(r.speedup(OURS, best), 3) for r in entry.runs],
        "graphopt_at_least_as_accurate": as_good(entry.quality[OURS], entry.quality[best]),
    }


def report(entry: Entry) -> dict[str, object]:
    """Return everything about one model."""
    rows = {name: contender(entry, name) for name in entry.files}
    allowed = ALLOWED_DROP.get(entry.quality[OURS].metric, math.inf)
    lost = loss(entry.quality[BASE], entry.quality[OURS])
    return {
        "model": entry.workload.name,
        "fp32_ms": round(statistics.median(entry.samples[BASE]), 4),
        **entry.facts,
        "rounds": len(entry.samples[BASE]),
        "disturbed": abs(entry.result.speedup(CONTROL, BASE) - 1) > DISTURBED,
        "speed": rows[OURS]["speed"],
        "speed_of_each_run": [round(r.speedup(OURS, BASE), 3) for r in entry.runs],
        # As in accuracy.py, which judges on all samples: more than is allowed, and not by chance.
        "accuracy_holds": lost.drop <= allowed or (lost.interval or (0.0, 0.0))[0] <= 0.0,
        "best_acceptable": against(entry, rows, "acceptable"),
        "best_as_accurate": against(entry, rows, "as_accurate_as_graphopt"),
        "contenders": rows,
        "failed": entry.failed,
    }


def geometric_mean(values: list[float]) -> float:
    """Return exp(mean(log(values))); 0 without values."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else 0.0


def summarise(rows: list[dict[str, object]]) -> dict[str, object]:
    """Return the means and the bars."""
    ours = [_number(row, "speed") for row in rows]
    found: dict[str, object] = {
        "models": len(rows),
        "disturbed": [row["model"] for row in rows if row.get("disturbed")],
        "geomean_against_fp32": round(geometric_mean(ours), 3),
        "lowest_against_fp32": min(ours),
    }
    for rule in ("best_acceptable", "best_as_accurate"):
        best = [row[rule] for row in rows]
        ratios = [float(b["ratio"]) for b in best if isinstance(b, dict) and b["peer"]]
        found[f"geomean_against_{rule}"] = round(geometric_mean(ratios), 3)
        found[f"lowest_against_{rule}"] = min(ratios, default=0.0)
    found["geomean_of_best_acceptable"] = round(
        geometric_mean([_number(row["best_acceptable"], "peer_speed") for row in rows]), 3
    )
    found["bars"] = {
        f"geomean against fp32 >= {GEOMEAN_FP32}": geometric_mean(ours) >= GEOMEAN_FP32,
        f"geomean against the best peer >= {GEOMEAN_PEER}": _number(
            found, "geomean_against_best_acceptable"
        )
        >= GEOMEAN_PEER,
        f"never below {LOWEST_PEER} of the best peer": _number(
            found, "lowest_against_best_acceptable"
        )
        >= LOWEST_PEER,
        f"never slower than fp32 (>= {LOWEST_FP32})": min(ours) >= LOWEST_FP32,
        "accuracy within what is allowed": all(row["accuracy_holds"] for row in rows),
    }
    return found


def _number(row: object, key: str) -> float:
    assert isinstance(row, dict)
    return float(row[key])


def line(row: dict[str, object]) -> str:
    """Return one line of the table."""
    best = row["best_acceptable"]
    contenders = row["contenders"]
    assert isinstance(best, dict)
    assert isinstance(contenders, dict)
    ours = contenders[OURS]
    quality = f"drop {ours['drop']}" if "drop" in ours else f"SNR {ours['snr_db']} dB"
    if "interval" in ours:
        quality += f" {ours['interval']}"
    return (
        f"| {row['model']} | {row['fp32_ms']} | {ours['speed']} ({ours['speed_minima']}) "
        f"| {best['peer']} {best.get('peer_speed', '')} "
        f"| {best.get('ratio', '')} ({best.get('ratio_minima', '')}) | {quality} "
        f"| {contenders[CONTROL]['speed']} |"
    )


def show(rows: list[dict[str, object]]) -> None:
    """Print every contender, then the table."""
    for row in rows:
        contenders, failed = row["contenders"], row["failed"]
        assert isinstance(contenders, dict)
        assert isinstance(failed, dict)
        print(f"\n{row['model']}: {row['placement']}, {row['integer']} of {row['heavy']} integer")
        for name, one in contenders.items():
            print(f"  {name:20} {json.dumps(one)}")
        for name, reason in failed.items():
            print(f"  {name:20} failed: {reason}")
    print("\n| model | fp32 ms | graphopt (minima) | best peer | ratio (minima) | lost | control |")
    print("|---|--:|--:|---|--:|---|--:|")
    for row in rows:
        print(line(row))


def main() -> None:
    """Prepare, race, print, write; exit 1 when a bar of the project is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--all", action="store_true", help="all 16 models, not the ten")
    parser.add_argument("--repeat", type=int, default=1, help="races per model")
    parser.add_argument("--seconds", type=float, default=8.0, help="per race")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="kept between runs")
    parser.add_argument("--samples", type=int, default=0, help="to evaluate on; 0 for all")
    parser.add_argument("--recipe", default=None, help="recipe of graphopt; its default without")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    machine = describe()
    chosen = options.models or ([] if options.all else list(TEN))
    with tempfile.TemporaryDirectory() as name:
        entries = []
        for workload in workloads(chosen):
            entries.append(prepare(workload, options, Path(name)))
            print(f"prepared {workload.name}: {entries[-1].facts}", flush=True)
        for number in range(options.repeat):
            for entry in entries:
                run(entry, options.seconds)
            print(f"race {number + 1} of {options.repeat} done", flush=True)
        rows = [report(entry) for entry in entries]
    show(rows)
    # The bars are for the ten of the reference table; the others are variants of them.
    ten = [row for row in rows if row["model"] in TEN]
    summary = summarise(ten or rows)
    summary["all"] = summarise(rows) if len(ten) < len(rows) else None
    print(json.dumps(summary, indent=1))
    if not options.models:
        samples = options.samples or "all"
        content = {"machine": machine, "evaluated_on": samples, "summary": summary, "rows": rows}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    bars = summary["bars"]
    assert isinstance(bars, dict)
    sys.exit(0 if all(bars.values()) else 1)


if __name__ == "__main__":
    main()
