"""Training as a move of a search: what is trained, for how long, and what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import graphopt
from graphopt.api.searching import trial
from graphopt.api.searching.training import (
    steps_for,
    with_idle_training,
    with_training,
    without_idle_training,
)
from graphopt.planner.joint import Candidate
from graphopt.recipe import layered, preset
from graphopt.registry import Registry
from tests.unit.api.training import SEEN, DistillWeights, registry_with

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Found

PRUNED = Candidate("int8, pruned", ("prune-channels.to=latency=0.8x",))
READY = with_idle_training(preset("default"))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Return passes with one that trains; the worker, which is this process, has it too."""
    SEEN.clear()
    made = registry_with(DistillWeights)
    monkeypatch.setattr(trial, "_registry", lambda plugins: made)
    return made


def run(models: Path, folder: Path, registry: Registry, **asked: Any) -> Found:
    told: dict[str, Any] = {"target": "arm", "effort": "quick", "data": models / "digits_test.npz"}
    told |= {"max_drop": "0%", "recover": "steps=30", "folder": folder, "workers": 1}
    told |= {"registry": registry, "overrides": ["limits.metric=output-snr"]}
    return graphopt.search(models / "digits_resnet.onnx", **(told | asked))


def test_pruned_models_are_trained_in_float_and_once_more_in_integers() -> None:
    found = with_training(PRUNED, READY, 300)
    assert found is not None
    steps = ("distill-weights#1.steps=200", "distill-weights#2.steps=100")
    assert found.overrides[1:] == (*steps, "prune-channels.refit=false")
    assert found.trainer.startswith("graphopt-torch")


def test_others_are_trained_quantized() -> None:
    found = with_training(Candidate("int8"), READY, 300)
    assert found is not None
    assert found.overrides == ("distill-weights#2.steps=300",)
    weights = with_idle_training(preset("weight-only"))
    found = with_training(Candidate("4 bits", recipe="weight-only"), weights, 300)
    assert found is not None
    assert found.overrides == ("distill-weights#1.steps=300",)


def test_a_recipe_that_loses_nothing_has_nothing_to_train() -> None:
    assert with_training(Candidate("x"), preset("lossless"), 300) is None


def test_idle_training_changes_nothing_about_a_recipe() -> None:
    assert without_idle_training(READY) == preset("default")
    busy = layered(recover="light").recipe
    assert len(without_idle_training(busy).passes) == len(preset("default").passes) + 1


def test_steps_follow_the_size_of_the_model_and_not_of_the_machine() -> None:
    assert steps_for(60.0, 0, 100) == 600
    assert steps_for(60.0, 60_000_000, 72) == 300
    assert steps_for(60.0, 10**12, 100) == 20
    assert steps_for(1e9, 1, 1) == 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all searches here keep their models: only what is trained differs."""
    return tmp_path_factory.mktemp("search")


def test_without_the_plugin_a_search_says_what_it_would_add(models: Path, folder: Path) -> None:
    found = run(models, folder, Registry(plugins=()))
    assert "W405" in {n.code for n in found.compiled.report.notices}


def test_what_missed_the_drop_is_trained_and_kept(
    models: Path, folder: Path, registry: Registry
) -> None:
    before = run(models, folder, registry, recover=None)
    found = run(models, folder, registry)
    # What was made without training serves a search with it.
    (point,) = (p for p in found.record.points if not p.reused)
    assert {p.key for p in before.record.points} == {
        p.key for p in found.record.points if p.key != point.key
    }
    assert any("distill-weights" in setting for setting in point.settings)
    assert point.label.endswith("trained for 30 steps")
    assert point.score is not None
    assert [(s.steps, s.quantized) for s in SEEN] == [(30, True)]
    SEEN.clear()
    again = run(models, folder, registry)
    assert SEEN == []
    assert all(p.reused for p in again.record.points)


def test_no_training_begins_that_would_outlast_the_time(
    models: Path, folder: Path, registry: Registry
) -> None:
    found = run(models, folder, registry, recover="minutes=30", seconds=200)
    assert SEEN == []
    assert found.record.stopped == "the time was up"
