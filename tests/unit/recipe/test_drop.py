"""A largest drop: how it may be spelt, what it means, and that it survives being written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import RecipeError
from graphopt.recipe import Limits, Recipe, apply_overrides, parse_recipe, write_recipe
from graphopt.recipe.drop import Drop, parse_drop


@pytest.mark.parametrize(
    ("text", "drop"),
    [
        ("1%", Drop(1.0, True)),
        (" 0.50 % ", Drop(0.5, True)),
        ("1", Drop(1.0)),
        (0.25, Drop(0.25)),
        (3, Drop(3.0)),
        (".5%", Drop(0.5, True)),
        ("1e-3", Drop(0.001)),
        ("0%", Drop(0.0, True)),
    ],
)
def test_spellings(text: str | float, drop: Drop) -> None:
    assert parse_drop(text) == drop
    assert parse_drop(drop.spelling) == drop


@pytest.mark.parametrize("text", ["", "%", "one", "-1", "-1%", "1 dB", "1%%", "nan", "inf", -0.5])
def test_what_is_no_drop_is_told_with_what_is(text: str | float) -> None:
    with pytest.raises(RecipeError, match=r"must be a number of 0 or more .* or percent") as caught:
        parse_drop(text)
    assert caught.value.code == "G103"


def test_points_are_points_and_percent_are_of_the_originals_value() -> None:
    for stated in ("1%", "1", 1.0):
        assert parse_drop(stated).allowed("points", 87.3) == 1.0
    assert parse_drop("1%").allowed("dB", 26.0) == pytest.approx(0.26)
    assert parse_drop("1%").allowed("nats", -1.239) == pytest.approx(0.01239)
    assert parse_drop("0.3").allowed("dB", 26.0) == 0.3
    with pytest.raises(RecipeError, match="the original's `kl` is 0"):
        parse_drop("1%").allowed("nats", 0.0, "kl")
    assert parse_drop("0.02").allowed("nats", 0.0, "kl") == 0.02


@given(st.floats(0, 1e6), st.booleans())
def test_recipes_keep_it_byte_for_byte(amount: float, percent: bool) -> None:
    stated = Drop(amount, percent).spelling
    recipe = Recipe(limits=Limits(max_drop=stated))
    text = write_recipe(recipe)
    again = parse_recipe(text)
    assert again == recipe
    assert write_recipe(again) == text
    assert again.limits.max_drop is not None
    assert parse_drop(again.limits.max_drop) == Drop(amount, percent)


def test_the_command_line_takes_both_and_the_recipe_points_at_the_line() -> None:
    assert apply_overrides(Recipe(), ["limits.max-drop=1%"]).limits.max_drop == "1%"
    assert apply_overrides(Recipe(), ["limits.max-drop=1"]).limits.max_drop == 1.0
    assert apply_overrides(Recipe(), ['limits.max-drop="1.0 %"']).limits.max_drop == "1%"
    with pytest.raises(RecipeError, match=r"`limits\.max-drop` must be a number") as caught:
        parse_recipe('[limits]\nmetric = "psnr"\nmax-drop = "much"\n', "mine.toml")
    assert str(caught.value.where).startswith("mine.toml:3")


def test_other_samples_start_at_the_folder_of_the_recipe(tmp_path: object) -> None:
    from pathlib import Path

    from graphopt.recipe import read_recipe

    path = Path(str(tmp_path)) / "recipe.toml"
    text = '[limits]\nvalidation = "val.npz"\n[calibration]\nextra = "more.npz"\n'
    path.write_text(text, encoding="utf-8")
    recipe = read_recipe(path)
    assert recipe.limits.validation == str(path.parent / "val.npz")
    assert recipe.calibration.extra == str(path.parent / "more.npz")
