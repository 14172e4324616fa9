"""Records for pages: a search that was not run, and a model whose every name is hostile."""

from __future__ import annotations

import dataclasses
import random

from graphopt import report as r

HOSTILE = "<script>alert('x')</script>\"'&{{ 7*7 }}$\\frac{1}{2}$ url(http://evil.example/a)"


def score(value: float, reference: float = 91.7) -> r.ScoreRecord:
    drop = reference - value
    return r.ScoreRecord(
        "top-1", "%", value, value - 1.4, value + 1.2, 1000, drop, drop - 0.7, drop + 0.6
    )


def point(key: str, status: str, ms: float | None, value: float | None) -> r.PointRecord:
    return r.PointRecord(
        key=key,
        label=f"candidate {key}",
        settings=("insert-qdq.placement=integer",),
        status=status,
        score=None if value is None else score(value),
        latency_ms=ms,
        speedup=None if ms is None else 0.8 / ms,
        size_bytes=None if ms is None else round(1e6 * ms),
        ram_bytes=49_152,
        energy=ms,
        why="because",
    )


def search(count: int = 30) -> r.SearchRecord:
    rng = random.Random(3)
    tried = [
        point(f"k{i}", rng.choice(["dominated", "too lossy", "over budget"]), ms, 80 + 14 * ms)
        for i, ms in enumerate(0.2 + 0.5 * rng.random() for _ in range(count))
    ]
    front = [point("f0", "front", 0.3, 90.0), point("f1", "front", 0.4, 91.0)]
    chosen = dataclasses.replace(point("best", "front", 0.35, 90.9), chosen=True)
    failed = point("bad", "failed", None, None)
    stopped = dataclasses.replace(point("half", "stopped early", 0.5, 85.0), reused=True)
    return r.SearchRecord(
        budgets={"max-drop": "1%", "time-limit": "5min"},
        effort="normal",
        guarantee="at most 1 point is lost",
        calibration_samples=112,
        validation_samples=1000,
        original=point("original", "dominated", 0.8, 91.7),
        points=(*tried, *front, chosen, failed, stopped),
        stopped="nothing better was found",
        workers=2,
        executor="processes",
        seconds=184.2,
    )


def kernels(count: int, name: str = "n") -> tuple[r.KernelRecord, ...]:
    rng = random.Random(count)
    kinds = ("Conv", "Add", "Mul")
    precisions = ("int8", "float32", "float16")
    return tuple(
        r.KernelRecord(
            f"{name}{i}",
            rng.choice(kinds),
            rng.choice(kinds),
            rng.choice(precisions),
            rng.random() * 50,
            2,
            tuple(sorted({rng.randrange(i) for _ in range(2)})) if i else (),
        )
        for i in range(count)
    )


def report(layers: int = 8, kernel_count: int = 12, text: str = "conv") -> r.Report:
    """Return a report in which every text that a model or a user decides is ``text``."""
    facts = r.ModelFacts(f"{text}.onnx", 40, 1000, 1_000_000, 17, "d1")
    rows = tuple(
        r.LayerRecord(
            f"{text}{i}", text, text, text, "float32", "int8", 64, 32, 3.0 + i, 1.0, 20.0, text
        )
        for i in range(layers)
    )
    noise = tuple(
        r.LayerSensitivity(f"{text}{i}", text, 5.0 * i, float("inf"), 20.0, float("nan"), text)
        for i in range(layers)
    )
    return r.Report(
        graphopt="0.1.0",
        versions={"onnxruntime": text},
        machine={"system": text, "isa": [text]},
        target=text,
        source=facts,
        result=dataclasses.replace(facts, size_bytes=300_000),
        recipe=f"# {text}\n[limits]\nmin-snr-db = 10.0\n",
        passes=(
            r.PassRecord(text, "exact", {}, "unchanged", 0.1),
            r.PassRecord("insert-qdq", "approximate", {}, "changed", 0.1, (text,), snr_db=31.0),
            r.PassRecord("prune", "exact", {}, "rolled back", 0.1, reason=text, max_error=0.5),
        ),
        operators=(),
        figures=(
            r.FigureRecord("size", "bytes", 1e6, 3e5, "measured", text),
            r.FigureRecord("latency", "ms", 0.8, 0.3, "estimated", text, 0.2, 0.4),
        ),
        candidates=(r.CandidateRecord(text, 2.5, "estimated", 31.0, True, text),),
        explanations=(r.Explanation(text, text, text),),
        notices=(r.Notice("W501", text, text),),
        calibration=r.CalibrationRecord(text, 112, 16, "d2", text),
        precision=r.PrecisionRecord(
            text, "%", 90.0, 88.0, 91.0, (r.ReturnedOperator(text, 9.0, text),), 7, True, text
        ),
        pruning=r.PruningRecord(
            text, "latency", 0.8, 0.5, 0.4, 0.45, 0.1, "estimated",
            (r.PrunedSite(text, 64, "32@wanda", 0.05, 0.1),), 9, 24, 0.1,
            orders=(r.OrderRecord("prune-first", 0.4, 0.1, True, text),),
        ),
        layers=rows,
        kernels=r.KernelsRecord(kernels(kernel_count, text), kernels(kernel_count + 3, text)),
        sensitivity=r.SensitivityRecord(16, noise, {text: 29.0}),
        seconds=2.0,
        recovery=(
            r.RecoveryRecord("distill-weights", "quantized", 250, 90.0, 0.4, 0.1, text, True, text),
        ),
    )  # fmt: skip


def hostile_search() -> r.SearchRecord:
    found = search()
    points = tuple(
        dataclasses.replace(p, label=HOSTILE, settings=(HOSTILE,), why=HOSTILE)
        for p in found.points
    )
    return dataclasses.replace(
        found,
        points=points,
        budgets={HOSTILE: HOSTILE},
        effort=HOSTILE,
        guarantee=HOSTILE,
        stopped=HOSTILE,
        executor=HOSTILE,
    )
