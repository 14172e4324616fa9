"""Put a recipe together from its layers: defaults, preset, project file, recipe, command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import RecipeError
from graphopt.recipe.drafts import Draft, Place, merge, parse_draft, read_draft, single
from graphopt.recipe.overrides import overridden
from graphopt.recipe.recovery import Recovery, recovering
from graphopt.recipe.resolved import ResolvedRecipe, draft_of, recipe_of
from graphopt.recipe.schema import Recipe, kebab
from graphopt.recipe.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FOLDER = Path(__file__).parent.parent / "recipes"


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets that come with graphopt, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def preset(name: str) -> Recipe:
    """Return a preset.

    Raises:
        RecipeError: G106, there is none of this name.
    """
    return recipe_of(_preset_draft(name))


def preset_text(name: str) -> str:
    """Return the file of a preset as it is, comments included, for a user to copy.

    Raises:
        RecipeError: G106, there is none of this name.
    """
    if name not in preset_names():
        hint = suggestion(name, preset_names(), "presets")
        raise RecipeError(f"unknown preset `{name}`", code="G106", hint=hint)
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def layered(
    *,
    preset: str = "default",
    model: Path | str | None = None,
    recipe: Recipe | Path | str | None = None,
    arguments: Mapping[str | tuple[str, ...], Any] | None = None,
    overrides: Iterable[str] = (),
    recover: str | None = None,
) -> ResolvedRecipe:
    """Return the recipe that all layers give together; each is stronger than the one before.

    The layers: defaults of the dataclasses, the preset, the project file beside the model,
    ``recipe``, ``arguments``, ``overrides``. Tables are merged key by key; a list, the list of
    passes too, replaces the one below as a whole.

    Args:
        preset: name of a preset.
        model: the model file. ``graphopt.toml`` beside it is the project file; without one, the
            table [tool.graphopt] of ``pyproject.toml`` beside it.
        recipe: a recipe file, the name of a preset, or a recipe.
        arguments: values by dotted path that have a command-line option of their own; the origin
            is the last part of the path: {"calibration.data": ...} comes from "--data". The steps
            of a path whose last is a name of the model are a tuple: ("model", "dims", "batch").
        overrides: assignments as ``apply_overrides`` takes them.
        recover: how much training is put into the recipe, as ``Recovery.parse`` reads it.

    Raises:
        RecipeError: G101 to G106, G108, G109.
    """
    drafts = [_preset_draft(preset)]
    if model is not None and (beside := _beside(Path(model).parent)) is not None:
        drafts.append(beside)
    if recipe is not None:
        drafts.append(_recipe_draft(recipe))
    for path, value in (arguments or {}).items():
        drafts.append(_argument(path, value))
    return resolve(drafts, overrides, recover)


def _argument(path: str | tuple[str, ...], value: Any) -> Draft:
    if isinstance(path, str):
        steps = tuple(kebab(step) for step in path.split("."))
        return single(steps, value, Place(f"--{steps[-1]}", text=str(value)))
    # The tables are called after several of what one option gives.
    *_, table, name = path
    shown = ",".join(map(str, value)) if isinstance(value, list) else value
    text = f"{name}={shown}" if name else str(shown)
    return single(path, value, Place(f"--{table.removesuffix('s')}", text=text))


def resolve(
    drafts: Sequence[Draft], overrides: Iterable[str] = (), recover: str | None = None
) -> ResolvedRecipe:
    """Merge drafts, lowest first, put training and the overrides on top, and check the result."""
    merged, assignments = Draft(), list(overrides)
    for draft in drafts:
        merged = merge(merged, draft)
    recipe = recipe_of(merged)
    if recover is not None:
        merged = recovering(merged, Recovery.parse(recover), assignments)
        recipe = recipe_of(merged)
    if assignments:
        merged = overridden(merged, assignments)
        recipe = recipe_of(merged)
    origins = [place.origin for draft in drafts for place in draft.places.values()]
    options = {"--recover": recover, "--set": assignments}
    sources = dict.fromkeys([*origins, *(name for name, given in options.items() if given)])
    return ResolvedRecipe(recipe, merged, tuple(sources))


def _preset_draft(name: str) -> Draft:
    draft = parse_draft(preset_text(name), f"preset {name}")
    draft.places = dict.fromkeys(draft.places, Place(f"preset {name}"))
    return draft


def _beside(folder: Path) -> Draft | None:
    own, shared = folder / "graphopt.toml", folder / "pyproject.toml"
    if own.is_file():
        return read_draft(own)
    if shared.is_file():
        draft = read_draft(shared, root=("tool", "graphopt"))
        return draft if draft.table else None
    return None


def _recipe_draft(recipe: Recipe | Path | str) -> Draft:
    if isinstance(recipe, Recipe):
        return draft_of(recipe, "recipe")
    path = Path(recipe)
    if not path.exists() and not path.suffix and path.name == str(recipe):
        return _preset_draft(path.name)
    return read_draft(path)
