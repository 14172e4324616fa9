"""The smallest model by pruning, quantization and training, with at most one point lost.

Per classifier: pruned to shares of its parameters, trained by the original, every operator in
8-bit integers, weights of 8 or 4 bits in the file, trained again. Half of the labelled samples
that nothing was trained on choose the smallest model that loses at most one point; what it loses is
told on the other half, with the 95 % interval of the paired difference. Sizes are those of files.

    python benchmarks/training_size.py [MODEL ...] [--shares 1,0.7,...] [--bits 8,4] [--minutes M]
        [--seed N] [--again] [--quick] [--folder DIR] [--output FILE]

For each number of bits shares get smaller until a model loses twice what is allowed. Candidates are
recorded as they come. Writes benchmarks/results/training_size.json; exit status 1 when a bar is
missed: 70 % smaller, 85 % for the ResNets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.recipe import PassEntry
from graphopt.runtime import open_session
from machine import describe
from peer_models import default_folder
from peer_quality import Judge, loss
from training import QUICK_STEPS, QUICK_TESTS, facts, say
from training_bars import LOST
from training_models import (
    TRAINING,
    Kitchen,
    Order,
    behind,
    integer,
    tested,
    with_options,
    with_training,
    workload_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.recipe import Recipe
    from peer_quality import Loss
    from workloads import Workload

RESULTS = Path(__file__).parent / "results" / "training_size.json"
MODELS = {
    "cifar10_resnet20": 2000,
    "cifar10_resnet20_jpegft": 2000,
    "cifar10_resnet56": 2000,
    "imagenet_proxyless_w025_r112": 200,
    "kws_dscnn_bn": 550,
    "mnist_cntk": 800,
}
"""Unlabelled samples of each."""
SMALLER, OF_RESNETS = 0.70, 0.85
HOPELESS = 2.0
"""Times the allowed loss from which on smaller models are not tried."""
PRUNED_SHARE = 0.6
"""Of the minutes, for the float model; the rest trains the quantized one."""

Row = dict[str, Any]


class Sizes:
    """Makes and judges the candidates of one model.

    Args:
        name: of the workload.
        options: of the command line.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.options = options
        self.kitchen = Kitchen(
            workload_of(name), 64 if options.quick else MODELS[name], options.folder
        )
        self.path = self.kitchen.workload.path
        kept = options.folder / "training" / "quality"
        limit = QUICK_TESTS if options.quick else 0
        self.judges = [
            Judge(half, kept / f"{name}-half-{number}", limit)
            for number, half in enumerate(halves(tested(workload_of(name))))
        ]
        session = open_session(self.path)
        self.before = [judge.judge(self.path, session) for judge in self.judges]

    def row(self, share: float, bits: int) -> Row:
        """Make a candidate, and judge it."""
        made = self.kitchen.make(self.path, self.recipe(share, bits), self.options.seed)
        if made.path is None:
            return {"failed": made.reason}
        chosen_by, told = (self.lost(made.path, half) for half in range(2))
        return {
            "smaller": round(1 - made.path.stat().st_size / self.path.stat().st_size, 4),
            "bytes": made.path.stat().st_size,
            "lost_when_chosen": round(chosen_by.drop, 3),
            "lost": round(told.drop, 3),
            "interval": [round(b, 3) for b in told.interval or ()],
            **facts(made),
        }

    def recipe(self, share: float, bits: int) -> Recipe:
        """Return the recipe of a candidate."""
        shares = (PRUNED_SHARE, 1 - PRUNED_SHARE) if share < 1 else (0.0, 1.0)
        made = integer(Order("", self.kitchen.samples, {}))
        if share < 1:
            made = with_options(made, "prune-channels", to=f"params={share:g}x")
            made = behind(made, "prune-channels", PassEntry(TRAINING, self.training(shares[0])))
        stored = {"format": "off", "eight_bits": True, "smallest": 64}
        if bits == 4:
            stored["four_bits"] = 1.0
        made = dataclasses.replace(made, passes=(*made.passes, PassEntry("store-weights", stored)))
        made = with_training(made, Order("", self.kitchen.samples, self.training(shares[1])))
        last = {"format": "float16", "smallest": 64, "exact": True, "names": "short"}
        return dataclasses.replace(made, passes=(*made.passes, PassEntry("store-weights", last)))

    def training(self, share: float) -> dict[str, Any]:
        """Return the options of one training."""
        if self.options.quick:
            return {"steps": QUICK_STEPS, "rate": 1e-4}
        return {"minutes": round(share * self.options.minutes, 2)}

    def lost(self, path: Path, half: int) -> Loss:
        """Return what a model loses on one half of the labelled samples."""
        return loss(self.before[half], self.judges[half].judge(path, open_session(path)))


def halves(workload: Workload) -> tuple[Workload, Workload]:
    """Return a workload with the even and with the odd ones of its samples."""
    labels = workload.labels()
    assert labels is not None
    one, other = (
        dataclasses.replace(
            workload,
            feeds=lambda first=first: workload.feeds()[first::2],
            labels=lambda first=first: labels[first::2],
        )
        for first in (0, 1)
    )
    return one, other


def run(sizes: Sizes, record: Row, options: argparse.Namespace, save: Any) -> None:
    """Make the candidates that are not recorded yet, until they lose too much."""
    rows = record["rows"]
    for bits in options.bits:
        for share in options.shares:
            name = f"{bits} bits, {share:g}x"
            if name not in rows or "failed" in rows[name] or options.again:
                say(f"{sizes.kitchen.workload.name}: {name}")
                rows[name] = sizes.row(share, bits)
                say(f"  {json.dumps({k: v for k, v in rows[name].items() if k != 'training'})}")
                save()
            if rows[name].get("lost_when_chosen", 0.0) > HOPELESS * LOST and not options.quick:
                break


def judged(name: str, record: Row) -> None:
    """Choose the smallest candidate, and say what it reaches."""
    made = {n: r for n, r in record["rows"].items() if "failed" not in r}
    fine = {n: r for n, r in made.items() if r["lost_when_chosen"] <= LOST}
    chosen = min(fine, key=lambda n: fine[n]["bytes"], default=None)
    least = OF_RESNETS if "resnet" in name else SMALLER
    found = fine.get(chosen or "")
    record["chosen"] = chosen
    record["bars"] = {
        f"at least {least:.0%} smaller": found is not None and found["smaller"] >= least,
        f"at most {LOST:g} point lost": found is not None and found["lost"] <= LOST,
    }


def show(results: Row) -> None:
    """Print what was chosen for each model."""
    print("| model | chosen | smaller | lost when chosen | lost (95 %) | bars |")
    print("|---|---|--:|--:|--:|---|")
    for name, record in results["models"].items():
        row = record["rows"].get(record["chosen"], {})
        print(
            f"| {name} | {record['chosen']} | {row.get('smaller')} | {row.get('lost_when_chosen')} "
            f"| {row.get('lost')} {row.get('interval')} | {record['bars']} |"
        )


def numbers(kind: type[int | float]) -> Any:
    """Return what reads numbers that are separated by commas."""
    return lambda text: [kind(part) for part in text.split(",")]


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--shares", type=numbers(float), default=[1.0, 0.7, 0.5, 0.35, 0.25])
    parser.add_argument("--bits", type=numbers(int), default=[8, 4])
    parser.add_argument("--minutes", type=float, default=6.0, help="of training, for each model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="make what is recorded once more")
    parser.add_argument("--quick", action="store_true", help="three steps, to see that it runs")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="kept between runs")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    options.folder = (options.folder / "quick" if options.quick else options.folder).resolve()
    usual = options.folder / RESULTS.name if options.quick else RESULTS
    options.output = options.output or usual
    return options


def main() -> None:
    """Make, judge, record, print; exit 1 when a bar is missed."""
    options = parsed()
    results: Row = {"machine": describe(), "models": {}}
    if options.output.exists():
        results = json.loads(options.output.read_text())
    for name in options.models or MODELS:
        record = results["models"].setdefault(name, {"samples": MODELS[name], "rows": {}})
        record["minutes"] = options.minutes

        def save(name: str = name, record: Row = record) -> None:
            judged(name, record)
            options.output.parent.mkdir(exist_ok=True)
            options.output.write_text(json.dumps(results, indent=1) + "\n")

        run(Sizes(name, options), record, options, save)
        save()
    show(results)
    sys.exit(0 if all(all(r["bars"].values()) for r in results["models"].values()) else 1)


if __name__ == "__main__":
    main()
