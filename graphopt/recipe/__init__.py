"""Recipes: which passes run with which options, on which data, within which limits."""

from __future__ import annotations

from graphopt.calibration.preprocessing import Preprocessing
from graphopt.recipe.layers import layered, preset, preset_names, preset_text, resolve
from graphopt.recipe.overrides import apply_overrides
from graphopt.recipe.recovery import Recovery
from graphopt.recipe.requirements import check_requirements
from graphopt.recipe.resolved import ResolvedRecipe
from graphopt.recipe.schema import Calibration, Limits, PassEntry, Recipe
from graphopt.recipe.sizes import ModelSizes
from graphopt.recipe.toml import parse_recipe, read_recipe, write_recipe
from graphopt.recipe.validation import instantiate, make_observer, validate, with_pass_defaults

__all__ = [
    "Calibration",
    "Limits",
    "ModelSizes",
    "PassEntry",
    "Preprocessing",
    "Recipe",
    "Recovery",
    "ResolvedRecipe",
    "apply_overrides",
    "check_requirements",
    "instantiate",
    "layered",
    "make_observer",
    "parse_recipe",
    "preset",
    "preset_names",
    "preset_text",
    "read_recipe",
    "resolve",
    "validate",
    "with_pass_defaults",
    "write_recipe",
]
