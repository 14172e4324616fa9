"""Each layer is stronger than the one before, and every value remembers its layer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from graphopt.calibration.builtin import graphopt_register_observers
from graphopt.errors import RecipeError
from graphopt.passes.builtin import graphopt_register_passes
from graphopt.recipe import (
    PassEntry,
    Recipe,
    layered,
    parse_recipe,
    preset,
    preset_names,
    preset_text,
    validate,
    with_pass_defaults,
    write_recipe,
)
from graphopt.types import Effect

if TYPE_CHECKING:
    from pathlib import Path


def test_precedence_from_the_weakest_layer_to_the_strongest(tmp_path: Path) -> None:
    (tmp_path / "graphopt.toml").write_text(
        "[limits]\nmin-snr-db = 1\nmax-relative-error = 1\n"
        "[calibration]\nsamples = 1\nheld-out = 1\ndata = 'd.npz'\n"
    )
    (tmp_path / "r.toml").write_text(
        "target = 'x86'\n[calibration]\nsamples = 2\nheld-out = 2\n[[passes]]\nuse = 'a'\nx = 1\n"
    )
    resolved = layered(
        model=tmp_path / "m.onnx",
        recipe=tmp_path / "r.toml",
        arguments={"target": "arm", "calibration.held-out": 3},
        overrides=["a.y=5", "limits.max_relative_error=9"],
    )
    recipe = resolved.recipe
    assert (recipe.target, recipe.limits.min_snr_db, recipe.limits.max_relative_error) == (
        "arm",
        1.0,
        9.0,
    )
    assert (recipe.calibration.samples, recipe.calibration.held_out) == (2, 3)
    assert recipe.calibration.data == str(tmp_path / "d.npz")
    assert recipe.passes == (PassEntry("a", {"x": 1, "y": 5}),)
    assert dict(resolved.origins) == {
        "version": "preset default",
        "target": "--target",
        "requires": "default",
        "calibration.data": f"{tmp_path}/graphopt.toml:7",
        "calibration.samples": f"{tmp_path}/r.toml:3",
        "calibration.fitted": "default",
        "calibration.held-out": "--held-out",
        "calibration.observer": "preset default",
        "limits.min-snr-db": f"{tmp_path}/graphopt.toml:2",
        "limits.max-relative-error": "--set",
        "limits.max-divergence": "default",
        "limits.never-slower": "default",
        "passes.a.use": f"{tmp_path}/r.toml:6",
        "passes.a.x": f"{tmp_path}/r.toml:7",
        "passes.a.y": "--set",
    }
    assert resolved.sources == (
        "preset default",
        f"{tmp_path}/graphopt.toml",
        f"{tmp_path}/r.toml",
        "--target",
        "--held-out",
        "--set",
    )


def test_a_resolved_recipe_can_be_repeated_from_what_was_written() -> None:
    resolved = layered(preset="integer", overrides=["insert-qdq.exclude=['Conv_0']"])
    text = write_recipe(resolved.recipe, resolved.origins)
    assert parse_recipe(text) == resolved.recipe
    assert layered(recipe=parse_recipe(text)).recipe == resolved.recipe
    assert "exclude = ['Conv_0']" not in text
    assert 'exclude = ["Conv_0"] # --set' in text
    assert 'placement = "integer" # preset integer' in text


def test_a_repeated_pass_has_its_own_origins(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[[passes]]\nuse = 'a'\nx = 1\n[[passes]]\nuse = 'a'\nx = 2\n")
    origins = layered(recipe=path, overrides=["a#2.x=3"]).origins
    assert origins["passes.a.x"] == f"{path}:3"
    assert origins["passes.a#2.x"] == "--set"
    assert origins["passes.a#2.use"] == f"{path}:5"


def test_pyproject_is_used_only_without_a_project_file_of_our_own(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    assert layered(model=model) == layered()
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n")
    assert layered(model=model) == layered()
    project.write_text("[project]\nname = 'x'\n\n[tool.graphopt]\ntarget = 'mcu'\n")
    resolved = layered(model=str(model))
    assert resolved.recipe.target == "mcu"
    assert resolved.origins["target"] == f"{project}:5"
    (tmp_path / "graphopt.toml").write_text("[limits]\n")
    assert layered(model=model).recipe.target == "host"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[tool]\n[tool.graphopt]\ntarjet = 1\n", 3, "unknown key `tarjet`"),
        ("[tool]\ngraphopt = 1\n", 2, "`tool.graphopt` must be a table"),
        ("tool = 1\n", 1, "`tool` must be a table"),
    ],
)
def test_mistakes_in_pyproject_have_their_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        layered(model=tmp_path / "m.onnx")
    assert caught.value.message == message
    assert (caught.value.where or "").startswith(f"{tmp_path}/pyproject.toml:{line}\n")


def test_an_observer_of_a_higher_layer_drops_the_options_of_a_lower_one(tmp_path: Path) -> None:
    (tmp_path / "graphopt.toml").write_text(
        "[calibration]\nobserver = 'percentile'\nobserver-options = { percentile = 99 }\n"
    )
    calibration = layered(model=tmp_path / "m.onnx").recipe.calibration
    assert calibration.observer_options == {"percentile": 99}
    (tmp_path / "r.toml").write_text("calibration.observer = 'min-max'\n")
    resolved = layered(model=tmp_path / "m.onnx", recipe=tmp_path / "r.toml")
    assert resolved.recipe.calibration.observer_options == {}


def test_a_recipe_may_be_the_name_of_a_preset_and_an_empty_list_of_passes_counts() -> None:
    resolved = layered(recipe="lossless")
    assert resolved.recipe.passes == preset("lossless").passes
    assert resolved.origins["passes.eliminate-dead.use"] == "preset lossless"
    assert layered(recipe=Recipe()).recipe == Recipe()
    assert layered(recipe=Recipe()).origins["target"] == "recipe"


def test_unknown_presets_and_files_are_told_apart(tmp_path: Path) -> None:
    for call in (lambda: preset("defualt"), lambda: layered(recipe="defualt")):
        with pytest.raises(RecipeError, match="unknown preset `defualt`") as caught:
            call()
        assert caught.value.code == "G106"
        assert (caught.value.hint or "").startswith("did you mean `default`? presets: ")
    with pytest.raises(RecipeError, match="cannot read the recipe") as caught:
        layered(recipe=tmp_path / "no.toml")
    assert caught.value.code == "G109"


def test_a_wrong_argument_is_shown_with_its_option() -> None:
    with pytest.raises(RecipeError) as caught:
        layered(arguments={"calibration.samples": "many"})
    assert caught.value.where == "--samples many"


def test_the_presets_are_what_the_documentation_says() -> None:
    assert preset_names() == ("compact", "default", "integer", "lossless", "weight-only")
    exact = [kind.name for kind in graphopt_register_passes() if kind.effect is Effect.EXACT]
    lossless = [entry.use for entry in preset("lossless").passes]
    assert set(lossless) <= set(exact)
    for name in ("default", "integer"):
        used = [entry.use for entry in preset(name).passes]
        # Both begin as lossless does, with what pays only where it is followed by integers between;
        # sums that are kept apart could not become integer ones.
        expected = [use for use in lossless if use != "keep-sums-apart"]
        assert [use for use in used if use in lossless] == expected
        assert set(used[: used.index("calibrate")]) <= {*exact, "prune-channels", "repair-qdq"}
    assert [e.use for e in preset("default").passes][-6:] == [
        "calibrate", "equalize-clipped-layers", "align-channels", "insert-qdq",
        "quantize-matmuls", "store-weights",
    ]  # fmt: skip
    assert preset("default").passes[-3].options["placement"] == "auto"
    assert preset("integer").passes[-1].options["placement"] == "integer"


@pytest.mark.parametrize("name", ["default", "integer", "lossless"])
def test_every_setting_of_a_preset_is_explained_and_is_the_default(name: str) -> None:
    text, recipe = preset_text(name), preset(name)
    assert recipe == Recipe(passes=recipe.passes)
    lines = text.splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if "=" in line and not line.startswith(("#", "version")):
            assert "# " in line or above.startswith("# "), line


@pytest.mark.parametrize("name", ["compact", "default", "integer", "lossless"])
def test_every_preset_fits_the_passes_and_observers_that_ship(name: str) -> None:
    passes = {kind.name: kind for kind in graphopt_register_passes()}
    observers = {kind.name: kind for kind in graphopt_register_observers()}
    resolved = layered(preset=name)
    validate(resolved, passes, observers)
    full = with_pass_defaults(resolved, passes)
    assert parse_recipe(write_recipe(full.recipe, full.origins)) == full.recipe


def test_importing_recipes_loads_no_heavy_library() -> None:
    code = (
        "import sys, graphopt.recipe as r; r.preset_names(); "
        "heavy = {'cattrs', 'attrs', 'tomlkit', 'onnx', 'onnxruntime', 'pluggy', 'PIL'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
