"""What graph_optimisers.py asks of graphopt, model by model, and what it counts of its peers."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from graph_tools import OURS, PEERS, RIVALS, VERIFIED_ONLY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]
TOLERANCE = 1e-5
"""Relative difference of outputs that needs no explanation."""
ROUNDING = 4.0
"""Times what rounding moves the original, up to which a larger difference is rounding's too."""
SLOWEST = 0.98
"""Speed against the original that a model must not fall below; the rest is the clock's."""
LARGE_MB = 50.0
"""From here on models, not libraries, take most of the memory; those are told apart."""
COMPARISONS = (
    ("time_over_onnxslim", "wall_s", OURS, "onnxslim"),
    ("time_without_measuring_over_onnxslim", "wall_s", VERIFIED_ONLY, "onnxslim"),
    ("processor_time_over_onnxslim", "cpu_s", OURS, "onnxslim"),
    ("time_over_onnxsim", "wall_s", OURS, "onnxsim"),
    ("memory_over_onnxsim", "rss_mb", OURS, "onnxsim"),
)
"""Name, what is compared, and which tools."""
BARS = ("broken", "wrong", "nodes", "kernels", "time", "memory", "latency")


def rounding(original: Row) -> float:
    """Return how far rounding moves the original's outputs; infinite where it flips a decision."""
    moves = original.get("moves", {})
    return max((v for v in moves.values() if v is not None), default=0.0)


def is_wrong(made: Row, original: Row) -> bool:
    """Whether a tool's model computes something else, beyond what rounding explains."""
    error = made.get("error")
    return error is not None and error > max(TOLERANCE, ROUNDING * rounding(original))


def is_broken(made: Row) -> bool:
    """Whether a tool wrote no model, or one that the runtime does not open or run."""
    return "failed" in made or "refused" in made


def lost(made: Row, original: Row) -> dict[str, int]:
    """Return fused kernels of the original that a model has fewer of and runs no fewer kernels."""
    if is_broken(made) or made["executed"] < original["executed"]:
        return {}
    return {k: n - made["fused"].get(k, 0) for k, n in original["fused"].items()
            if made["fused"].get(k, 0) < n}  # fmt: skip


def best_rival(row: Row) -> tuple[str, int] | None:
    """Return the rival with the fewest nodes among those that run and are right."""
    tools, original = row["tools"], row["original"]
    found = [
        (tools[name]["nodes"], name)
        for name in RIVALS
        if name in tools and not is_broken(tools[name]) and not is_wrong(tools[name], original)
    ]
    return (min(found)[1], min(found)[0]) if found else None


def excess(row: Row) -> dict[str, int]:
    """Return, by operator, how many more ours has than the best rival, and how many fewer."""
    best = best_rival(row)
    ours = row["tools"].get(OURS, {}).get("operators")
    if best is None or ours is None:
        return {}
    theirs = row["tools"][best[0]]["operators"]
    apart = {op: ours.get(op, 0) - theirs.get(op, 0) for op in {*ours, *theirs}}
    return {op: apart[op] for op in sorted(apart, key=lambda o: (-apart[o], o)) if apart[op]}


def cost(row: Row, tool: str, what: str) -> float | None:
    """Return the median of a tool's rounds; of the one run that made the model without rounds."""
    runs = row["timed"].get(tool) or [row["tools"].get(tool, {}).get("run", {})]
    values = [r[what] for r in runs if what in r and not r["status"]]
    return statistics.median(values) if values else None


def ratio(row: Row, what: str, ours: str, peer: str) -> float | None:
    """Return ours over the peer's, of seconds or of memory."""
    one, other = cost(row, ours, what), cost(row, peer, what)
    return one / other if one and other else None


def misses(row: Row) -> list[str]:
    """Return, in words, the bars that graphopt misses on a model."""
    ours, original = row["tools"].get(OURS), row["original"]
    if ours is None or "refused" in original:
        return []
    if is_broken(ours):
        return ["broken"]
    found = ["wrong"] if is_wrong(ours, original) else []
    best = best_rival(row)
    if best is not None and ours["nodes"] > best[1]:
        found.append("nodes")
    if lost(ours, original):
        found.append("kernels")
    time = ratio(row, "wall_s" if row["timed"] else "cpu_s", OURS, "onnxslim")
    if time is not None and time > 1:
        found.append("time")
    memory = ratio(row, "rss_mb", OURS, "onnxsim")
    if memory is not None and memory > 0.5:
        found.append("memory")
    speed = row["race"].get(OURS)
    # Slower by the median and by the fastest rounds: either alone is what disturbed the race.
    if speed and max(speed["speed"], speed["minima"]) < SLOWEST:
        found.append("latency")
    return found


def geometric_mean(values: Sequence[float]) -> float | None:
    """Return the geometric mean, or None of nothing."""
    if not values:
        return None
    return round(math.exp(statistics.fmean(math.log(v) for v in values)), 4)


def spread(ratios: Sequence[float]) -> Row | None:
    """Return the geometric mean, the best and the worst of ratios that should be small."""
    if not ratios:
        return None
    best, worst = round(min(ratios), 3), round(max(ratios), 3)
    return {"mean": geometric_mean(ratios), "best": best, "worst": worst, "models": len(ratios)}


def summary(rows: Mapping[str, Row]) -> Row:
    """Return what all models show together."""
    judged = {
        n: r for n, r in rows.items() if OURS in r["tools"] and "refused" not in r["original"]
    }
    found: Row = {"models": len(judged)}
    for bar in BARS:
        found[bar] = [name for name, row in judged.items() if bar in misses(row)]
    found["nodes_over_best_rival"] = geometric_mean(
        [
            row["tools"][OURS]["nodes"] / best[1]
            for row in judged.values()
            if (best := best_rival(row)) and not is_broken(row["tools"][OURS])
        ]
    )
    for name, what, tool, peer in COMPARISONS:
        timed = [row for row in judged.values() if row["timed"] or what == "rss_mb"]
        ratios = [r for row in timed if (r := ratio(row, what, tool, peer))]
        found[name] = spread(ratios)
    large = [r for r in judged.values() if r["original"]["megabytes"] >= LARGE_MB]
    ratios = [r for row in large if (r := ratio(row, "rss_mb", OURS, "onnxsim"))]
    found["memory_of_large_over_onnxsim"] = spread(ratios)
    found["peers"] = {peer: _peer(peer, judged) for peer in PEERS}
    raced = [r["race"] for r in judged.values() if OURS in r["race"]]
    found["speed"] = geometric_mean([race[OURS]["speed"] for race in raced])
    found["speed_of_the_original_again"] = geometric_mean(
        [race["original again"]["speed"] for race in raced]
    )
    return found


def _peer(peer: str, rows: Mapping[str, Row]) -> Row:
    known = {n: r for n, r in rows.items() if peer in r["tools"]}
    tools = {n: r["tools"][peer] for n, r in known.items()}
    return {
        "models": len(known),
        "failed": [n for n, t in tools.items() if "failed" in t],
        "does_not_run": [n for n, t in tools.items() if "refused" in t],
        "wrong": [n for n, t in tools.items() if is_wrong(t, known[n]["original"])],
        "lost_kernels": [n for n, t in tools.items() if lost(t, known[n]["original"])],
        "fewer_nodes_than_ours": [
            n for n, t in tools.items()
            if not is_broken(t) and not is_broken(rows[n]["tools"][OURS])
            and t["nodes"] < rows[n]["tools"][OURS]["nodes"]
        ],
        "speed": geometric_mean(
            [r["race"][peer]["speed"] for r in known.values() if peer in r["race"]]
        ),
    }  # fmt: skip
