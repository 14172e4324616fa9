"""MLPerf Tiny: networks as published, a fit that recovers what made the rows, figures in sync."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.cost import Roofline
from graphopt.targets import builtin_targets

ROOT = Path(__file__).parents[3]
RECORD = json.loads((ROOT / "benchmarks" / "results" / "mlperf_tiny.json").read_text("utf-8"))
TARGETS = {target.name: target for target in builtin_targets()}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.parametrize("integer", [True, False])
def test_products_are_counted_as_published(load: Any, integer: bool) -> None:
    published = {"ic": 12.5e6, "vww": 7.5e6, "kws": 2.66e6, "ad": 0.264e6}
    for name, build in load("tiny_networks").NETWORKS.items():
        macs = Roofline().estimate(build(integer=integer), TARGETS["cortex-m4"]).macs
        assert macs == pytest.approx(published[name], rel=0.01)


def test_every_product_is_in_one_class(load: Any) -> None:
    tiny, networks = load("mlperf_tiny"), load("tiny_networks").NETWORKS
    for name, build in networks.items():
        graph = build(integer=True)
        work = dict(zip(tiny.CLASSES, tiny.work_of(graph), strict=True))
        products = sum(work[k] for k in tiny.CLASSES[:5])
        assert products == pytest.approx(Roofline().estimate(graph, TARGETS["cortex-m4"]).macs)
        assert (work["unaligned"] > 0) == (name != "ad"), "the first convolution"


def test_the_fit_predicts_rows_that_its_model_made(load: Any) -> None:
    fit = load("tiny_fit")
    random = np.random.default_rng(0)
    networks = ("ic", "vww", "kws", "ad")
    work = {("s", n): random.uniform(1e4, 1e7, len(fit.CLASSES)) for n in networks}
    costs = np.array([fit.PRIOR[k] for k in fit.CLASSES]) * random.uniform(0.7, 1.4, 7)
    rows = [
        fit.Row(f"b{i}", "s", "", n, float(speed * (costs * work["s", n]).sum()))
        for i, speed in enumerate((1.0, 3.0, 0.2))
        for n in networks
    ]
    for case in rows:
        found = fit.Fit([r for r in rows if r is not case], work, fit.Spread())
        assert found.cycles(case) == pytest.approx(case.cycles, rel=0.05)


def test_a_build_option_is_predicted_from_other_boards(load: Any) -> None:
    fit = load("tiny_fit")
    work = {("s", n): np.full(7, 1e5 * i) for i, n in enumerate(("ic", "ad"), 1)}
    rows = [
        fit.Row(f"b{i}", "s", "", n, s * 1e6 * j)
        for i, s in enumerate((1.0, 2.0))
        for j, n in enumerate(("ic", "ad"), 1)
    ]
    rows.append(fit.Row("b0", "s", "fast", "ad", 1.0 * 2e6 / 1.5))
    case = fit.Row("b1", "s", "fast", "ad", 2.0 * 2e6 / 1.5)
    assert fit.Fit(rows, work, fit.Spread()).cycles(case) == pytest.approx(case.cycles, rel=0.05)


@pytest.mark.parametrize("name", sorted(RECORD["targets"]))
def test_targets_hold_what_the_benchmark_fitted(name: str) -> None:
    path = ROOT / "graphopt" / "targets" / "data" / f"{name}.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    for key, value in RECORD["targets"][name].items():
        if key == "active_watts":
            assert table["energy"][key] == value
        elif key == "dispatch_us":
            assert table["compute"][key] == value
        else:
            assert table["compute"]["efficiency"][key] == value


def test_the_bars_were_met_when_the_results_were_written() -> None:
    summary = RECORD["summary"]
    assert summary["latency_int8_with_sibling"]["within_25%"] == 45
    assert summary["energy"]["within_30%"] == summary["energy"]["rows"] == 12
    assert all(s["latency_int8_with_sibling"]["within_25%"] == 45 for s in RECORD["sensitivity"])


BOARDS = {
    "cortex-m0plus": "NUCLEO-G0B1RE, HALE",
    "cortex-m4": "NUCLEO-L4R5ZI, X-CUBE-AI 9",
    "cortex-m33": "NUCLEO-U575ZI, X-CUBE-AI 9",
    "cortex-m7": "NUCLEO-H7A3ZI, X-CUBE-AI 9",
}


@pytest.mark.parametrize("name", BOARDS)
def test_estimates_of_shipped_targets_are_near_the_published_rows(load: Any, name: str) -> None:
    networks = load("tiny_networks").NETWORKS
    rows = {
        r["network"]: r for r in RECORD["rows"] if (r["board"], r["variant"]) == (BOARDS[name], "")
    }
    for network, build in networks.items():
        found = Roofline().estimate(build(integer=True), TARGETS[name])
        assert found.latency_ms.value == pytest.approx(rows[network]["ms"], rel=0.15)
        if "uj" in rows[network]:
            assert found.energy_mj.value * 1e3 == pytest.approx(rows[network]["uj"], rel=0.2)
