"""``--set`` changes exactly what it names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import RecipeError
from graphopt.recipe import Calibration, PassEntry, Preprocessing, Recipe, apply_overrides

RECIPE = Recipe(
    calibration=Calibration(observer="percentile", observer_options={"percentile": 99.0}),
    passes=(
        PassEntry("fold-constants", {"max_bytes": 1}),
        PassEntry("prune-channels", {"bits": {"Conv_0": 4}}),
        PassEntry("fold-constants"),
        PassEntry("acme.io:fuse"),
    ),
)


def options(assignment: str) -> list[dict[str, Any]]:
    return [dict(entry.options) for entry in apply_overrides(RECIPE, [assignment]).passes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.4", 0.4),
        ("3", 3),
        ("true", True),
        ("integer", "integer"),
        ("float-head", "float-head"),
        ('"two words"', "two words"),
        ("two words", "two words"),
        ("'3'", "3"),
        ('["a", "b"]', ("a", "b")),
        ("{ a = 1 }", {"a": 1}),
        ("head.*", "head.*"),
        ("a=b", "a=b"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("/data/x y.npz", "/data/x y.npz"),
        ("a\nb = 1", "a\nb = 1"),
        ("1\nvalue2 = 1", "1\nvalue2 = 1"),
    ],
)
def test_values_are_toml_and_words_are_strings(text: str, value: object) -> None:
    assert options(f"prune-channels.x={text}")[1]["x"] == value


def test_both_spellings_and_the_prefix_of_origins_are_accepted() -> None:
    for place in (
        "prune-channels.max-n",
        "prune_channels.max_n",
        "passes.prune-channels.max-n",
        " prune-channels . max-n ",
    ):
        assert options(f"{place}=3")[1] == {"bits": {"Conv_0": 4}, "max_n": 3}


def test_a_repeated_pass_is_meant_every_time_unless_numbered() -> None:
    assert [o.get("max_bytes") for o in options("fold-constants.max-bytes=9")] == [9, None, 9, None]
    assert [o.get("max_bytes") for o in options("fold-constants#2.max-bytes=9")] == [
        1,
        None,
        9,
        None,
    ]


def test_names_with_dots_and_values_inside_tables_are_reached() -> None:
    assert options("acme.io:fuse.level=2")[3] == {"level": 2}
    assert options("prune-channels.bits.my_node=8")[1] == {"bits": {"Conv_0": 4, "my_node": 8}}
    assert options("prune-channels.new.deep.er=8")[1]["new"] == {"deep": {"er": 8}}


def test_sections_and_top_level_values_are_set() -> None:
    result = apply_overrides(
        RECIPE,
        [
            "target=arm",
            "calibration.samples=64",
            "calibration.held_out=4",
            "limits.min-snr-db=20",
            "calibration.preprocessing.crop=[4, 5]",
            'requires=["x>=1"]',
        ],
    )
    assert (result.target, result.requires, result.limits.min_snr_db) == ("arm", ("x>=1",), 20.0)
    assert result.calibration == replace(
        RECIPE.calibration, samples=64, held_out=4, preprocessing=Preprocessing(crop=(4, 5))
    )
    assert result.passes == RECIPE.passes


def test_another_observer_drops_the_options_of_the_old_one() -> None:
    assert apply_overrides(RECIPE, ["calibration.observer=min-max"]).calibration == Calibration(
        observer="min-max"
    )
    same = apply_overrides(RECIPE, ["calibration.observer=percentile"])
    assert same == RECIPE


def test_later_assignments_win_and_the_recipe_itself_is_untouched() -> None:
    before = repr(RECIPE)
    result = apply_overrides(RECIPE, ["target=a", "target=b"])
    assert (result.target, repr(RECIPE)) == ("b", before)


@pytest.mark.parametrize(
    ("assignment", "code", "message", "hint"),
    [
        ("target", "G108", "`target` is not an assignment", "write `--set"),
        ("=3", "G108", "`=3` is not an assignment", "write `--set"),
        ("a..b=3", "G108", "`a..b=3` is not an assignment", "write `--set"),
        ("prune-channels.x=[1, 2", "G108", "`[1, 2` is not a value", "write values as in TOML"),
        ("prune-channels.x=", "G108", "`` is not a value", "write values as in TOML"),
        ("tarjet=arm", "G102", "unknown key `tarjet`", "did you mean `target`?"),
        ("passes=[]", "G102", "unknown key `passes`", "keys: "),
        (
            "calibration.sampels=3",
            "G102",
            "unknown key `calibration.sampels`",
            "did you mean `samples`?",
        ),
        (
            "prune-chanels.x=3",
            "G105",
            "the recipe has no pass `prune-chanels`",
            "did you mean `prune-channels`?",
        ),
        (
            "calibraton.samples=3",
            "G105",
            "the recipe has no pass `calibraton`",
            "did you mean `calibration`?",
        ),
        ("fold-constants#3.x=3", "G105", "the recipe has no pass `fold-constants#3`", "did you"),
        ("prune-channels.use=x", "G104", "pass `prune-channels` has no option `use`", ""),
        ("calibration.samples=many", "G103", "`calibration.samples` must be a whole number", ""),
        ("calibration=3", "G103", "`calibration` must be a table", ""),
    ],
)
def test_mistakes_show_the_assignment(assignment: str, code: str, message: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        apply_overrides(RECIPE, [assignment])
    error = caught.value
    assert (error.code, error.where) == (code, f"--set {assignment}")
    assert error.message.startswith(message)
    assert (error.hint or "").startswith(hint)


def test_options_are_checked_when_the_passes_are_known(passes: dict[str, type[Any]]) -> None:
    recipe = Recipe(passes=(PassEntry("prune-channels"),))
    changed = apply_overrides(recipe, ["prune-channels.sparsity=0.4"], passes)
    assert changed.passes[0].options == {"sparsity": 0.4}
    with pytest.raises(RecipeError, match="has no option `sparsty`") as caught:
        apply_overrides(recipe, ["prune-channels.sparsty=0.4"], passes)
    assert caught.value.where == "--set prune-channels.sparsty=0.4"
    with pytest.raises(RecipeError, match="must be a number") as caught:
        apply_overrides(recipe, ["prune-channels.sparsity=high"], passes)
    assert caught.value.code == "G103"


@given(st.text(max_size=30))
def test_any_text_is_an_override_or_an_error_with_a_code(text: str) -> None:
    try:
        result = apply_overrides(RECIPE, [text])
    except RecipeError:
        return
    assert isinstance(result, Recipe)


@given(st.text(max_size=30))
def test_any_value_is_taken_or_an_error_with_a_code(text: str) -> None:
    try:
        result = apply_overrides(RECIPE, [f"prune-channels.x={text}"])
    except RecipeError:
        return
    assert "x" in result.passes[1].options
