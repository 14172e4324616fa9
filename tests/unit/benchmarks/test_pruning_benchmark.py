"""The rules of the pruning benchmark: which bars there are, what competes, what is kept."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.testing import graph

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def row(**changes: Any) -> dict[str, Any]:
    return {"top1": 86.0, "macs_ratio": 1.31, "speed": 1.1} | changes


def goal(load: Any, metric: str = "macs") -> Any:
    return load("pruning_bars").Goal(metric, 1.3, 85.0, 87.0)


def missed(found: dict[str, bool]) -> list[str]:
    return [text.partition(": ")[2] for text, holds in found.items() if not holds]


def test_a_row_that_does_all_that_is_asked_misses_no_bar(load: Any) -> None:
    integer = row(top1=85.8, interval_on_pruned=[0.1, 0.3])
    found = load("pruning_bars").verdicts(goal(load), row(estimated_speed=1.2), integer)
    assert not missed(found)
    assert len(found) == 6


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"macs_ratio": 1.29}, "reached"),
        ({"top1": 84.98}, "top-1 at least 85"),
        ({"speed": 0.97}, "not slower than the original"),
        ({"predicted_speed": 1.1 / 1.16}, "time predicted within 15%"),
        ({"estimated_speed": 1.1 / 0.84}, "time estimated within 15%"),
    ],
)
def test_each_bar_is_missed_alone(load: Any, changes: dict[str, float], text: str) -> None:
    assert missed(load("pruning_bars").verdicts(goal(load), row(**changes), None)) == [text]


def test_a_goal_of_time_is_reached_by_time(load: Any) -> None:
    wanted = goal(load, "latency")
    assert wanted.reached(row(speed=1.28, macs_ratio=1.0))
    assert not wanted.reached(row(speed=1.27, macs_ratio=2.0))


def test_a_model_that_was_not_made_misses_its_goal(load: Any) -> None:
    module = load("pruning_bars")
    assert missed(module.verdicts(goal(load), None, None)) == ["pruned"]
    assert module.aims(goal(load), None) == {}


@pytest.mark.parametrize(
    ("top1", "interval", "holds"),
    [(85.5, [0.2, 0.8], True), (85.4, [0.2, 1.0], False), (85.0, [-0.1, 2.1], True)],
)
def test_int8_may_lose_half_a_point_or_more_by_chance(
    load: Any, top1: float, interval: list[float], holds: bool
) -> None:
    integer = row(top1=top1, interval_on_pruned=interval)
    found = load("pruning_bars").verdicts(goal(load), row(), integer)
    assert bool(missed(found)) is not holds


def test_int8_must_gain_on_a_model_that_is_accurate_enough(load: Any) -> None:
    module = load("pruning_bars")
    subject = module.Subject("m", 10, (), 82.5)
    fast = {"top1": 80.0, "speed_over_int8": 2.0}
    right = {"top1": 85.0, "speed_over_int8": 1.1}
    both = {"top1": 82.5, "speed_over_int8": 1.25}
    assert set(module.integer_verdict(subject, {"a": fast, "b": right}).values()) == {False}
    assert set(module.integer_verdict(subject, {"a": fast, "c": both}).values()) == {True}
    assert module.integer_verdict(module.Subject("m", 10, (), None), {}) == {}


def test_every_goal_asks_for_less_than_it_aims_at(load: Any) -> None:
    for subject in load("pruning_bars").SUBJECTS:
        assert subject.images <= 1000
        assert all(g.least < g.aim and g.times > 1 for g in subject.goals)


NETWORK = """m (float[N, 3, 8, 8] x) => (float[N, 16, 2, 2] y)
    <float[16, 3, 3, 3] v, float[16, 16, 3, 3] w, float[16, 16, 3, 3] u> {
        a = Conv (x, v)
        b = Relu (a)
        c = Conv (b, w)
        y = Conv (c, u)
    }"""


def network(folder: Path) -> Path:
    path = folder / "model.onnx"
    ir.save(graph(NETWORK), path)
    return path


class FakeWorkload:
    name = "model"

    def __init__(self, path: Path) -> None:
        self.path = path

    def calibration(self) -> dict[str, Any]:
        return {"x": np.zeros((4, 3, 8, 8), np.float32)}


def test_one_share_of_all_inner_channels_uses_the_limit(load: Any, tmp_path: Path) -> None:
    module = load("pruning_contenders")
    path = network(tmp_path)
    # Multiply-accumulates by hand: output points, kernel, channels.
    whole = 36 * 9 * 3 * 16 + 16 * 9 * 16 * 16 + 4 * 9 * 16 * 16
    assert module.macs_of(path) == whole
    widths = module.uniform_widths(FakeWorkload(path), 0.5 * whole)
    found = dict(text.rsplit("=", 1) for text in widths)
    assert len(found) == 2
    (width,) = {int(count) for count in found.values()}

    def macs(n: int) -> int:
        return 36 * 9 * 3 * n + 16 * 9 * n * n + 4 * 9 * n * 16

    assert macs(width) <= 0.5 * whole < macs(width + 1)


def test_a_sweep_offers_the_model_that_comes_nearest_from_below(load: Any) -> None:
    module = load("pruning_peers")
    models = {Path("a"): 100, Path("b"): 80, Path("c"): 60}
    found = module.Sweep(models)
    assert found.within(85) == Path("b")
    assert found.within(79.7) == Path("b")
    assert found.within(50) is None


def test_a_tool_that_fails_says_why_and_is_not_asked_again(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("pruning_peers")
    script = tmp_path / "tool.py"
    script.write_text("import sys; raise ValueError(f'{sys.argv[1]} has no definition')")
    (tmp_path / "samples.py").write_text("")
    monkeypatch.setattr(module, "SCRIPTS", tmp_path)
    monkeypatch.setattr(module, "environment", lambda name, folder: Path(sys.executable))
    path = network(tmp_path)
    peer = module.PruningPeer("a tool", "onnxsim", "tool", "l2")
    first = module.sweep(peer, FakeWorkload(path), path, tmp_path)
    assert (first.models, first.reason) == ({}, "ValueError: model.onnx has no definition")
    monkeypatch.setattr(module, "environment", None)
    assert module.sweep(peer, FakeWorkload(path), path, tmp_path) == first


def test_a_compile_is_done_once_and_its_time_and_memory_are_kept(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("pruning_contenders")
    commands: list[list[str]] = []

    def run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
        commands.append(command)
        output = Path(command[command.index("-o") + 1])
        output.write_bytes(b"a model")
        output.with_suffix(".json").write_text(json.dumps({"notices": []}))
        return {"seconds": 3.0, "peak_mb": 90.0, "reason": ""}

    monkeypatch.setattr(module, "measured", run)
    monkeypatch.setattr(module, "images", lambda workload, count: np.zeros((count, 3, 8, 8)))
    bars = load("pruning_bars")
    asked = bars.Goal("latency", 1.6, 1.0, 2.0)
    subject = bars.Subject("model", 4, (asked,), None)
    made = []
    for _ in range(2):
        shop = module.Workshop(subject, FakeWorkload(network(tmp_path)), tmp_path)
        made.append(shop.pruned(asked))
    assert made[0] == made[1]
    assert (made[0].seconds, made[0].peak_mb, made[0].scores_kept) == (3.0, 90.0, False)
    assert len(commands) == 1
    assert "latency=0.6250x" in commands[0]
    assert shop.pruned(bars.Goal("macs", 2.0, 1.0, 2.0)).scores_kept
    assert f"macs={module.macs_of(shop.workload.path) // 2}" in commands[1]


def test_time_memory_and_last_words_of_a_process_are_measured(load: Any) -> None:
    module = load("pruning_contenders")
    fine = module.measured([sys.executable, "-c", "x = bytes(50_000_000)"], {})
    assert fine["reason"] == ""
    assert fine["peak_mb"] > 50
    script = "import sys; print('too much was asked', file=sys.stderr); sys.exit(2)"
    assert module.measured([sys.executable, "-c", script], {})["reason"] == "too much was asked"


def test_the_rows_say_what_the_search_promised_and_whether_it_would_be_refused(load: Any) -> None:
    module, contenders = load("pruning"), load("pruning_contenders")
    site = {"name": "w", "before": 16, "after": "8", "divergence": 0.1, "saved": 1.0}
    record = {
        "goal": "latency=0.5x", "metric": "latency", "before": 4.0, "after": 2.0,
        "predicted_after": 1.6, "predicted_divergence": 0.6, "divergence": 0.7, "options": 9,
        "sites": [site],
    }  # fmt: skip
    found = module.promised(contenders.Made(None, {"pruning": record}))
    assert (found["predicted_speed"], found["speed_in_search"]) == (2.5, 2.0)
    assert found["refused_by_default"]
    assert found["removed"] == ["w 16 -> 8"]
    assert module.promised(contenders.Made(None, {})) == {}


def test_a_table_has_a_line_for_every_kind_of_contender(load: Any, capsys: Any) -> None:
    plain = {
        "top1": 87.3, "drop": 0.0, "interval": [0.0, 0.0], "speed": 1.0, "speed_minima": 1.0,
    }  # fmt: skip
    ours = plain | {
        "macs_ratio": 1.5, "asked": "macs=1", "predicted_divergence": 0.2, "divergence": 0.1,
        "estimated_speed": 1.2, "seconds": 9.0, "peak_mb": 100.0,
    }  # fmt: skip
    record = {
        "fp32_ms": 1.0, "disturbed": True, "failed": {"tool": "no definition"},
        "contenders": {"fp32": plain, "ours": ours, "int8": plain | {"speed_over_int8": 2.0}},
        "bars": {"a": True, "b": False}, "aims": {},
    }  # fmt: skip
    load("pruning").show("m", record)
    said = capsys.readouterr().out
    for text in ("DISTURBED", "1.5x", "0.2, 0.1", "2.0 over int8", "no definition", "1 of 2"):
        assert text in said
