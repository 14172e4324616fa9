"""Pruning without labels or training: accuracy, time and memory, beside other ways to prune.

Per model: what graphopt makes of each goal, float and with int8 on top; one share of all channels
inside blocks, chosen by magnitude, Wanda or FPGM without fitting what is left, and by graphopt's
default with it; onnxsim's structured pruning and Torch-Pruning's magnitude pruner. The rivals are
made at the multiply-accumulates that are asked for. At most 1,000 unlabelled images are fitted to
and chosen by; top-1 is on the whole dev test, which nothing else sees. All models of one subject
run in one race: one thread, no spinning, shuffled order in every round, sessions opened anew for
every repetition. A speed is the median over rounds of latency(fp32) / latency(model); `fp32 again`
is what the clock is worth.

    python benchmarks/pruning.py [--goals macs=1.5,latency=1.3] [--seconds 20] [--repeat 5]
        [--folder DIR] [--output FILE] [--without-rivals] [MODEL...]

Exit status 1 when a bar of pruning_bars.py is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import GraphOptError
from graphopt.runtime import RaceResult, open_session, race
from machine import describe
from peer_models import default_folder, refusal
from peer_quality import Judge, Quality, loss
from pruning_bars import SUBJECTS, Goal, Subject, aims, integer_verdict, verdicts
from pruning_contenders import (
    CRITERIA,
    REFUSED_ABOVE,
    Made,
    Workshop,
    estimated_ms,
    macs_of,
    uniform_widths,
)
from pruning_peers import PEERS, sweep
from workloads import workloads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workloads import Workload

RESULTS = Path(__file__).parent / "results" / "pruning.json"
BASE, CONTROL, INTEGER = "fp32", "fp32 again", "int8"
DISTURBED = 0.05
"""A control that is further from 1 says that something else ran; such figures are worth nothing."""

Row = dict[str, Any]


@dataclass
class Field:
    """Everything that competes on one model.

    Args:
        subject: what is asked for.
        files: the models, by contender.
        facts: what is known of each before it is judged.
        failed: why a contender is not there.
    """

    subject: Subject
    files: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Row] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, path: Path | None, reason: str = "", **facts: Any) -> None:
        """Enter a contender, or why it cannot come."""
        if path is None:
            self.failed[name] = reason
        else:
            self.files[name] = path
            self.facts[name] = facts
        say(f"  {name:40} {reason or facts}")


def say(text: str) -> None:
    """Report progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# -- who competes --------------------------------------------------------------------------


def enter(subject: Subject, workload: Workload, options: argparse.Namespace) -> Field:
    """Make all models of a subject, or find them where an earlier run has left them."""
    say(subject.name)
    shop = Workshop(subject, workload, options.folder / "pruning")
    found = Field(subject)
    found.add(BASE, workload.path, kind="original")
    found.add(CONTROL, workload.path, kind="original")
    made = shop.quantized(workload.path)
    found.add(INTEGER, made.path, made.reason, kind="int8 alone", **cost(made))
    for goal in subject.goals:
        enter_ours(found, shop, goal)
    if not options.without_rivals:
        for goal in (g for g in subject.goals if g.metric == "macs"):
            enter_unfitted(found, shop, goal)
        enter_peers(found, shop, options.folder)
    return found


def enter_ours(found: Field, shop: Workshop, goal: Goal) -> None:
    """Enter what graphopt makes of a goal, and that with int8 on top."""
    made = shop.pruned(goal)
    name = f"graphopt {goal.name}"
    if made.path is None:
        found.add(name, None, made.reason)
        return
    found.add(name, made.path, kind="graphopt", goal=goal.name, **cost(made), **promised(made))
    integer = shop.quantized(made.path)
    found.add(
        f"{name} + int8",
        integer.path,
        integer.reason,
        kind="graphopt int8",
        goal=goal.name,
        of=name,
        **cost(integer),
    )


def enter_unfitted(found: Field, shop: Workshop, goal: Goal) -> None:
    """Enter our own engine with one share of all channels, by criteria, not fitted; and fitted."""
    limit = macs_of(shop.workload.path) / goal.times
    widths = uniform_widths(shop.workload, limit)
    ways = [(criterion, False) for criterion in CRITERIA] + [("block-obs", True)]
    for criterion, rebuild in ways:
        made = shop.uniform(widths, criterion, rebuild)
        name = f"{goal.name} uniform {criterion}" + ", fitted" * rebuild
        kind = "uniform fitted" if rebuild else "uniform"
        found.add(name, made.path, made.reason, kind=kind, goal=goal.name, **cost(made))


def enter_peers(found: Field, shop: Workshop, folder: Path) -> None:
    """Enter every other tool at the multiply-accumulates of each goal."""
    original = macs_of(shop.workload.path)
    for peer in PEERS:
        made = sweep(peer, shop.workload, shop.data, folder)
        for goal in (g for g in found.subject.goals if g.metric == "macs"):
            path = made.within(original / goal.times)
            reason = made.reason or "none of its models has so few multiply-accumulates"
            name = f"{goal.name} {peer.name}"
            found.add(name, path, reason * (path is None), kind=peer.name, goal=goal.name)


def cost(made: Made) -> Row:
    """Return what a compile took, and what it said."""
    notices = [f"{n['code']}: {n['message']}" for n in made.report.get("notices", ())]
    row: Row = {
        "seconds": made.seconds,
        "cpu_seconds": made.cpu_seconds,
        "peak_mb": made.peak_mb,
        "scores_kept": made.scores_kept,
    }
    return row | ({"notices": notices} if notices else {})


def promised(made: Made) -> Row:
    """Return what the search said of its choice."""
    record = made.report.get("pruning") or {}
    if not record:
        return {}
    divergence = record.get("divergence")
    row: Row = {
        "asked": record["goal"],
        "predicted_divergence": round(record["predicted_divergence"], 4),
        "divergence": None if divergence is None else round(divergence, 4),
        "refused_by_default": divergence is not None and divergence > REFUSED_ABOVE,
        "options_tried": record["options"],
        "removed": [
            f"{site['name']} {site['before'] or ''} -> {site['after']}" for site in record["sites"]
        ],
    }
    if record["metric"] == "latency":
        row["predicted_speed"] = round(record["before"] / record["predicted_after"], 3)
        row["speed_in_search"] = round(record["before"] / record["after"], 3)
    return row


# -- what they are worth -------------------------------------------------------------------


def judged(found: Field, workload: Workload, folder: Path) -> dict[str, Quality]:
    """Return the quality of every contender; those that do not run move to the failed."""
    judge = Judge(workload, folder / "pruning" / "quality")
    quality: dict[str, Quality] = {}
    for name, path in list(found.files.items()):
        try:
            quality[name] = judge.judge(path, open_session(path))
        except GraphOptError as error:
            found.failed[name] = refusal(error)
            del found.files[name]
            continue
        say(f"  {name:40} {quality[name].score:.2f}")
    return quality


def raced(found: Field, workload: Workload, seconds: float, repeat: int) -> RaceResult:
    """Race all contenders of a model, with sessions opened anew for every race.

    Where a session's memory happens to lie can be worth a fifth of its time for as long as it is
    open; so they are opened in another order every time, and all rounds count together.
    """
    names = list(found.files)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(repeat):
        say(f"  race {number + 1} of {repeat}: {len(names)} models, {seconds:g} s")
        random.Random(number).shuffle(names)
        sessions = {name: open_session(found.files[name]) for name in names}
        result = race(
            sessions, workload.feeds()[:8], seconds=seconds, min_rounds=25, max_rounds=2000
        )
        for name, times in result.samples.items():
            samples[name].extend(times)
    return RaceResult({}, {name: tuple(times) for name, times in samples.items()})


def rows_of(found: Field, quality: Mapping[str, Quality], result: RaceResult) -> dict[str, Row]:
    """Return every contender's figures."""
    macs, estimate = macs_of(found.files[BASE]), estimated_ms(found.files[BASE])
    rows: dict[str, Row] = {}
    for name, path in found.files.items():
        facts = found.facts[name]
        lost = loss(quality[BASE], quality[name])
        row: Row = {
            "top1": round(quality[name].score, 3),
            "drop": round(lost.drop, 3),
            "interval": rounded(lost.interval),
            "agreement": round(quality[name].agreement or 0.0, 4),
            "speed": round(result.speedup(name, BASE), 3),
            "speed_minima": round(result.speedup_of_minima(name, BASE), 3),
            "size_kb": round(path.stat().st_size / 1000, 1),
        }
        if "int8" not in facts["kind"]:
            row["macs_ratio"] = round(macs / macs_of(path), 3)
        if facts["kind"] == "graphopt":
            row["estimated_speed"] = round(estimate / estimated_ms(path), 3)
        if facts["kind"] == "graphopt int8":
            more = loss(quality[facts["of"]], quality[name])
            row["drop_on_pruned"] = round(more.drop, 3)
            row["interval_on_pruned"] = rounded(more.interval)
            if INTEGER in found.files:
                row["speed_over_int8"] = round(result.speedup(name, INTEGER), 3)
        rows[name] = row | facts
    return rows


def rounded(interval: tuple[float, float] | None) -> list[float] | None:
    """Return an interval for the record."""
    return None if interval is None else [round(bound, 3) for bound in interval]


def bars_of(subject: Subject, rows: Mapping[str, Row]) -> tuple[dict[str, bool], dict[str, bool]]:
    """Return the bars of a model and its aims, by what they say."""
    bars: dict[str, bool] = {}
    aimed: dict[str, bool] = {}
    for goal in subject.goals:
        row = rows.get(f"graphopt {goal.name}")
        bars |= verdicts(goal, row, rows.get(f"graphopt {goal.name} + int8"))
        aimed |= aims(goal, row)
    integers = {n: r for n, r in rows.items() if "speed_over_int8" in r}
    return bars | integer_verdict(subject, integers), aimed


def measured(subject: Subject, workload: Workload, options: argparse.Namespace) -> Row:
    """Return everything about one model."""
    found = enter(subject, workload, options)
    quality = judged(found, workload, options.folder)
    result = raced(found, workload, options.seconds, options.repeat)
    rows = rows_of(found, quality, result)
    bars, aimed = bars_of(subject, rows)
    return {
        "machine": describe(),
        "images": subject.images,
        "evaluated_on": len(quality[BASE].samples),
        "fp32_ms": round(statistics.median(result.samples[BASE]), 4),
        "rounds": len(result.samples[BASE]),
        "disturbed": abs(rows[CONTROL]["speed"] - 1) > DISTURBED,
        "bars": bars,
        "aims": aimed,
        "contenders": rows,
        "failed": found.failed,
    }


# -- the tables ----------------------------------------------------------------------------


def show(name: str, record: Row) -> None:
    """Print the table of a model, and what was missed."""
    print(f"\n{name}: fp32 {record['fp32_ms']} ms" + ", DISTURBED" * record["disturbed"])
    print("| model | top-1 | lost (95 %) | MACs | speed (minima) | predicted KL, found | s, MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for contender, row in record["contenders"].items():
        print(line(contender, row))
    for contender, reason in record["failed"].items():
        print(f"  {contender}: {reason}")
    for kind in ("bars", "aims"):
        missed = [text for text, holds in record[kind].items() if not holds]
        print(
            f"{kind}: {len(record[kind]) - len(missed)} of {len(record[kind])}", *missed, sep="\n  "
        )


def line(contender: str, row: Row) -> str:
    """Return one line of the table."""
    lost = f"{row['drop']} {row['interval']}"
    macs = f"{row['macs_ratio']}x" if "macs_ratio" in row else ""
    speed = f"{row['speed']} ({row['speed_minima']})"
    if "speed_over_int8" in row:
        speed += f", {row['speed_over_int8']} over int8"
    for kind in ("predicted", "estimated"):
        if f"{kind}_speed" in row:
            speed += f", {kind} {row[f'{kind}_speed']}"
    divergence = f"{row['predicted_divergence']}, {row['divergence']}" if "asked" in row else ""
    spent = f"{row['seconds']}, {row['peak_mb']}" if "seconds" in row else ""
    return f"| {contender} | {row['top1']} | {lost} | {macs} | {speed} | {divergence} | {spent} |"


def chosen(options: argparse.Namespace) -> list[Subject]:
    """Return the subjects that the command line asks for, with their goals."""
    wanted = {goal.replace("=", " ") + "x" for goal in options.goals.split(",") if goal}
    subjects = [s for s in SUBJECTS if not options.models or s.name in options.models]
    return [
        Subject(
            s.name,
            s.images,
            tuple(g for g in s.goals if not wanted or g.name in wanted),
            None if wanted else s.integer,
        )
        for s in subjects
    ]


def main() -> None:
    """Make, judge, race, print, write; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--goals", default="", help="such as macs=1.5,latency=1.3; all without")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one race")
    parser.add_argument("--repeat", type=int, default=5, help="races per model")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="kept between runs")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--without-rivals", action="store_true", help="only graphopt's searches")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    records: dict[str, Row] = {}
    if options.output.exists():
        records = json.loads(options.output.read_text())["models"]
    for subject in chosen(options):
        (workload,) = workloads([subject.name])
        records[subject.name] = measured(subject, workload, options)
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(json.dumps({"models": records}, indent=1) + "\n")
        show(subject.name, records[subject.name])
    run = [records[subject.name] for subject in chosen(options)]
    sys.exit(0 if all(all(record["bars"].values()) for record in run) else 1)


if __name__ == "__main__":
    main()
