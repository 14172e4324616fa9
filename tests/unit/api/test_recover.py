"""Recovery by training as part of a compile: when it happens, on what, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import graphopt
from graphopt import api
from graphopt.cli.render_recovery import recovered
from graphopt.errors import PassError, RecipeError
from graphopt.recipe import PassEntry, Recipe, parse_recipe
from graphopt.registry import Registry
from graphopt.report.stored import read_report, report_text
from tests.unit.api.races import lose_first_race
from tests.unit.api.training import SEEN, DistillWeights, registry_with

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.api import Compiled

INTEGER = ("insert-qdq.placement=integer", "align-channels.mode=off")
FLOAT = ("insert-qdq.placement=float", "quantize-matmuls.mode=off")
PRUNED = (
    'prune-channels.widths=["stage2.conv2.weight_fused=24@l2","stage2.conv1.weight_fused=40@l2"]',
    "prune-channels.effort=quick",
)
TRAINING = "distill-weights"


@pytest.fixture
def registry() -> Registry:
    SEEN.clear()
    return registry_with(DistillWeights)


def compiled(models: Path, *overrides: str, **options: Any) -> Compiled:
    options = {"target": "arm", "data": models / "digits.npz", **options}
    overrides = ("limits.never-slower=false", *overrides)
    return graphopt.compile(models / "digits_resnet.onnx", overrides=overrides, **options)


def statuses(made: Compiled) -> list[str]:
    return [r.status for r in made.report.passes if r.name == TRAINING]


# -- without the plugin --------------------------------------------------------------------


def test_without_the_plugin_the_compile_works_and_says_what_it_would_add(models: Path) -> None:
    none = Registry(plugins=())
    made = compiled(models, *INTEGER, recover="light", registry=none)
    (notice,) = (n for n in made.report.notices if n.code == "W405")
    assert "graphopt-torch" in notice.message
    assert (notice.hint or "").startswith("pip install graphopt-torch")
    assert made.to_bytes() == compiled(models, *INTEGER, registry=none).to_bytes()
    assert made.report.recovery == ()


def test_off_and_nothing_said_are_the_same_and_no_news(models: Path) -> None:
    made = compiled(models, *INTEGER, recover="off", registry=Registry(plugins=()))
    assert not [n for n in made.report.notices if n.code == "W405"]


def test_a_recipe_that_trains_without_the_plugin_names_it(models: Path) -> None:
    own = Recipe(target="arm", passes=(PassEntry(TRAINING),))
    none = Registry(plugins=())
    with pytest.raises(RecipeError) as raised:
        graphopt.compile(models / "digits_resnet.onnx", recipe=own, registry=none)
    assert raised.value.code == "G105"
    assert "pip install graphopt-torch" in (raised.value.hint or "")
    with pytest.raises(RecipeError) as raised:
        none.pass_class(TRAINING)
    assert "pip install graphopt-torch" in (raised.value.hint or "")


def test_a_misspelt_amount_is_told_before_any_work(models: Path) -> None:
    with pytest.raises(RecipeError, match="no amount of training"):
        compiled(models, recover="fulll", registry=Registry(plugins=()))


# -- where and on what ---------------------------------------------------------------------


def test_it_trains_what_was_pruned_and_what_was_quantized(models: Path, registry: Registry) -> None:
    told = (*PRUNED, *INTEGER, "calibration.samples=32")
    made = compiled(models, *told, recover="minutes=3", registry=registry)
    assert [(s.steps, s.quantized) for s in SEEN] == [(2000, False), (1000, True)]
    # Not the samples that ranges are measured on, but those that layers are fitted to.
    assert {s.samples for s in SEEN} == {112}
    assert len({s.nodes_of_original for s in SEEN}) == 1
    names = [r.name for r in made.report.passes]
    before = [names[i - 1] for i, name in enumerate(names) if name == TRAINING]
    assert before == ["prune-channels", "quantize-matmuls"]
    assert [(r.of, r.steps, r.kept) for r in made.report.recovery] == [
        ("float", 2000, True),
        ("quantized", 1000, True),
    ]
    entries = [e.options for e in parse_recipe(made.report.recipe).passes if e.use == TRAINING]
    assert [(e["minutes"], e["steps"]) for e in entries] == [(0.0, 2000), (0.0, 1000)]
    again = graphopt.compile(
        models / "digits_resnet.onnx",
        recipe=parse_recipe(made.report.recipe),
        data=models / "digits.npz",
        registry=registry,
    )
    assert again.to_bytes() == made.to_bytes()
    assert [s.steps for s in SEEN] == [2000, 1000, 2000, 1000]


def test_trials_of_pruning_and_of_placements_train_nothing(
    models: Path, registry: Registry
) -> None:
    told = ("prune-channels.order=auto", "prune-channels.effort=quick")
    compiled(models, *told, prune_to="latency=0.9x", recover="steps=5", registry=registry)
    assert len(SEEN) <= 2
    assert not SEEN[0].quantized


def test_ranges_are_those_of_the_trained_model(models: Path, registry: Registry) -> None:
    """The quantizers see other weights than without training, so nothing old may answer."""
    told = (*PRUNED, *INTEGER)
    plain = compiled(models, *told, registry=registry)
    only = f"{TRAINING}#2.steps=0"
    made = compiled(models, *told, only, recover="steps=5", registry=registry)
    assert made.to_bytes() != plain.to_bytes()
    assert [s.quantized for s in SEEN] == [False]


def test_what_was_not_quantized_is_not_trained_again(models: Path, registry: Registry) -> None:
    made = compiled(models, *PRUNED, *FLOAT, recover="steps=5", registry=registry)
    assert [s.quantized for s in SEEN] == [False]
    assert statuses(made) == ["changed", "unchanged"]


def test_nothing_is_trained_where_nothing_was_lost(models: Path, registry: Registry) -> None:
    made = compiled(models, *FLOAT, recover="steps=5", registry=registry)
    assert not SEEN
    assert made.report.recovery == ()


def test_a_recipe_without_a_cause_says_so(models: Path, registry: Registry) -> None:
    made = compiled(models, recipe="lossless", recover="full", registry=registry)
    (notice,) = (n for n in made.report.notices if n.code == "W405")
    assert "neither prunes nor quantizes" in notice.message


def test_training_between_passes_that_are_tried_is_refused(
    models: Path, registry: Registry
) -> None:
    passes = (
        PassEntry("insert-qdq", {"placement": "auto"}),
        PassEntry(TRAINING, {"steps": 1}),
        PassEntry("quantize-matmuls", {"mode": "auto"}),
    )
    with pytest.raises(RecipeError, match="stands between") as raised:
        compiled(models, recipe=Recipe(target="arm", passes=passes), registry=registry)
    assert "behind `quantize-matmuls`" in (raised.value.hint or "")


# -- limits --------------------------------------------------------------------------------


def test_pruning_too_far_is_judged_after_training(models: Path, registry: Registry) -> None:
    told = (*PRUNED, *FLOAT)
    made = compiled(models, *told, recover="steps=5", registry=registry)
    (record,) = made.report.recovery
    assert record.before is not None
    assert record.after == pytest.approx(record.before / 2)
    assert record.won == pytest.approx(0.5)
    (found,) = (r.metrics["divergence"] for r in made.report.passes if r.name == "prune-channels")
    between = f"limits.max-divergence={(min(found, record.before) + record.after) / 2}"
    assert compiled(models, *told, between, recover="steps=5", registry=registry).report.recovery
    with pytest.raises(PassError) as raised:
        compiled(models, *told, between, registry=registry)
    assert raised.value.code == "G307"
    below = f"limits.max-divergence={record.after / 2}"
    with pytest.raises(PassError, match="even after training") as raised:
        compiled(models, *told, below, recover="steps=5", registry=registry)
    assert raised.value.code == "G307"


def test_a_stated_drop_is_judged_on_what_was_trained(models: Path, registry: Registry) -> None:
    told = (*PRUNED, *INTEGER, "limits.max-drop=5%")
    made = compiled(models, *told, recover="steps=5", registry=registry)
    assert made.report.validation is not None
    assert made.report.validation.kept
    assert made.report.recovery


def test_a_plan_that_lost_its_race_takes_its_training_with_it(
    models: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_first_race(monkeypatch)
    told = {"target": "host", "recover": "steps=5", "registry": registry}
    made = compiled(models, *PRUNED, **told)
    if len(SEEN) < 2:
        pytest.skip("float was faster to begin with")
    assert statuses(made) == ["changed", "rolled back"]
    assert not made.graph.nodes("DequantizeLinear")
    entries = [e.options for e in parse_recipe(made.report.recipe).passes if e.use == TRAINING]
    assert [e["steps"] for e in entries] == [5, 0]


def test_what_is_trained_was_not_fitted_to_the_samples_that_judge_it(
    models: Path, registry: Registry
) -> None:
    """In a recipe of one's own too; unless it says otherwise."""
    pruning = {"widths": ["stage2.conv2.weight_fused=24@l2"], "effort": "quick"}
    for stated, refit in (({}, False), ({"refit": True}, True)):
        asked = Recipe(
            target="arm",
            passes=(
                PassEntry("fold-constants"),
                PassEntry("fuse-conv-batchnorm"),
                PassEntry("prune-channels", {**pruning, **stated}),
                PassEntry(TRAINING, {"steps": 5}),
            ),
        )
        made = graphopt.compile(
            models / "digits_resnet.onnx",
            data=models / "digits.npz",
            recipe=asked,
            registry=registry,
        )
        (entry,) = (e for e in parse_recipe(made.report.recipe).passes if e.use.startswith("prune"))
        assert entry.options["refit"] is refit


# -- what is said --------------------------------------------------------------------------


def test_the_report_says_what_was_won(models: Path, registry: Registry) -> None:
    made = compiled(models, *INTEGER, recover="steps=5", registry=registry)
    stored = read_report(report_text(made.report))
    assert stored.recovery == made.report.recovery
    head, line = recovered(made.report.recovery)
    assert "divergence" in head
    assert line.split()[:3] == ["quantized", "model", "5"]
    assert line.endswith("kept")


def test_the_recipe_can_be_resolved_without_compiling(registry: Registry) -> None:
    found = api.resolve_recipe(recover="light", registry=registry)
    assert found.recover == "light"
    assert [e.use for e in found.recipe.passes].count(TRAINING) == 2


def test_extra_samples_that_nothing_is_trained_on_are_told_of(models: Path) -> None:
    extra = f"calibration.extra={models / 'digits.npz'}"
    made = compiled(models, *INTEGER, extra)
    (notice,) = (n for n in made.report.notices if n.code == "W405")
    assert "calibration.extra" in notice.message
