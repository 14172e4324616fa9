"""Searches of the shipped model: what is picked holds, and a second run makes nothing again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import graphopt
from graphopt import ir
from graphopt.errors import DataError, LimitError, RecipeError
from graphopt.registry import Registry
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Found


def run(models: Path, folder: Path, **asked: object) -> Found:
    told: dict[str, object] = {
        "target": "x86",
        "effort": "quick",
        "workers": 1,
        "data": models / "digits_test.npz",
    }
    return graphopt.search(models / "digits_resnet.onnx", folder=folder, **(told | asked))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    from tests.conftest import ROOT

    return run(ROOT / "models", tmp_path_factory.mktemp("search"), max_drop="1%")


def test_the_fastest_that_keeps_the_accuracy_is_picked(found: Found) -> None:
    record = found.record
    chosen = next(p for p in record.points if p.chosen)
    assert chosen.score is not None
    assert chosen.score.drop <= 1.0
    able = [p for p in record.points if p.status in {"front", "dominated"}]
    assert chosen.latency_ms == min(p.latency_ms for p in able if p.latency_ms is not None)
    assert chosen.latency_ms < record.original.latency_ms


def test_calibration_and_validation_are_different_samples(found: Found) -> None:
    record = found.record
    assert record.calibration_samples > 0
    assert record.validation_samples >= 100
    assert record.calibration_samples + record.validation_samples <= 797
    assert str(record.validation_samples) in record.guarantee


def test_what_is_returned_is_what_lies_in_the_folder(found: Found) -> None:
    chosen = next(p for p in found.record.points if p.chosen)
    kept = ir.load(found.folder / chosen.file)
    assert ir.structural_hash(kept) == ir.structural_hash(found.compiled.graph)
    report = found.compiled.report
    size = next(f for f in report.figures if f.name == "size")
    assert size.after == chosen.size_bytes
    assert report.source.path.endswith("digits_resnet.onnx")


def test_a_second_search_makes_nothing_again(found: Found, models: Path) -> None:
    again = run(models, found.folder, max_drop="2%")
    assert all(p.reused for p in again.record.points)
    assert {p.key for p in again.record.points} == {p.key for p in found.record.points}


def test_a_budget_alone_takes_the_most_accurate_that_fits(found: Found, models: Path) -> None:
    small = run(models, found.folder, budgets={"max_size": "0.4x"})
    chosen = next(p for p in small.record.points if p.chosen)
    assert chosen.size_bytes <= 0.4 * small.record.original.size_bytes
    fitting = [p.score.drop for p in small.record.points if p.status in {"front", "dominated"}]
    assert chosen.score.drop == min(fitting)


def test_a_budget_that_nothing_keeps_is_told_with_the_nearest(found: Found, models: Path) -> None:
    with pytest.raises(LimitError, match="no model holds") as caught:
        run(models, found.folder, budgets={"max_size": "1kB"})
    assert caught.value.code == "G507"
    assert caught.value.compiled is not None
    assert caught.value.search is not None


def test_a_point_is_picked_by_its_key(found: Found, models: Path) -> None:
    key = next(p.key for p in found.record.points if p.label == "float")
    named = run(models, found.folder, pick=key)
    assert next(p.label for p in named.record.points if p.chosen) == "float"
    with pytest.raises(RecipeError, match="neither a rule nor a key"):
        run(models, found.folder, pick="zz")
    with pytest.raises(RecipeError, match="no point"):
        run(models, found.folder, pick="0" * len(key))


def test_float_computes_what_the_original_does(found: Found, models: Path) -> None:
    key = next(p.key for p in found.record.points if p.label == "float")
    named = run(models, found.folder, pick=key)
    with np.load(models / "digits_test.npz") as data:
        feed = {"input": data["input"][:4]}
    before = open_session(ir.load(models / "digits_resnet.onnx")).run(feed)
    after = open_session(named.compiled.graph).run(feed)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-4, atol=1e-4)


def test_a_search_needs_data_that_it_can_judge_by(models: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run(models, tmp_path, data=models / "missing.npz")


def test_workers_may_use_the_plugins_that_the_search_may(models: Path, tmp_path: Path) -> None:
    asked = {p.name for p in Registry().plugins() if p.name != "graphopt"}
    assert set(Registry().plugin_names) == asked
    assert Registry(plugins=()).plugin_names == ()
    alone = run(models, tmp_path, registry=Registry(plugins=()), budgets={"max_size": "0.9x"})
    assert any(p.chosen for p in alone.record.points)
