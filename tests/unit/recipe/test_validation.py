"""Options become the fields of a pass, of exactly their type; mistakes are placed and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphopt.errors import PluginError, RecipeError
from graphopt.recipe import (
    Calibration,
    PassEntry,
    Recipe,
    instantiate,
    layered,
    make_observer,
    parse_recipe,
    validate,
    with_pass_defaults,
    write_recipe,
)

Classes = dict[str, type[Any]]


def prune(passes: Classes, **options: Any) -> Any:
    return instantiate(PassEntry("prune-channels", options), passes["prune-channels"])


def test_every_kind_of_field_is_converted(passes: Classes) -> None:
    built = prune(
        passes,
        sparsity=1,
        max_channels=8,
        exclude=["Conv_0", "head.*"],
        criterion="taylor",
        width="int4",
        mode="gradual",
        tile=[2, 3],
        bits={"Conv_0": 4, "my_node": 8},
        schedule={"warm-up": 5},
        table="t.csv",
        extra={"any": [1, "x"]},
        enabled=False,
        ops=["Conv", "Gemm"],
        size=[3, 4],
    )
    assert isinstance(built, passes["prune-channels"])
    assert (built.sparsity, type(built.sparsity)) == (1.0, float)
    assert built.exclude == ("Conv_0", "head.*")
    assert (built.criterion.name, built.width.name, built.mode) == ("TAYLOR", "INT4", "gradual")
    assert (built.tile, built.size) == ((2, 3), (3, 4))
    assert built.bits == {"Conv_0": 4, "my_node": 8}
    assert (built.schedule.warm_up, built.schedule.rate) == (5, 1.0)
    assert built.table == Path("t.csv")
    assert built.extra == {"any": (1, "x")}
    assert (built.enabled, built.ops) == (False, frozenset({"Conv", "Gemm"}))
    assert prune(passes) == passes["prune-channels"]()
    assert prune(passes, size=7).size == 7


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("sparsity", "0.3", 'must be a number, got `"0.3"`'),
        ("sparsity", True, "must be a number, got `true`"),
        ("sparsity", 10**400, "is too large for a number with a fraction"),
        ("sparsity", -0.5, "must be at least 0, got `-0.5`"),
        ("sparsity", float("nan"), "must be a number, got `nan`"),
        ("max-channels", 1.0, "must be a whole number, got `1.0`"),
        ("exclude", "Conv_0", 'must be a list of strings, got `"Conv_0"`'),
        ("criterion", "l2", 'must be one of "l1", "taylor", got `"l2"`'),
        ("width", 4, 'must be one of "int4", "int8", got `4`'),
        ("mode", "never", 'must be one of "once", "gradual", got `"never"`'),
        ("tile", [1], "must be a list of 2 whole numbers, got `[1]`"),
        ("tile", [1, 2, 3, 4, 5], "must be a list of 2 whole numbers, got a list"),
        ("bits", [1], "must be a table, got `[1]`"),
        ("bits", {"Conv_0": "4"}, 'must be a whole number, got `"4"`'),
        ("schedule", 1, "must be a table, got `1`"),
        ("table", 1, "must be a string, got `1`"),
        ("enabled", "no", 'must be true or false, got `"no"`'),
        ("enabled", 1, "must be true or false, got `1`"),
        ("size", "x", 'must be a whole number or a list of 2 whole numbers, got `"x"`'),
    ],
)
def test_no_value_is_coerced(passes: Classes, option: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        prune(passes, **{option: value})
    assert caught.value.code == "G103"
    assert caught.value.message == f"option `{option}` of pass `prune-channels` {message}"


def test_values_inside_lists_and_tables_are_named_by_their_path(passes: Classes) -> None:
    with pytest.raises(RecipeError, match=r"option `exclude\.1` of pass `prune-channels` must be"):
        prune(passes, exclude=["a", 3])
    with pytest.raises(RecipeError, match=r"`schedule\.rate` of pass `prune-channels` must be"):
        prune(passes, schedule={"rate": "x"})
    with pytest.raises(RecipeError, match=r"has no option `schedule\.raet`") as caught:
        prune(passes, schedule={"raet": 1})
    assert caught.value.hint == "did you mean `rate`? keys: rate, warm-up"


def test_a_pass_may_reject_its_options_itself(passes: Classes) -> None:
    with pytest.raises(RecipeError) as caught:
        prune(passes, sparsity=0.75)
    assert caught.value.code == "G103"
    message = "pass `prune-channels` cannot be used: three quarters is too round"
    assert caught.value.message == message


def test_a_required_option_is_asked_for(passes: Classes) -> None:
    with pytest.raises(RecipeError) as caught:
        instantiate(PassEntry("needs-answer"), passes["needs-answer"])
    assert caught.value.message == "option `answer` of pass `needs-answer` is required"


def test_annotations_that_cannot_be_resolved_are_the_fault_of_the_plugin(passes: Classes) -> None:
    with pytest.raises(PluginError, match="Nowhere") as caught:
        instantiate(PassEntry("unresolvable"), passes["unresolvable"])
    assert caught.value.code == "G404"
    assert "Unresolvable" in (caught.value.where or "")


def resolved_from(text: str, tmp_path: Path, *overrides: str) -> Any:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return layered(recipe=path, overrides=overrides)


def test_an_unknown_option_points_at_its_line(passes: Classes, tmp_path: Path) -> None:
    text = '[[passes]]\nuse = "fold-constants"\n[[passes]]\nuse = "prune-channels"\nsparsty = 0.3\n'
    with pytest.raises(RecipeError) as caught:
        validate(resolved_from(text, tmp_path), passes)
    error = caught.value
    assert (error.code, error.message) == (
        "G104",
        "pass `prune-channels` has no option `sparsty`",
    )
    assert error.where == f"{tmp_path}/recipe.toml:5\n    5 | sparsty = 0.3\n      | ^^^^^^^"
    assert (error.hint or "").startswith("did you mean `sparsity`? options: bits, criterion,")


def test_an_unknown_pass_points_at_its_line_and_comes_before_options(
    passes: Classes, tmp_path: Path
) -> None:
    text = '[[passes]]\nuse = "prune-channels"\nfoo = 1\n[[passes]]\nuse = "prune-chanels"\n'
    with pytest.raises(RecipeError) as caught:
        validate(resolved_from(text, tmp_path), passes)
    assert (caught.value.code, caught.value.message) == ("G105", "unknown pass `prune-chanels`")
    assert (caught.value.where or "").startswith(f"{tmp_path}/recipe.toml:5\n")
    assert (caught.value.hint or "").startswith("did you mean `prune-channels`? passes: ")


def test_an_override_of_an_unknown_option_is_shown_as_it_was_typed(
    passes: Classes, tmp_path: Path
) -> None:
    text = '[[passes]]\nuse = "prune-channels"\n'
    resolved = resolved_from(text, tmp_path, "prune-channels.sparsty=0.4")
    with pytest.raises(RecipeError) as caught:
        validate(resolved, passes)
    assert (caught.value.code, caught.value.where) == ("G104", "--set prune-channels.sparsty=0.4")


def test_a_setting_taken_for_an_option_leads_to_its_section(passes: Classes) -> None:
    recipe = Recipe(passes=(PassEntry("calibrate", {"samples": 3}),))
    with pytest.raises(RecipeError) as caught:
        validate(recipe, passes)
    assert caught.value.hint == "did you mean `calibration.samples`?"
    with pytest.raises(RecipeError) as caught:
        validate(Recipe(passes=(PassEntry("calibrate", {"x": 3}),)), passes)
    assert caught.value.hint == "there are no options"


def test_a_recipe_built_in_python_is_checked_too(passes: Classes) -> None:
    with pytest.raises(RecipeError, match=r"`calibration\.samples` must be at least 1, got `0`"):
        validate(Recipe(calibration=Calibration(samples=0)), passes)
    with pytest.raises(RecipeError, match="unknown pass `nope`"):
        validate(Recipe(passes=(PassEntry("nope"),)), passes)
    validate(Recipe(passes=(PassEntry("fold-constants", {"max_bytes": 3}),)), passes)


def test_the_observer_and_its_options_are_checked(passes: Classes, observers: Classes) -> None:
    good = parse_recipe("[calibration]\nobserver = 'percentile'\nobserver-options.percentile = 99")
    validate(good, passes, observers)
    assert make_observer(good.calibration, observers["percentile"]) == observers["percentile"](99.0)
    with pytest.raises(RecipeError) as caught:
        validate(Recipe(calibration=Calibration(observer="min-mx")), passes, observers)
    assert caught.value.message == "unknown observer `min-mx`"
    assert (caught.value.hint or "").startswith("did you mean `min-max`?")
    wrong = Calibration(observer="percentile", observer_options={"percentil": 1})
    with pytest.raises(RecipeError, match=r"`calibration\.observer-options\.percentil`"):
        validate(Recipe(calibration=wrong), passes, observers)
    with pytest.raises(RecipeError, match="unknown key") as caught:
        make_observer(wrong, observers["percentile"])
    assert caught.value.code == "G102"


def test_defaults_of_passes_are_spelt_out_for_the_report(passes: Classes, tmp_path: Path) -> None:
    text = '[[passes]]\nuse = "prune-channels"\nexclude = ["a"]\ntable = "t"\n'
    full = with_pass_defaults(resolved_from(text, tmp_path), passes)
    options = full.recipe.passes[0].options
    assert (options["exclude"], options["criterion"], options["width"]) == (("a",), "l1", "int8")
    assert "max_channels" not in options
    assert full.origins["passes.prune-channels.exclude"] == f"{tmp_path}/recipe.toml:3"
    assert full.origins["passes.prune-channels.criterion"] == "default"
    again = parse_recipe(write_recipe(full.recipe, full.origins))
    assert again == full.recipe
    validate(again, passes)
    built = instantiate(again.passes[0], passes["prune-channels"])
    assert built == passes["prune-channels"](exclude=("a",), table=Path("t"))
