"""Scoreboard of structured pruning: what can go from each model, and whether the oracle agrees.

Four families: the ``light`` topologies of the onnx package (weights drawn anew), the models of
../shared, the 85 torchvision architectures of Torch-Pruning's list and small transformers (random
weights, exported by torch). From each model 10, 30 and 50 % of the units of every group are
removed at random, and the result is compared with the original in which nobody listens to them
(pruning_trial.py): "pass" is a difference of at most 1e-5 of the largest output, "near" one that is
no more than twice what another order of the same sums makes. Where that order alone makes half the
tolerance, nothing can be seen, and another input is tried. Every model runs in a process of its
own; --missing leaves out what has a result. Writes benchmarks/results/pruning_oracle.json.

    python benchmarks/pruning_oracle.py [--folder PATH] [--missing] [FAMILY or FAMILY/NAME …]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import machine
from pruning_models import FAMILIES, Model, models
from pruning_trial import RATIOS, judge, to_json
from torchvision_models import default_folder

RESULTS = Path(__file__).parent / "results" / "pruning_oracle.json"
TIME_LIMIT = 3600


def chosen(patterns: list[str]) -> list[Model]:
    """Return the models that are named: a family, a model, or a pattern; all without any."""
    wanted = [f"{p}/*" if p in FAMILIES else p for p in patterns] or ["*"]
    return [m for m in models() if any(fnmatch.fnmatch(m.key, p) for p in wanted)]


def scored(model: Model, folder: Path) -> dict[str, Any]:
    """Return the score of a model, made in a process of its own; or why there is none."""
    command = [sys.executable, __file__, "--folder", str(folder), "--one", model.key]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"passes": False, "fault": f"not done after {TIME_LIMIT} s"}
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    fault = said[-1][:300] if said else f"exit status {done.returncode}, nothing written"
    return {"passes": False, "fault": fault}


def line(key: str, score: dict[str, Any]) -> str:
    """Return one line of the table."""
    if "fault" in score:
        return f"{key:58} FAULT {score['fault'][:110]}"
    share, exact = score["channels"]
    worst = [t["disagreement"] for t in score["trials"] if t["disagreement"] is not None]
    fault = "near" if score["rounding_only"] else "FAIL"
    verdict = "pass" if score["passes"] else fault
    why = next((t[k] for t in score["trials"] for k in ("error", "error_all") if t[k]), "")
    return (
        f"{key:58} {verdict} {share:6.1%} ({exact:6.1%} exact) reach {score['reach'][0]:6.1%} "
        f"{max(worst, default=float('nan')):8.1e} {score['seconds'][1]:6.1f} s {why[:90]}"
    )


def summary(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return how many models of each family pass, and how many more but for rounding."""
    made = {}
    for family in FAMILIES:
        scores = [score for key, score in found.items() if key.startswith(f"{family}/")]
        near = sum(score.get("rounding_only", False) for score in scores)
        passed = sum(score["passes"] for score in scores)
        made[family] = f"{passed} of {len(scores)}" + (f", {near} near" if near else "")
    return made


def results() -> dict[str, dict[str, Any]]:
    """Return what was found so far, by key of the model."""
    found: dict[str, dict[str, Any]] = {}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text())["models"]
    return found


def write(key: str, score: dict[str, Any]) -> dict[str, str]:
    """Add a result to the file, in the order of the models; return the summary."""
    found = results() | {key: score}
    ordered = {m.key: found[m.key] for m in models() if m.key in found}
    record = {"machine": machine.describe(), "ratios": RATIOS, "passes": summary(ordered)}
    RESULTS.parent.mkdir(exist_ok=True)
    partial = RESULTS.with_suffix(".partial")
    partial.write_text(json.dumps(record | {"models": ordered}, indent=1) + "\n")
    partial.replace(RESULTS)
    return summary(ordered)


def main() -> None:
    """Score what the command line names, or show what one process finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="FAMILY or FAMILY/NAME")
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--missing", action="store_true", help="only models without a result")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (model,) = chosen([options.one])
        print(json.dumps(to_json(judge(lambda: model.read(options.folder), model.key))))
        return
    totals = summary(results())
    for model in chosen(options.patterns):
        if not (options.missing and model.key in results()):
            score = scored(model, options.folder)
            print(line(model.key, score), flush=True)
            totals = write(model.key, score)
    print(totals)


if __name__ == "__main__":
    main()
