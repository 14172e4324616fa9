"""Graph optimisers against each other on 171 models: nodes, outputs, kernels, time, memory.

Every tool runs from its command line in a process of its own, with its defaults (graph_tools.py):
`graphopt compile --recipe lossless` with its verification and its measurement of latency, and once
more with --no-measure; onnxsim, OnnxSlim and onnxoptimizer, none of which verifies by default.
Recorded for each model and tool:

- nodes, those of inner graphs and called functions included, without Constant, which are data;
- outputs against the original's without the runtime's optimiser, on seeded inputs at two sizes
  (graph_judge.py). A tool is wrong above 1e-5 relative where that is also more than 4 times what
  rounding does: what the runtime's own optimiser moves, or the last bits of all weights;
- fused kernels of the optimised graph by what they compute, lost where fewer of a kind are left
  and no fewer kernels run;
- seconds from start to exit, imports included, and the largest resident set, the medians of
  --rounds, all tools of a model in turn; without --rounds those of one run beside other work,
  where processor time is compared instead;
- with --race, speed against the original, all models in one process, interleaved.

    python benchmarks/graph_optimisers.py [--rounds 3] [--race 2] [--prefix COMMAND] [--export]
        [--kept] [--smallest MB] [--largest MB] [--report FILE] [--write] [--folder DIR]
        [MODEL|FAMILY...]

Results are kept in DIR, so that a run can be interrupted; models that are not exported yet are
listed as outstanding unless --export is given. Exit status 1 when a bar of graph_bars.py is missed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torchvision_models
from graph_bars import (
    BARS,
    best_rival,
    cost,
    excess,
    is_broken,
    is_wrong,
    lost,
    misses,
    rounding,
    summary,
)
from graph_corpus import Entry, corpus
from graph_results import Case, NotKeptError
from graph_tools import OURS, PEERS, TOOLS, Tool
from machine import describe
from peer_models import default_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results" / "graph_optimisers.json"
Row = dict[str, Any]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL|FAMILY")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--race", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--prefix", default="", help="command that timed processes run under")
    parser.add_argument("--kept", action="store_true", help="measure nothing, tell what is known")
    parser.add_argument("--export", action="store_true", help="export models that are missing")
    parser.add_argument("--smallest", type=float, default=0.0, metavar="MB")
    parser.add_argument("--largest", type=float, default=1e9, metavar="MB")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--report", type=Path, help="also write the table to a file")
    parser.add_argument("--write", action="store_true", help="write results/graph_optimisers.json")
    parser.add_argument("--folder", type=Path, default=default_folder())
    return parser.parse_args()


def wanted(options: argparse.Namespace) -> list[Entry]:
    """Return the models that the command line asks for."""
    entries = list(corpus())
    if not options.models:
        return entries
    return [e for e in entries if e.name in options.models or e.family in options.models]


def row_of(entry: Entry, path: Path, tools: Sequence[Tool], options: argparse.Namespace) -> Row:
    """Return all that is known of a model, measured now where it is not."""
    home, prefix = options.folder / "graphs", tuple(shlex.split(options.prefix))
    case = Case(entry.name, path, home, prefix, options.kept)
    original = case.original()
    row: Row = {"family": entry.family, "original": original, "tools": {}, "timed": {}, "race": {}}
    if "refused" in original:
        return row
    row["tools"] = {tool.name: case.made(tool) for tool in tools}
    row["timed"] = case.timed(tools, options.rounds)
    row["race"] = case.raced(tools, options.race)
    return row


def line(name: str, row: Row) -> str:
    """Return one line of the printed table."""
    if "refused" in row["original"]:
        return f"{name:32} not run by onnxruntime: {row['original']['refused'][:80]}"
    cells = [f"{name:32}", f"{row['original']['nodes']:6}"]
    missing = {"failed": "not run"}
    cells += [cell(row["tools"].get(t, missing), row["original"]) for t in (OURS, *PEERS)]
    for what, form in (("wall_s" if row["timed"] else "cpu_s", "6.1f"), ("rss_mb", "6.0f")):
        for tool in (OURS, "onnxsim", "onnxslim"):
            found = cost(row, tool, what)
            cells.append(f"{found:{form}}" if found else f"{'-':>6}")
    race = row["race"].get(OURS)
    cells.append(f"{race['speed']:6.3f}" if race else f"{'-':>6}")
    return " ".join([*cells, ", ".join(misses(row))])


def cell(made: Row, original: Row) -> str:
    """Return a tool's count of nodes, and what is wrong with its model."""
    if "failed" in made:
        return f"{'failed':>8}"
    flags = "x" if is_broken(made) else "!" if is_wrong(made, original) else ""
    return f"{made['nodes']:>6}{flags}{'-' if lost(made, original) else ''}".ljust(8)


def details(name: str, row: Row) -> str:
    """Return, below the table, what there is to do on a model, or nothing."""
    found = misses(row)
    told = [f"{name}: {', '.join(found)}"]
    ours = row["tools"].get(OURS, {})
    if "broken" in found:
        told.append(f"    {ours.get('failed') or ours.get('refused')}")
    if "wrong" in found:
        told.append(
            f"    error {ours['error']:.2g}, rounding explains {rounding(row['original']):.2g}"
        )
    if "nodes" in found:
        best = best_rival(row)
        assert best is not None
        apart = " ".join(f"{op}{n:+d}" for op, n in excess(row).items())
        told.append(f"    {ours['nodes']} nodes, {best[0]} {best[1]}: {apart}")
    if "kernels" in found:
        told.append(f"    lost {lost(ours, row['original'])}")
    for peer in PEERS:
        made = row["tools"].get(peer, {})
        if is_broken(made):
            told.append(f"    {peer}: {made.get('failed') or made.get('refused')}")
        elif is_wrong(made, row["original"]):
            told.append(f"    {peer} is wrong: {made['error']:.2g}")
    return "\n".join(told) if found or len(told) > 1 else ""


HEADER = (
    f"{'model':32} {'before':>6} {'graphopt':8} {'onnxsim':8} {'onnxslim':8} {'onnxopt.':8}"
    f" {'s':>6} {'sim':>6} {'slim':>6} {'MB':>6} {'sim':>6} {'slim':>6} {'speed':>6}\n"
    "(nodes: ! wrong, x does not run, - fused kernels lost; processor time unless timed)"
)


def main() -> int:
    """Measure, print the table, write the results."""
    options = arguments()
    tools = [Tool(name, options.folder) for name in options.tools.split(",")]
    rows: dict[str, Row] = {}
    outstanding: dict[str, str] = {}
    print(HEADER, flush=True)
    for entry in wanted(options):
        home = torchvision_models.default_folder()
        path, reason = entry.file(home), "not exported yet"
        if options.export:
            path, reason = entry.export(home)
        if not path.exists():
            outstanding[entry.name] = reason
            continue
        if not options.smallest <= path.stat().st_size / 1e6 <= options.largest:
            outstanding[entry.name] = "left out by its size"
            continue
        try:
            rows[entry.name] = row_of(entry, path, tools, options)
        except NotKeptError:
            outstanding[entry.name] = "not measured"
            continue
        print(line(entry.name, rows[entry.name]), flush=True)
    return finish(rows, outstanding, options)


def finish(rows: dict[str, Row], outstanding: dict[str, str], options: argparse.Namespace) -> int:
    """Print and write what was found; return the exit status."""
    found = summary(rows)
    print(json.dumps(found, indent=1))
    if options.report:
        told = [HEADER, *(line(n, r) for n, r in rows.items()), ""]
        told += [d for n, r in rows.items() if (d := details(n, r))]
        told += ["", json.dumps(found, indent=1), "", f"outstanding: {json.dumps(outstanding)}"]
        options.report.write_text("\n".join(told) + "\n")
    if options.write:
        made = {"machine": describe(), "summary": found, "outstanding": outstanding}
        made["rows"] = {name: compact(row) for name, row in rows.items()}
        RESULTS.write_text(json.dumps(made, indent=1) + "\n")
    return 1 if any(found[bar] for bar in BARS) else 0


def compact(row: Row) -> Row:
    """Return what of a model goes into the results."""
    left_out = {"key", "operators", "run"}
    made: Row = {"family": row["family"], "misses": misses(row), "race": row["race"]}
    made["original"] = {k: v for k, v in row["original"].items() if k not in left_out}
    for name, tool in row["tools"].items():
        costs = {w: c for w in ("wall_s", "cpu_s", "rss_mb") if (c := cost(row, name, w))}
        made[name] = {k: v for k, v in tool.items() if k not in left_out} | costs
        made[name]["rounds"] = len(row["timed"].get(name, ()))
        if name == OURS:
            made[name]["excess"] = excess(row) if "nodes" in made["misses"] else {}
    return made


if __name__ == "__main__":
    sys.exit(main())
