"""Several goals of one model: what is shared between them, and what a quicker effort leaves out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import graphopt
from graphopt import ir
from graphopt.errors import PassError
from graphopt.passes.prune import prune_channels
from graphopt.planner.pruning import trials
from graphopt.planner.pruning.clock import Ledger
from graphopt.planner.pruning.scores import Scorer
from tests.unit.api.digits import accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled

FLOAT = ("insert-qdq.placement=float", "quantize-matmuls.mode=off", "limits.never-slower=false")
QUICK = "prune-channels.effort=quick"


def pruned(models: Path, goal: str, *overrides: str, **options: Any) -> Compiled:
    return graphopt.compile(
        models / "digits_resnet.onnx",
        target=options.pop("target", "arm"),
        data=options.pop("data", models / "digits.npz"),
        prune_to=goal,
        overrides=[*FLOAT, *overrides],
        **options,
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was known")


def test_a_further_goal_tries_nothing_again(
    cache: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned(models, "macs=0.8x", QUICK)
    monkeypatch.setattr(Scorer, "divergence", refuse)
    monkeypatch.setattr(Ledger, "savings", refuse)
    monkeypatch.setattr(trials, "moments_of", refuse)
    monkeypatch.setattr(trials, "fit_branches", refuse)
    for goal in ("macs=0.7x", "latency=0.8x", "size=0.8x"):
        record = pruned(models, goal, QUICK).report.pruning
        assert record is not None
        assert record.after <= record.limit


def test_what_was_made_is_not_fitted_again(
    cache: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pruned(models, "macs=0.8x", QUICK)
    monkeypatch.setattr(prune_channels, "assemble", refuse)
    again = pruned(models, "macs=0.8x", QUICK)
    assert again.to_bytes() == first.to_bytes()
    assert again.report.pruning == first.report.pruning
    notes = [[p.notes for p in made.report.passes] for made in (first, again)]
    assert notes[0] == notes[1]
    # The same smaller model, with other passes behind it.
    integers = graphopt.compile(
        models / "digits_resnet.onnx",
        target="arm",
        data=models / "digits.npz",
        prune_to="macs=0.8x",
        overrides=[QUICK],
    )
    assert any(o.execution == "integer" for o in integers.report.operators)


def test_other_data_are_another_search(
    cache: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned(models, "macs=0.8x", QUICK)
    with np.load(models / "digits.npz") as arrays:
        fewer = {name: values[:-1] for name, values in arrays.items()}
    monkeypatch.setattr(prune_channels, "assemble", refuse)
    with pytest.raises((AssertionError, PassError), match="this was known"):
        pruned(models, "macs=0.8x", QUICK, data=fewer)


@pytest.mark.parametrize("effort", ["quick", pytest.param("normal", marks=pytest.mark.slow)])
def test_bytes_depend_neither_on_the_cache_nor_on_who_else_searches(
    effort: str, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = f"prune-channels.effort={effort}"
    monkeypatch.setenv("GRAPHOPT_CACHE", "")
    plain = pruned(models, "latency=0.75x", option)
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    with ThreadPoolExecutor(2) as pool:
        goals = ["latency=0.75x", "latency=0.75x", "macs=0.8x"]
        made = list(pool.map(lambda goal: pruned(models, goal, option), goals))
    warm = pruned(models, "latency=0.75x", option)
    assert plain.to_bytes() == made[0].to_bytes() == made[1].to_bytes() == warm.to_bytes()
    assert plain.report.pruning == made[0].report.pruning == warm.report.pruning


@pytest.mark.parametrize("effort", ["quick", "normal"])
def test_a_quicker_search_reaches_the_goal_as_well(effort: str, models: Path) -> None:
    made = pruned(models, "macs=0.75x", f"prune-channels.effort={effort}")
    record = made.report.pruning
    assert record is not None
    assert record.after <= record.limit
    before = accuracy(ir.load(models / "digits_resnet.onnx"), models / "digits_test.npz")
    assert accuracy(made.graph, models / "digits_test.npz") > before - 0.05


def test_nothing_is_tried_for_a_goal_that_is_reached(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scorer, "divergence", refuse)
    record = pruned(models, "macs=1x").report.pruning
    assert record is not None
    assert record.sites == ()
    assert record.after <= record.limit


def test_three_samples_are_enough_to_decide_and_two_are_not(models: Path) -> None:
    with np.load(models / "digits.npz") as arrays:
        some = dict(arrays)
    name = next(iter(some))
    assert pruned(models, "macs=0.9x", QUICK, "limits.max-divergence=100",
                  data={name: some[name][:3]}).report.pruning  # fmt: skip
    with pytest.raises(PassError, match="one or two do not tell"):
        pruned(models, "macs=0.9x", QUICK, data={name: some[name][:2]})
