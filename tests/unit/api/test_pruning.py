"""Pruning as a part of a compile: goals, reports, refusals, repetition."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import graphopt
from graphopt import ir
from graphopt.errors import PassError, RecipeError
from graphopt.testing import run_cli
from tests.unit.api.digits import accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled

FLOAT = ("insert-qdq.placement=float", "quantize-matmuls.mode=off", "limits.never-slower=false")
"""Keep what is left in float: these tests are about what is left."""


def pruned(models: Path, goal: str, *overrides: str, **options: Any) -> Compiled:
    return graphopt.compile(
        models / "digits_resnet.onnx",
        target=options.pop("target", "arm"),
        data=options.pop("data", models / "digits.npz"),
        prune_to=goal,
        overrides=[*FLOAT, *overrides],
        **options,
    )


@pytest.fixture(scope="module")
def smaller(models: Path) -> Compiled:
    return pruned(models, "macs=0.75x")


def test_a_goal_is_reached_and_little_is_lost(smaller: Compiled, models: Path) -> None:
    record = smaller.report.pruning
    assert record is not None
    assert record.metric == "macs"
    assert record.after <= record.limit == pytest.approx(0.75 * record.before)
    assert record.sites
    assert record.options >= len(record.sites)
    assert record.divergence is not None
    assert record.divergence < 0.3  # found 0.07
    before = accuracy(ir.load(models / "digits_resnet.onnx"), models / "digits_test.npz")
    assert accuracy(smaller.graph, models / "digits_test.npz") > before - 0.03


def test_the_pass_proves_that_removal_was_exact(smaller: Compiled) -> None:
    (step,) = (p for p in smaller.report.passes if p.name == "prune-channels")
    assert step.status == "changed"
    assert step.effect == "reduced"
    assert step.metrics["oracle error"] <= 1e-5


def test_the_recipe_of_the_report_repeats_the_model(
    smaller: Compiled, models: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "again.toml"
    recipe.write_text(smaller.report.recipe, encoding="utf-8")
    again = graphopt.compile(
        models / "digits_resnet.onnx", recipe=recipe, data=models / "digits.npz"
    )
    assert again.to_bytes() == smaller.to_bytes()
    assert again.report.pruning is None


def test_scores_that_were_kept_change_nothing(
    smaller: Compiled, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    first = pruned(models, "macs=0.75x")
    (book,) = (tmp_path / "pruning").glob("*.jsonl")
    for made in (tmp_path / "pruning").glob("*.pruned"):
        made.unlink()
    lines = book.read_text(encoding="utf-8").splitlines()
    # As if the search had been killed in the middle of a line.
    book.write_text("\n".join(lines[: len(lines) // 2]) + '\n["half a', encoding="utf-8")
    second = pruned(models, "macs=0.75x")
    assert first.to_bytes() == second.to_bytes() == smaller.to_bytes()
    assert first.report.pruning == second.report.pruning == smaller.report.pruning


@pytest.mark.parametrize(
    "goal", ["latency=0.8x", "params=0.8x", "size=0.8x", "ram=0.95x", "macs=1.5M"]
)
def test_other_figures_can_be_asked_for(models: Path, goal: str) -> None:
    record = pruned(models, goal).report.pruning
    assert record is not None
    assert record.after <= record.limit < record.before
    assert record.source == "estimated"


def test_what_cannot_be_reached_is_said(models: Path) -> None:
    with pytest.raises(PassError) as caught:
        pruned(models, "macs=0.001x")
    assert caught.value.code == "G308"


def test_what_would_diverge_too_far_is_refused(models: Path) -> None:
    with pytest.raises(PassError) as caught:
        pruned(models, "macs=0.75x", "limits.max-divergence=0.0001")
    assert caught.value.code == "G307"
    assert "0.0001" in caught.value.message


@pytest.mark.parametrize(
    ("goal", "part"),
    [
        ("speed=0.5x", "is not a goal"),
        ("latency=1.5x", "is not less than now"),
        ("latency=3kB", "has no unit of latency"),
        ("macs", "is not a goal"),
    ],
)
def test_a_goal_that_is_none_is_a_clear_error(models: Path, goal: str, part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        pruned(models, goal)


@pytest.mark.parametrize(
    "override",
    [
        'prune-channels.widths=["nothing=4"]',
        'prune-channels.branches=["nothing=drop"]',
    ],
)
def test_names_that_are_none_are_refused(models: Path, override: str) -> None:
    with pytest.raises(PassError, match="there is no"):
        graphopt.compile(
            models / "digits_resnet.onnx",
            target="arm",
            data=models / "digits.npz",
            overrides=[*FLOAT, override],
        )


def test_a_goal_and_stated_widths_exclude_each_other(models: Path) -> None:
    with pytest.raises(RecipeError, match="exclude each other"):
        pruned(models, "macs=0.9x", 'prune-channels.widths=["a=4"]')


def test_an_unknown_criterion_is_refused(models: Path) -> None:
    with pytest.raises(RecipeError, match="block-obs"):
        pruned(models, "macs=0.9x", "prune-channels.criterion=best")


def test_excluded_layers_keep_their_width(smaller: Compiled, models: Path) -> None:
    record = smaller.report.pruning
    assert record is not None
    name = record.sites[0].name
    other = pruned(models, "macs=0.75x", f'prune-channels.exclude=["{name}"]').report.pruning
    assert other is not None
    assert name not in {site.name for site in other.sites}


def test_integers_come_on_top(models: Path) -> None:
    both = graphopt.compile(
        models / "digits_resnet.onnx",
        target="arm",
        data=models / "digits.npz",
        prune_to="macs=0.75x",
    )
    assert both.report.pruning is not None
    assert sum(o.execution == "integer" for o in both.report.operators) > 3
    assert accuracy(both.graph, models / "digits_test.npz") > 0.95  # float, whole: 0.994


def test_the_command_says_what_went(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    done = run_cli(
        *("compile", models / "digits_resnet.onnx", "--data", models / "digits.npz"),
        *("--target", "arm", "--prune-to", "macs=0.75x", "-o", output),
    )
    assert done.code == 0, done.err
    assert "Pruned to macs=0.75x" in done.out
    assert json.loads(output.with_suffix(".json").read_text())["pruning"]["goal"] == "macs=0.75x"
    refused = run_cli(
        *("compile", models / "digits_resnet.onnx", "--data", models / "digits.npz"),
        *("--target", "arm", "--prune-to", "macs=0.001x", "-o", tmp_path / "none.onnx"),
    )
    assert refused.code == 2
    assert "G308" in refused.err
    assert not (tmp_path / "none.onnx").exists()
