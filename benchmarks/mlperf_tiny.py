"""Do microcontroller targets predict MLPerf Tiny v1.2 rows that they were not fitted to?

    python benchmarks/mlperf_tiny.py [--write]

Reads the published results in ../shared/data/latency (mlcommons/tiny_results_v1.2), which were
measured by the submitters on their boards; nothing is measured here. The four networks are built
as graphs and counted by the roofline cost model; ``tiny_fit.py`` fits cycles per class.

Held out, for every row of a CPU or microcontroller in turn: that row. What predicts it: the other
networks of the same board, which set its speed, and the rows of other boards, which set what a
class of kernels costs on the same software. Where no other board has that software, only the
general structure is left; those rows are counted apart. A second, harder score holds a network out
on every board at once. Energy is the predicted time times the median power of the board's other
rows. Accelerators are listed, not predicted. ``--write`` puts the coefficients fitted to all rows
into graphopt/targets/data/cortex-*.toml.

The bars are latency within 25 % and energy within 30 % on held-out rows of CPUs and
microcontrollers. Exits 1 when any of them misses its bar; rows of boards whose software another
board has, and int8 rows among them, are also scored apart.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import re
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.cost import Roofline
from graphopt.targets import Target, builtin_targets
from machine import describe
from tiny_fit import CLASSES, Fit, Row, Spread
from tiny_networks import NETWORKS

if TYPE_CHECKING:
    from graphopt.ir import Graph

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "latency"
RESULT = ROOT / "benchmarks" / "results" / "mlperf_tiny.json"
TARGETS = ROOT / "graphopt" / "targets" / "data"

LATENCY_BAR, ENERGY_BAR = 0.25, 0.30
STACKS = {"STMicroelectronics": "X-CUBE-AI 9", "bosch": "HALE", "Renesas": "Renesas"}
ACCELERATORS = ("NDP9120", "Snapdragon 8 Gen 3 Mobile HDK", "VCU128")

SHIPPED = {
    "cortex-m0plus": ("NUCLEO-G0B1RE, HALE", ""),
    "cortex-m4": ("NUCLEO-L4R5ZI, X-CUBE-AI 9", "CY8CPROTO-062-4343W, HALE float"),
    "cortex-m33": ("NUCLEO-U575ZI, X-CUBE-AI 9", ""),
    "cortex-m7": ("NUCLEO-H7A3ZI, X-CUBE-AI 9", "NUCLEO-H7A3ZI, HALE float"),
    "cortex-m85": ("EK-RA8D1, Renesas", ""),
}
"""By target: the board behind its int8 figures, and the one behind its float figures."""

BELIEF = Spread()
SPREADS = (Spread(everything=0.3, stack=0.3), Spread(everything=0.7, stack=0.7, noise=0.03))
"""Other beliefs about how alike things are: the scores must not hang on them."""

Work = dict[tuple[str, str], np.ndarray[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Published:
    """One row of the summary, with what the fit needs."""

    row: Row
    milliseconds: float
    microjoules: float | None


def published() -> list[Published]:
    """Return the rows of CPUs and microcontrollers."""
    with (DATA / "mlperf_tiny_v1.2_summary.csv").open(encoding="utf-8") as file:
        lines = [r for r in csv.DictReader(file) if r["BoardName"] not in ACCELERATORS]
    return [_published(line) for line in lines]


def accelerators() -> list[dict[str, object]]:
    """Return the rows that no CPU model is for, as they were published."""
    with (DATA / "mlperf_tiny_v1.2_summary.csv").open(encoding="utf-8") as file:
        lines = [r for r in csv.DictReader(file) if r["BoardName"] in ACCELERATORS]
    return [
        {
            "system": line["SystemDesc"],
            "network": line["Model"],
            "ms": round(1e3 / float(line["Result"]), 4),
            "uj": float(line["Power"]) if line["HasPower"] == "True" else None,
        }
        for line in lines
    ]


def _published(line: dict[str, str]) -> Published:
    system, organisation = line["SystemDesc"], line["Organization"]
    stack = STACKS.get(organisation, organisation) + (" float" if "float" in system else "")
    variants = [v for v in ("max_performance", "min_ram") if v in system]
    clock = line["HostProcessorFrequency"]
    found = re.match(r"[\d.]+", clock)
    if found is None:
        raise ValueError(f"no clock in {clock!r}")
    hertz = float(found.group()) * (1e9 if "GHz" in clock else 1e6)
    board = f"{line['BoardName'].removesuffix('-Q')}, {stack}"
    row = Row(board, stack, "".join(variants), line["Model"], hertz / float(line["Result"]))
    power = float(line["Power"]) if line["HasPower"] == "True" else None
    return Published(row, 1e3 / float(line["Result"]), power)


def unit_target() -> Target:
    """Return a microcontroller on which every unit of work takes one cycle, and a cycle 1 us."""
    base = next(t for t in builtin_targets() if t.name == "cortex-m4")
    rates = {f"{d}.{k}": 1.0 for d in ("int8", "float32") for k in (*CLASSES[:6], "default")}
    compute = dataclasses.replace(
        base.compute,
        frequency_ghz=1e-3,
        dispatch_us=0.0,
        run_us=0.0,
        efficiency=rates,
        alignment={},
        reduction_half={},
        macs_per_cycle={"float32": 1.0, "int8": 1.0},
    )
    memory = dataclasses.replace(base.memory, cache_gb_s=1e9, dram_gb_s=1e9)
    return dataclasses.replace(base, compute=compute, memory=memory)


def work_of(graph: Graph) -> np.ndarray[Any, Any]:
    """Return the work of a network by class, as the cost model counts it."""
    target = unit_target()
    kernels = Roofline().estimate(graph, target).kernels
    found = []
    for name in CLASSES[:6]:
        # A class is what takes longer when its rate alone is halved.
        slower = {k: 0.5 if k.endswith(f".{name}") else v for k, v in _rates(target).items()}
        compute = dataclasses.replace(target.compute, efficiency=slower)
        slow = Roofline().estimate(graph, dataclasses.replace(target, compute=compute)).kernels
        pairs = zip(slow, kernels, strict=True)
        found.append(sum(a.latency_us - b.latency_us for a, b in pairs))
    return np.array([*found, float(len(kernels))])


def _rates(target: Target) -> dict[str, float]:
    return target.compute.efficiency


def held_out(
    rows: list[Published], work: Work, *, everywhere: bool = False, spread: Spread = BELIEF
) -> list[dict[str, Any]]:
    """Return the prediction of every row by a fit without it (``everywhere``: its network)."""
    found, fits = [], {}
    for case in rows:
        rest = [q for q in rows if q is not case]
        if everywhere:
            rest = [q for q in rest if q.row.network != case.row.network]
        same_board = [q for q in rest if q.row.board == case.row.board]
        if not same_board:
            continue
        key = case.row.network if everywhere else case
        if key not in fits:
            fits[key] = Fit([q.row for q in rest], work, spread)
        siblings = {q.row.board for q in rest if q.row.stack == case.row.stack} - {case.row.board}
        found.append(_compared(case, fits[key].cycles(case.row), same_board, len(siblings)))
    return found


def _compared(
    case: Published, cycles: float, same_board: list[Published], siblings: int
) -> dict[str, Any]:
    """Return a prediction beside what was published."""
    ratio = cycles / case.row.cycles
    entry = {
        "board": case.row.board,
        "variant": case.row.variant,
        "network": case.row.network,
        "ms": round(case.milliseconds, 4),
        "predicted_ms": round(case.milliseconds * ratio, 4),
        "error": round(ratio - 1, 4),
        "siblings": siblings,
    }
    watts = [q.microjoules / q.milliseconds for q in same_board if q.microjoules is not None]
    if case.microjoules is not None and watts:
        joules = statistics.median(watts) * case.milliseconds * ratio
        entry |= {
            "uj": case.microjoules,
            "predicted_uj": round(joules, 2),
            "energy_error": round(joules / case.microjoules - 1, 4),
        }
    return entry


def siblings(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the int8 rows of boards whose software another board has."""
    return [e for e in entries if e["siblings"] and "float" not in e["board"]]


def score(entries: list[dict[str, Any]], key: str = "error", bar: float = LATENCY_BAR) -> object:
    """Return how large the errors are, and how many are within the bar."""
    errors = [abs(e[key]) for e in entries if key in e]
    if not errors:
        return None
    return {
        "rows": len(errors),
        "mean": round(statistics.fmean(errors), 4),
        "worst": round(max(errors), 4),
        f"within_{bar:.0%}": sum(e <= bar for e in errors),
    }


def noise() -> dict[str, object]:
    """Return what two runs of the same system differ by: the ceiling of any prediction.

    Boards with power were run twice, once without and once with the energy monitor.
    """
    rows = json.loads((DATA / "mlperf_tiny_v1.2_rows.json").read_text(encoding="utf-8"))
    speeds: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["inf_per_s"]:
            case = speeds.setdefault((row["system"], row["benchmark"]), {})
            case[row["mode"]] = float(row["inf_per_s"])
    pairs = [s for s in speeds.values() if {"performance", "energy"} <= s.keys()]
    gaps = [abs(s["energy"] / s["performance"] - 1) for s in pairs]
    return {
        "what": "inferences per second of the performance and the energy run of one system",
        "pairs": len(gaps),
        "median": round(statistics.median(gaps), 4),
        "worst": round(max(gaps), 4),
    }


def core_spread(rows: list[Published]) -> list[dict[str, object]]:
    """Return how far two boards with one core and one software differ in cycles."""
    pairs = [
        ("NUCLEO-H7A3ZI, HALE", "DISCO-F746NG, HALE"),
        ("NUCLEO-L4R5ZI, HALE", "CY8CPROTO-062-4343W, HALE"),
    ]
    cycles = {(q.row.board, q.row.network): q.row.cycles for q in rows if not q.row.variant}
    return [
        {
            "boards": [one, other],
            "cycles_ratio": {n: round(cycles[other, n] / cycles[one, n], 3) for n in NETWORKS},
        }
        for one, other in pairs
    ]


def coefficients(rows: list[Published], work: Work) -> dict[str, dict[str, float]]:
    """Return what the shipped targets hold, from a fit to all rows."""
    fit = Fit([q.row for q in rows], work, BELIEF)
    found: dict[str, dict[str, float]] = {}
    targets = {t.name: t for t in builtin_targets()}
    for name, (board, floating) in SHIPPED.items():
        cycles = fit.per_unit(board, board.split(", ")[1])
        values = {f"int8.{k}": _short(1 / cycles[k]) for k in CLASSES[:5]}
        values["float32.elementwise"] = _short(1 / cycles["elementwise"])
        ghz = targets[name].compute.frequency_ghz
        values["dispatch_us"] = _short(cycles["dispatch"] / ghz / 1e3)
        if floating:
            cycles = fit.per_unit(floating, floating.split(", ")[1])
            values |= {
                f"float32.{k}": _short(1 / cycles[k]) for k in CLASSES[:5] if k != "unaligned"
            }
        watts = [
            q.microjoules / q.milliseconds / 1e3
            for q in rows
            if q.row.board == board and q.microjoules is not None
        ]
        if watts:
            values["active_watts"] = _short(statistics.median(watts))
        found[name] = values
    return found


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def write_targets(values: dict[str, dict[str, float]]) -> None:
    """Replace the fitted figures in the target files; every one of them must be there."""
    for name, figures in values.items():
        path = TARGETS / f"{name}.toml"
        text = path.read_text(encoding="utf-8")
        for key, value in figures.items():
            quoted = f'"{key}"' if "." in key else key
            text, count = re.subn(
                rf"^{re.escape(quoted)} = .*$", f"{quoted} = {value!r}", text, flags=re.M
            )
            if count != 1:
                raise ValueError(f"{path.name}: {count} lines for {quoted}")
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Predict, print, write the results; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="update the target files")
    asked = parser.parse_args()
    everything = published()
    rows = [q for q in everything if q.row.variant != "min_ram"]
    counted = {
        (n, i): work_of(build(integer=i)) for n, build in NETWORKS.items() for i in (False, True)
    }
    work = {
        (stack, n): counted[n, "float" not in stack]
        for stack in {q.row.stack for q in rows}
        for n in NETWORKS
    }
    entries = held_out(rows, work)
    harder = held_out(rows, work, everywhere=True)
    related = siblings(entries)
    summary = {
        "latency_all": score(entries),
        "latency_int8_with_sibling": score(related),
        "latency_float": score([e for e in entries if "float" in e["board"]]),
        "latency_without_sibling": score([e for e in entries if not e["siblings"]]),
        "energy": score(entries, "energy_error", ENERGY_BAR),
        "latency_network_held_out_everywhere": score(harder),
        "energy_network_held_out_everywhere": score(harder, "energy_error", ENERGY_BAR),
    }
    fitted = coefficients(rows, work)
    if asked.write:
        write_targets(fitted)
    record = {
        "machine": describe(),
        "data": "MLPerf Tiny v1.2, measured by the submitters",
        "bars": {"latency": LATENCY_BAR, "energy": ENERGY_BAR},
        "noise": noise(),
        "same_core_and_software": core_spread(rows),
        "summary": summary,
        "sensitivity": [
            {
                "spread": dataclasses.asdict(spread),
                "latency_int8_with_sibling": score(siblings(held_out(rows, work, spread=spread))),
            }
            for spread in SPREADS
        ],
        "rows": entries,
        "rows_network_held_out_everywhere": harder,
        "left_out": ["NUCLEO_H7A3ZI_int8_min_ram: the only row of its build option"],
        "accelerators": accelerators(),
        "targets": fitted,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for entry in entries:
        print(f"{entry['error']:+.3f}  {entry['board']} {entry['network']} {entry['variant']}")
    print(json.dumps(summary, indent=1))
    missed = [e for e in entries if abs(e["error"]) > LATENCY_BAR]
    missed += [e for e in entries if abs(e.get("energy_error", 0.0)) > ENERGY_BAR]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
