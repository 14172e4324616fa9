"""Training asked for in one word: where it goes in a recipe, and how long it takes."""

from __future__ import annotations

from typing import Any

import pytest

from graphopt.errors import RecipeError
from graphopt.recipe import PassEntry, Recipe, Recovery, ResolvedRecipe, layered, preset_names
from graphopt.recipe.recovery import TRAINING, training_places

PRUNED = "prune-channels.to=macs=0.5x"


def trainings(resolved: ResolvedRecipe) -> list[tuple[str, dict[str, Any]]]:
    """Return the pass before each one that trains, and its options."""
    passes = resolved.recipe.passes
    return [(passes[i - 1].use, dict(e.options)) for i, e in enumerate(passes) if e.use == TRAINING]


@pytest.mark.parametrize(
    ("text", "minutes", "steps"),
    [
        ("off", 0.0, 0),
        ("light", 2.0, 0),
        ("full", 15.0, 0),
        ("minutes=5", 5.0, 0),
        ("minutes=0.5", 0.5, 0),
        ("steps = 200", 0.0, 200),
    ],
)
def test_an_amount_is_a_word_minutes_or_steps(text: str, minutes: float, steps: int) -> None:
    found = Recovery.parse(text)
    assert (found.minutes, found.steps) == (minutes, steps)
    assert found.trains == (text != "off")


@pytest.mark.parametrize("text", ["fully", "", "minutes", "minutes=x", "steps=1.5", "hours=1"])
def test_anything_else_is_told(text: str) -> None:
    with pytest.raises(RecipeError) as raised:
        Recovery.parse(text)
    assert raised.value.code == "G103"
    assert "steps=200" in (raised.value.hint or "")


def test_what_was_pruned_is_trained_in_float_and_once_more_quantized() -> None:
    found = trainings(layered(overrides=[PRUNED], recover="full"))
    assert found == [
        ("prune-channels", {"minutes": 10.0, "steps": 0}),
        ("quantize-matmuls", {"minutes": 5.0, "steps": 0}),
    ]


def test_what_judges_a_training_is_not_fitted_to_before() -> None:
    """On samples that a pruned model was fitted to, no training would make it better."""

    def refits(*overrides: str, recover: str) -> list[object]:
        entries = layered(overrides=overrides, recover=recover).recipe.passes
        return [e.options.get("refit") for e in entries if e.use == "prune-channels"]

    assert refits(PRUNED, recover="light") == [False]
    assert refits(PRUNED, "prune-channels.refit=true", recover="light") == [True]
    assert refits(PRUNED, recover="off") == [None]
    assert refits(recover="light") == [None]


def test_without_pruning_all_the_time_is_for_the_quantized_model() -> None:
    found = trainings(layered(recover="light"))
    assert [options["minutes"] for _, options in found] == [0.0, 2.0]


def test_steps_are_those_of_each_training() -> None:
    found = trainings(layered(overrides=[PRUNED], recover="steps=200"))
    assert [options for _, options in found] == [{"steps": 200}] * 2


def test_an_override_is_stronger_and_may_name_one_of_them() -> None:
    told = [PRUNED, f"{TRAINING}#2.steps=7"]
    found = trainings(layered(overrides=told, recover="steps=200"))
    assert [options["steps"] for _, options in found] == [200, 7]


def test_a_recipe_that_trains_keeps_its_passes_where_they_are() -> None:
    own = Recipe(
        passes=(
            PassEntry("insert-qdq", {"placement": "integer"}),
            PassEntry("eliminate-dead"),
            PassEntry(TRAINING, {"steps": 9, "rate": 0.1}),
        )
    )
    found = trainings(layered(recipe=own, recover="light"))
    assert found == [("eliminate-dead", {"steps": 0, "rate": 0.1, "minutes": 2.0})]
    off = trainings(layered(recipe=own, recover="off"))
    assert off == [("eliminate-dead", {"steps": 0, "rate": 0.1, "minutes": 0.0})]
    assert trainings(layered(recipe=own)) == [("eliminate-dead", {"steps": 9, "rate": 0.1})]


def test_off_adds_nothing() -> None:
    assert layered(recover="off").recipe == layered().recipe


@pytest.mark.parametrize("name", preset_names())
def test_places_of_all_other_values_stay_theirs(name: str) -> None:
    before, after = layered(recipe=name), layered(recipe=name, recover="full")
    origins = {k: v for k, v in after.origins.items() if TRAINING not in k}
    assert origins == dict(before.origins)
    ours = {v for k, v in after.origins.items() if TRAINING in k}
    assert ours <= {"--recover"}
    places = training_places([e.use for e in before.recipe.passes])
    assert len(after.recipe.passes) - len(before.recipe.passes) == len(places)
    assert "--recover" in after.sources
