"""Write the measured tables of README.md and of pages in docs/explanation from results/*.json.

Usage: python benchmarks/readme_table.py [--check]
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from smallest_table import smallest_table
from training_tables import training_tables

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
PRUNING = HERE.parent / "docs" / "explanation" / "pruning.md"
GRAPHS = HERE.parent / "docs" / "explanation" / "graph-optimisation.md"
SEARCHES = HERE.parent / "docs" / "explanation" / "joint-search.md"
TRAINING = HERE.parent / "docs" / "explanation" / "training-recovery.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
METRICS = {
    "top1": ("top-1", "%"),
    "next_token": ("next token", "%"),
    "psnr_db": ("PSNR", "dB"),
    "si_sdr_db": ("SI-SDR", "dB"),
}


def read(name: str) -> dict[str, Any]:
    """Return one result file."""
    return dict(json.loads((HERE / "results" / f"{name}.json").read_text()))


def quality(model: str, scores: list[dict[str, Any]]) -> str:
    """Say what a compiled model is worth on the host."""
    wanted = "dtln (both models)" if model.startswith("dtln") else model
    row = next(r for r in scores if r["model"] == wanted and r["target"] == "host")
    if "metric" not in row:
        return "exact" if row["snr_db"] > 100 else f"SNR {row['snr_db']:.1f} dB"
    name, unit = METRICS[row["metric"]]
    text = f"{name} {row['before']:.2f} to {row['after']:.2f} {unit}"
    return text + (" (the pair)" if wanted != model else "")


def line(row: dict[str, Any], scores: list[dict[str, Any]]) -> str:
    """Return one line of the table."""
    ours, original = row["contenders"]["graphopt"], row["contenders"]["fp32"]
    best = row["best_acceptable"]
    return (
        f"| {row['model']} | {row['fp32_ms']:.2f} ms | {ours['speed']:.2f} x "
        f"| {best['peer']} {best['peer_speed']:.2f} x | {best['ratio']:.2f} x "
        f"| {ours['size_kb'] / original['size_kb']:.2f} x | {quality(row['model'], scores)} "
        f"| {row['compile_seconds']:.1f} s |"
    )


def table() -> str:
    """Return the Markdown between the markers."""
    peers, scores = read("peers"), read("accuracy")["rows"]
    lines = [
        "| model | fp32 | graphopt | best other tool | against it | size | quality | compile |",
        "|---|--:|--:|---|--:|--:|---|--:|",
        *(line(row, scores) for row in peers["rows"]),
    ]
    summary, machine = peers["summary"], peers["machine"]
    lines += [
        "",
        f"Measured on {machine['date']}: {machine['processor']}, "
        f"{'with' if machine['avx512_vnni'] else 'without'} AVX-512 VNNI, "
        f"{machine['cores']} shared cores, one thread, batch 1, "
        f"onnxruntime {machine['versions']['onnxruntime']}; all contenders of a model interleaved "
        "in one process, medians of ratios to fp32. The best other tool is the fastest of ten "
        "configurations of onnxruntime's quantizers, NNCF, onnxsim, onnxslim and ONNX Neural "
        "Compressor that loses at most 1 point, or 0.3 dB, or has 20 dB against fp32: a different "
        "one for each model. In the geometric mean graphopt is at "
        f"{summary['geomean_against_fp32']:.2f} x fp32 and at "
        f"{summary['geomean_against_best_acceptable']:.2f} x the best other tool of each model; "
        "trying all of them and keeping the best gives "
        f"{summary['geomean_of_best_acceptable']:.2f} x. Quality is on all labelled data that was "
        "not calibrated on, or SNR against the original where there are no labels; it is from "
        "compiles of its own, and two compiles for a host may choose different placements. "
        "Scripts: `benchmarks/peers.py`, `benchmarks/accuracy.py`.",
    ]
    return "\n".join(lines)


def pruned_line(name: str, found: dict[str, Any], base: dict[str, Any]) -> str:
    """Return one line of the table of a pruned model."""
    macs = f"{found['macs_ratio']:.2f} x fewer" if found.get("macs_ratio", 1.0) > 1 else ""
    over = f"{found['speed'] / base['speed']:.2f} x" if name.endswith("int8") else ""
    speed = f"{found['speed']:.2f} x ({found['speed_minima']:.2f})"
    return f"| {name} | {found['top1']:.1f} % | {macs} | {speed} | {over} |"


def pruned_table() -> str:
    """Return the Markdown of all pruned models."""
    parts = []
    for model, result in read("pruning")["models"].items():
        contenders, machine = result["contenders"], result["machine"]
        shown = {n: c for n, c in contenders.items() if n in {"fp32", "int8"} or "graphopt" in n}
        rivals = {n: c for n, c in contenders.items() if "1.5x" in n and "graphopt" not in n}
        parts += [
            f"**{model}**: {result['evaluated_on']} test images, {result['images']} unlabelled "
            f"ones to fit and choose by. Measured on {machine['date']}, {machine['processor']}, "
            f"onnxruntime {machine['versions']['onnxruntime']}, one thread, all interleaved"
            f"{'; the machine was disturbed' if result['disturbed'] else ''}. Speeds are medians "
            "of ratios to fp32, in brackets ratios of the fastest rounds: where they differ, load "
            "disturbed the race, and the latter are nearer to the truth.",
            "",
            "| model | top-1 | multiply-accumulates | speed | over int8 alone |",
            "|---|--:|--:|--:|--:|",
            *(pruned_line(n, c, contenders["int8"]) for n, c in shown.items()),
            "",
        ]
        if rivals:
            said = ", ".join(
                f"{n.removeprefix('macs 1.5x ')} {c['top1']:.1f} %" for n, c in rivals.items()
            )
            parts += [f"Others at 1.5 x fewer multiply-accumulates: {said}.", ""]
    return "\n".join([*parts, "Script: `benchmarks/pruning.py`."])


def graph_line(family: str, rows: list[dict[str, Any]]) -> str:
    """Return one line of the table of graph optimisers: a family of models."""
    cells = [family, str(len(rows)), f"{sum(r['original']['nodes'] for r in rows):,}"]
    for tool in ("graphopt", "onnxsim", "onnxslim", "onnxoptimizer"):
        made = [r[tool].get("nodes", r["original"]["nodes"]) for r in rows if tool in r]
        cells.append(f"{sum(made):,}")
    for what, peer in (("wall_s", "onnxslim"), ("rss_mb", "onnxsim")):
        fair = [r for r in rows if peer in r and (what == "rss_mb" or r["graphopt"]["rounds"])]
        pairs = [(r["graphopt"].get(what), r[peer].get(what)) for r in fair]
        ratios = [a / b for a, b in pairs if a and b]
        middle, worst = (statistics.geometric_mean(ratios), max(ratios)) if ratios else (0.0, 0.0)
        cells.append(f"{middle:.2f} ({worst:.2f})")
    speeds = [r["race"]["graphopt"]["speed"] for r in rows if "graphopt" in r["race"]]
    cells.append(f"{statistics.geometric_mean(speeds):.3f}" if speeds else "")
    return f"| {' | '.join(cells)} |"


def graph_table() -> str:
    """Return the Markdown of the comparison of graph optimisers."""
    result = read("graph_optimisers")
    summary, machine, rows = result["summary"], result["machine"], result["rows"]
    judged = [r for r in rows.values() if "graphopt" in r]
    lines = [
        "| models | | nodes before | graphopt | onnxsim | OnnxSlim | onnxoptimizer "
        "| seconds / OnnxSlim | memory / onnxsim | speed |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    families = dict.fromkeys(r["family"] for r in judged)
    lines += [graph_line(f, [r for r in judged if r["family"] == f]) for f in families]
    lines += [graph_line("all", judged), "", _graph_words(summary), "", _graph_peers(summary)]
    date, name = machine["date"], machine["processor"]
    lines += [
        "",
        f"Measured on {date}: {name}, {machine['cores']} shared cores, onnxruntime "
        f"{machine['versions']['onnxruntime']}. {len(result['outstanding'])} models of the corpus "
        "are outstanding: too large, or not measured in this run. Ratios are geometric means, the "
        "worst in brackets; memory of models of 50 MB and more is at "
        f"{summary['memory_of_large_over_onnxsim']['mean']:.2f} of onnxsim's; seconds are of the "
        "whole process, in which graphopt verifies and times its result. Speed is that of "
        "onnxruntime against the original, which races itself at "
        f"{summary['speed_of_the_original_again'] or 0:.3f}. Script: "
        "`benchmarks/graph_optimisers.py`.",
    ]
    return "\n".join(lines)


def _graph_words(summary: dict[str, Any]) -> str:
    """Say on how many models graphopt misses what was asked of it, and on which."""
    asked = {
        "broken": "does not run, or was not made",
        "wrong": "is wrong",
        "nodes": "has more nodes than the best peer that is right",
        "kernels": "lost fused kernels",
        "time": "took longer than OnnxSlim",
        "memory": "took more than half of onnxsim's memory",
        "latency": "runs slower than 0.98 of the original",
    }
    told = []
    for bar, words in asked.items():
        names = summary[bar]
        shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        told.append(f"- {words}: {len(names) or 'none'}" + (f" ({shown})" if names else ""))
    return "\n".join([f"Of {summary['models']} models, what graphopt made of them", "", *told])


def _graph_peers(summary: dict[str, Any]) -> str:
    """Say what the peers got wrong."""
    told = []
    for name, found in summary["peers"].items():
        parts = {
            "failed": "failed on", "does_not_run": "wrote models that do not run for",
            "wrong": "wrote wrong ones for", "lost_kernels": "lost fused kernels on",
        }  # fmt: skip
        said = [f"{words} {len(found[key])}" for key, words in parts.items()]
        told.append(f"- {name}, of {found['models']} models: {', '.join(said)}")
    return "\n".join(["The others, none of which verifies by default:", "", *told])


def written(path: Path, made: str) -> str:
    """Return what a page says once what is between its markers is replaced."""
    before, rest = path.read_text().split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def search_table() -> str:
    """Return the Markdown of what searches find."""
    result = read("joint")
    machine, summary = result["machine"], result["summary"]
    lines = [
        "| model | picked | speed | best other tool | against it | against quantized alone "
        "| smaller | lost (95 %) | tried | seconds |",
        "|---|---|--:|---|--:|--:|--:|---|--:|--:|",
    ]
    lines += [_search_line(row) for row in result["rows"]]
    outstanding = result["outstanding"]
    missed = [name for name, holds in summary["bars"].items() if not holds]
    lines += [
        "",
        f"Measured on {machine['date']}: {machine['processor']}, {machine['cores']} shared cores, "
        f"onnxruntime {machine['versions']['onnxruntime']}; all contenders of a model interleaved "
        "in one process, one thread, ratios of medians. A search is given half of the labelled "
        "samples and a largest drop of one point (0.3 dB of PSNR; 20 dB against the original where "
        "there are no labels); what is lost is of the other half. The best other tool is the "
        "fastest that is acceptable by the same measure, another one for each model. In the "
        f"geometric mean {summary['geomean_against_fp32']:.2f} x fp32, "
        f"{summary['geomean_against_best_peer']:.2f} x the best other tool of each model, "
        f"{summary['geomean_smaller']:.2f} times smaller. "
        + _lost_more(summary)
        + (f"Missed of what was aimed at: {'; '.join(missed)}. " if missed else "")
        + (f"Not measured in this run: {', '.join(outstanding)}. " if outstanding else "")
        + "Script: `benchmarks/joint.py`.",
        *smallest_table(HERE / "results" / "joint_smallest.json"),
    ]
    return "\n".join(lines)


def _lost_more(summary: dict[str, Any]) -> str:
    """Say which models lost more on unseen samples than was allowed on those of the search."""
    found = summary["lost_more_than_allowed"]
    if not found:
        return ""
    return (
        f"On the samples that the search had not seen {' and '.join(found)} lost more than was "
        "allowed: among many models that are judged on the same samples, the one that is picked "
        "looks better on them than it is. "
    )


def _search_line(row: dict[str, Any]) -> str:
    alone = row["against_quantized_alone"]
    metric = row["contenders"]["fp32"]["metric"]
    unit = METRICS.get(metric, ("", ""))[1].replace("%", "points")
    lost = f"{row['drop']:.2f} {unit}"
    if metric == "snr_db":
        lost = f"SNR {row['contenders']['graphopt search']['snr_db'] or 100:.0f} dB"
    elif row["interval"]:
        lost += f" ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})"
    return (
        f"| {row['model']} | {row['picked']} | {row['speed']:.2f} x | {row['best_peer']} "
        f"{row['peer_speed']:.2f} x | {row['against_best_peer']:.2f} x "
        f"| {f'{alone:.2f} x' if alone else '-'} | {row['smaller']:.2f} x | {lost} "
        f"| {row['tried']} | {row['seconds']:.0f} |"
    )


def main() -> None:
    """Rewrite the pages between their markers, or check that nothing would change."""
    pages = (
        (README, table()),
        (PRUNING, pruned_table()),
        (GRAPHS, graph_table()),
        (SEARCHES, search_table()),
        (TRAINING, training_tables(HERE / "results")),
    )
    for path, made in pages:
        text = written(path, made)
        if "--check" in sys.argv:
            if text != path.read_text():
                sys.exit(f"{path.name} is not what benchmarks/results say")
        else:
            path.write_text(text)


if __name__ == "__main__":
    main()
