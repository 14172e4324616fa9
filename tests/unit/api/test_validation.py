"""A compile with a stated drop says how accurate the result is, and on which samples."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import graphopt
from graphopt.errors import LimitError
from graphopt.recipe import PassEntry, Recipe, parse_recipe
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled
    from graphopt.ir import Graph

CLASSES = """m (float[N, 16] x) => (float[N, 4] y) <float[16, 16] w0, float[16, 4] w1> {
  [m0] a = MatMul (x, w0)  r = Relu (a)
  [m1] y = MatMul (r, w1) }"""
INTEGER = Recipe(passes=(PassEntry("calibrate"), PassEntry("insert-qdq", {"placement": "integer"})))


def weights() -> tuple[Any, Any]:
    random = np.random.default_rng(5)
    first = (random.normal(size=(16, 16)) * 0.3).astype(np.float32)
    return first, random.normal(size=(16, 4)).astype(np.float32)


def classifier() -> Graph:
    first, second = weights()
    return graph(CLASSES, w0=first, w1=second)


def samples(count: int, seed: int = 0, *, labels: bool = True) -> dict[str, Any]:
    x = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    first, second = weights()
    found = {"x": x, "labels": (np.maximum(x @ first, 0) @ second).argmax(axis=1)}
    return found if labels else {"x": x}


def compiled(data: Any, *limits: str, **more: Any) -> Compiled:
    stated = [f"limits.{each}" for each in (*limits, "min-snr-db=-100")]
    return graphopt.compile(
        classifier(), data=data, recipe=INTEGER, target="x86-avx512-vnni", overrides=stated, **more
    )


@pytest.mark.parametrize("drop", ["2%", "2"])
def test_the_report_says_what_was_kept_and_on_which_samples(drop: str) -> None:
    done = compiled(samples(600), f"max-drop={drop}")
    record = done.report.validation
    assert record is not None
    assert (record.samples, record.calibration_samples, record.dropped) == (472, 128, 0)
    assert (record.allowed, record.original, record.score.metric) == (2.0, 100.0, "top1")
    assert record.kept
    assert record.score.drop <= 2
    assert record.certain == (record.score.drop_high <= 2)
    assert record.guarantee.startswith("On 472 validation samples")
    assert json.loads(done.to_json())["validation"]["score"]["drop"] == record.score.drop
    assert parse_recipe(done.report.recipe).calibration.set_aside == 472
    assert done.report.calibration is not None
    assert done.report.calibration.samples == 128


def test_without_a_stated_drop_nothing_is_said_or_set_aside() -> None:
    done = compiled(samples(600))
    assert done.report.validation is None
    assert parse_recipe(done.report.recipe).calibration.set_aside is None


def test_what_is_kept_aside_for_others_is_not_calibrated_on() -> None:
    data = samples(300)
    one = compiled(data, "max-drop=50", validate=True)
    count = parse_recipe(one.report.recipe).calibration.set_aside
    assert count == 150
    # The same split without a drop, from the recipe alone: the same ranges, the same bytes.
    told = parse_recipe(one.report.recipe)
    free = dataclasses.replace(told, limits=dataclasses.replace(told.limits, max_drop=None))
    again = graphopt.compile(classifier(), data=data, recipe=free)
    assert again.to_bytes() == one.to_bytes()


def test_samples_in_both_files_are_left_out_and_said(tmp_path: Path) -> None:
    data, other = samples(200, labels=False), samples(150, seed=1)
    other = {
        "x": np.concatenate([other["x"], data["x"]]),
        "labels": np.concatenate([other["labels"], samples(200)["labels"]]),
    }
    done = compiled(data, "max-drop=5", validation=other)
    record = done.report.validation
    assert record is not None
    assert (record.calibration_samples, record.dropped, record.samples) == (128, 128, 222)
    path = tmp_path / "judged.npz"
    np.savez(path, **other)
    by_path = compiled(data, "max-drop=5", validation=path)
    assert by_path.report.validation is not None
    assert by_path.report.validation.score == record.score
    assert parse_recipe(by_path.report.recipe).limits.validation == str(path)


def test_without_labels_decisions_are_compared_with_the_originals() -> None:
    record = compiled(samples(400, labels=False), "max-drop=5%").report.validation
    assert record is not None
    assert (record.score.metric, record.original) == ("agreement", 100.0)
    assert "how often the original itself is right" in record.guarantee


def test_a_metric_of_the_caller_may_be_a_function_or_a_name() -> None:
    def margin_kept(outputs: list[Any], labels: Any) -> float:
        return float(np.mean([o[0, y] for o, y in zip(outputs, labels, strict=True)]))

    done = compiled(samples(300), "max-drop=10%", metric=margin_kept)
    record = done.report.validation
    assert record is not None
    assert record.score.metric == "margin-kept"
    assert record.allowed == pytest.approx(0.1 * record.original)
    assert parse_recipe(done.report.recipe).limits.metric == "margin-kept"
    named = compiled(samples(300), "max-drop=0.5", metric="cross-entropy").report.validation
    assert named is not None
    assert (named.score.metric, named.score.unit) == ("cross-entropy", "nats")


def test_a_drop_that_is_not_kept_is_an_error_that_carries_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from graphopt.api.budget import Kept, Stated

    # As where a recipe demands pruning, which nothing takes back.
    monkeypatch.setattr(Stated, "keep", lambda _, steps, *rest: Kept(steps))
    with pytest.raises(LimitError, match=r"of top1 on 472 .* and 0 points may") as raised:
        compiled(samples(600), "max-drop=0")
    assert raised.value.code == "G311"
    assert raised.value.compiled is not None


def test_too_few_samples_for_a_drop_are_said() -> None:
    said = {n.code: n.message for n in compiled(samples(300), "max-drop=0.5").report.notices}
    assert said["W212"].startswith("172 validation samples cannot tell a drop of 0.5 points")
