"""Prune and quantize with training: which order is more accurate on the same budget?

Four orders, one of them twice, make an int8 model with so many times fewer multiply-accumulates,
each with the same minutes of training in all, the same unlabelled samples, and the original as the
teacher:

- PtQ: pruned, trained (two thirds of the minutes), quantized, trained.
- QtP: quantized, trained (one third of them); that is pruned, quantized again and trained.
- QAP: quantized, then pruned while the quantized model is trained (prune-while-training).
- joint: widths are learned by training the quantized model (learn-widths), which then goes on; with
  bits: in half of the size of int8, which weights get 4 bits is learned together with them.

Accuracy is on samples that nothing was trained or chosen on, size is that of the file. All models
of one subject run in one race: one thread, no spinning, shuffled order in every round, sessions
opened anew for every repetition; speeds are medians over rounds of latency(fp32) / latency(model),
and `fp32 again` is what the clock is worth.

    python benchmarks/recovery_orders.py [MODEL ...] [--times 1.3,1.5,2] [--orders PtQ,...]
        [--minutes M] [--seed N] [--seconds S] [--repeat N] [--without-race] [--only-race]
        [--again] [--quick] [--folder DIR] [--output FILE]

Rows are recorded as they come; --without-race only makes and judges, --only-race only times what
was made. Writes benchmarks/results/recovery_orders.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.recipe import PassEntry
from machine import describe
from peer_models import default_folder
from pruning import CONTROL, DISTURBED, Field, raced
from training import QUICK_STEPS, Bench, facts, say
from training_bars import FLOAT, Subject
from training_models import (
    TRAINING,
    Order,
    behind,
    integer,
    tested,
    with_options,
    with_training,
    workload_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from graphopt.recipe import Recipe
    from pruning_contenders import Made

RESULTS = Path(__file__).parent / "results" / "recovery_orders.json"
INTEGER = "int8"
MODELS = {"cifar10_resnet20_jpegft": 2000, "cifar10_resnet56": 2000, "kws_dscnn_bn": 550}
"""Unlabelled samples of each."""
LARGE, SMALL = 2 / 3, 1 / 3
"""Of the minutes, where a model is trained twice: the pruned one needs more."""

FILE = "0.5x"
"""Size of what learns bits too, of the int8 model's."""

Row = dict[str, Any]


class Orders:
    """Makes the models of one subject.

    Args:
        name: of the workload.
        options: of the command line.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.options = options
        self.bench = Bench(Subject(name, MODELS[name], 0.0, ()), options)
        self.kitchen = self.bench.kitchen
        self.original = self.kitchen.workload.path

    def made(self, order: str, times: float) -> Made:
        """Return the model of an order."""
        return _MAKERS[order](self, self.kitchen.goal(times))

    def alone(self) -> Made:
        """Return the int8 model that nothing was trained or pruned for."""
        return self._make(self.original, integer(self._order("")))

    def prune_first(self, goal: str) -> Made:
        """Return PtQ's model."""
        recipe = with_options(integer(self._order("")), "prune-channels", to=goal)
        recipe = behind(recipe, "prune-channels", PassEntry(TRAINING, self._training(LARGE)))
        return self._make(self.original, with_training(recipe, self._order("", SMALL)))

    def quantize_first(self, goal: str) -> Made:
        """Return QtP's model: what is pruned, and quantized again, was trained in integers."""
        recipe = integer(self._order(""))
        place = [entry.use for entry in recipe.passes].index("prune-channels")
        ahead, quantizing = recipe.passes[:place], recipe.passes[place + 1 :]
        # What is padded between its Q and DQ cannot be taken back to float.
        plain = with_options(
            dataclasses.replace(recipe, passes=quantizing), "insert-qdq", align=False
        )
        first, last = (PassEntry(TRAINING, self._training(s)) for s in (SMALL, LARGE))
        pruning = PassEntry("prune-channels", {"to": goal})
        passes = (*ahead, *plain.passes, first, pruning, *quantizing, last)
        return self._make(self.original, dataclasses.replace(recipe, passes=passes))

    def while_training(self, goal: str) -> Made:
        """Return QAP's model."""
        return self._at_the_end("prune-while-training", goal)

    def together(self, goal: str) -> Made:
        """Return the model whose widths were learned."""
        return self._at_the_end("learn-widths", goal)

    def with_bits(self, goal: str) -> Made:
        """Return the model whose widths and bits were learned, for a file half as large as int8."""
        return self._at_the_end("learn-widths", f"{goal},size={FILE}")

    def _at_the_end(self, use: str, goal: str) -> Made:
        recipe = integer(self._order(""))
        entry = PassEntry(use, {"to": goal, **self._training(1.0)})
        return self._make(
            self.original, dataclasses.replace(recipe, passes=(*recipe.passes, entry))
        )

    def _make(self, model: Path, recipe: Recipe) -> Made:
        return self.kitchen.make(model, recipe, self.options.seed)

    def _order(self, goal: str, share: float = 0.0) -> Order:
        return Order(goal, self.kitchen.samples, self._training(share) if share else {})

    def _training(self, share: float) -> dict[str, Any]:
        if self.options.quick:
            return {"steps": QUICK_STEPS, "rate": 1e-4}
        return {"minutes": round(share * self.options.minutes, 2)}


_MAKERS: Mapping[str, Callable[[Orders, str], Made]] = {
    "PtQ": Orders.prune_first,
    "QtP": Orders.quantize_first,
    "QAP": Orders.while_training,
    "joint": Orders.together,
    "joint with bits": Orders.with_bits,
}


def make_all(orders: Orders, record: Row, options: argparse.Namespace, save: Any) -> None:
    """Make and judge the rows that are not recorded yet."""
    rows = record["rows"]
    bench = orders.bench
    rows.setdefault(FLOAT, bench.judged(orders.original))
    for times in (0.0, *options.times):
        for order in options.orders if times else [INTEGER]:
            name = f"{order} {times:g}x" if times else INTEGER
            if name in rows and "failed" not in rows[name] and not options.again:
                continue
            say(f"{bench.subject.name}: {name}")
            made = orders.made(order, times) if times else orders.alone()
            rows[name] = row_of(orders, made)
            say(f"  {json.dumps(rows[name])}")
            save()


def row_of(orders: Orders, made: Made) -> Row:
    """Return what a model is worth, and what it took."""
    if made.path is None:
        return {"failed": made.reason}
    row = orders.bench.judged(made.path) | facts(made)
    row["file"] = str(made.path.relative_to(orders.options.folder))
    row["smaller"] = round(1 - made.path.stat().st_size / orders.original.stat().st_size, 4)
    return row


def time_all(orders: Orders, record: Row, options: argparse.Namespace) -> None:
    """Race all models that there are."""
    rows = record["rows"]
    found = Field(orders.bench.subject)  # type: ignore[arg-type]
    for name in (FLOAT, CONTROL):
        found.files[name] = orders.original
    there = {n: options.folder / r["file"] for n, r in rows.items() if "file" in r}
    found.files |= {name: path for name, path in there.items() if path.is_file()}
    result = raced(
        found, tested(workload_of(orders.bench.subject.name)), options.seconds, options.repeat
    )
    record["fp32_ms"] = round(statistics.median(result.samples[FLOAT]), 4)
    control = result.speedup(CONTROL, FLOAT)
    record |= {"fp32_again": round(control, 3), "disturbed": abs(control - 1) > DISTURBED}
    for name in (n for n in found.files if n in rows):
        rows[name]["speed"] = round(result.speedup(name, FLOAT), 3)
        rows[name]["speed_minima"] = round(result.speedup_of_minima(name, FLOAT), 3)
        rows[name]["ms"] = round(statistics.median(result.samples[name]), 4)


def best_of(rows: Mapping[str, Row], times: list[float], orders: list[str]) -> dict[str, str]:
    """Return, by budget, the order with the most accurate model."""
    found = {}
    for budget in times:
        scores = {
            order: row["score"]
            for order in orders
            if "score" in (row := rows.get(f"{order} {budget:g}x", {})) and "failed" not in row
        }
        if scores:
            found[f"{budget:g}x"] = max(scores, key=lambda order: scores[order])
    return found


def show(name: str, record: Row) -> None:
    """Print the table of a model."""
    print(f"\n{name}: fp32 {record.get('fp32_ms', '?')} ms, best {record['most_accurate']}")
    print("| model | score | lost (95 %) | KB | speed (minima) | minutes | MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for row, found in record["rows"].items():
        if "failed" in found:
            print(f"| {row} | {found['failed']} |")
            continue
        speed = f"{found.get('speed', '')} ({found.get('speed_minima', '')})"
        print(
            f"| {row} | {found['score']} | {found['drop']} {found['interval']} "
            f"| {found['size_kb']} | {speed} | {found.get('minutes', '')} "
            f"| {found.get('peak_mb', '')} |"
        )


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument(
        "--times", type=lambda t: [float(s) for s in t.split(",")], default=[1.3, 1.5, 2.0]
    )
    parser.add_argument("--orders", type=lambda t: t.split(","), default=list(_MAKERS))
    parser.add_argument("--minutes", type=float, default=6.0, help="of training, in each order")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=15.0, help="of one race")
    parser.add_argument("--repeat", type=int, default=3, help="races")
    parser.add_argument("--without-race", action="store_true", help="only make and judge")
    parser.add_argument("--only-race", action="store_true", help="only time what was made")
    parser.add_argument("--again", action="store_true", help="make what is recorded once more")
    parser.add_argument("--quick", action="store_true", help="three steps, to see that it runs")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="kept between runs")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.folder = (options.folder / "quick" if options.quick else options.folder).resolve()
    usual = options.folder / RESULTS.name if options.quick else RESULTS
    options.output = options.output or usual
    if options.quick:
        options.seconds, options.repeat = min(options.seconds, 1.0), 1
    return options


def main() -> None:
    """Make, judge, race, record, print."""
    options = parsed()
    results: Row = {"machine": describe(), "models": {}}
    if options.output.exists():
        results = json.loads(options.output.read_text())
    for name in options.models or MODELS:
        record = results["models"].setdefault(name, {"samples": MODELS[name], "rows": {}})
        record["minutes"] = options.minutes

        def save(record: Row = record) -> None:
            record["most_accurate"] = best_of(record["rows"], options.times, options.orders)
            options.output.parent.mkdir(exist_ok=True)
            options.output.write_text(json.dumps(results, indent=1) + "\n")

        orders = Orders(name, options)
        if not options.only_race:
            make_all(orders, record, options, save)
        if not options.without_race:
            time_all(orders, record, options)
        save()
        show(name, record)


if __name__ == "__main__":
    main()
