"""Assignments from the command line: ``--set insert-qdq.placement=integer``."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import tomllib
from typing import TYPE_CHECKING, Any

from graphopt.errors import RecipeError
from graphopt.recipe.drafts import Draft, Place, merge, single
from graphopt.recipe.resolved import ResolvedRecipe, draft_of, recipe_of
from graphopt.recipe.schema import Recipe, kebab
from graphopt.recipe.suggest import suggestion
from graphopt.recipe.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SECTIONS = tuple(kebab(f.name) for f in dataclasses.fields(Recipe) if f.name != "passes")


def apply_overrides(
    recipe: Recipe,
    assignments: Iterable[str],
    pass_classes: Mapping[str, type[Any]] | None = None,
) -> Recipe:
    """Return the recipe with values replaced.

    Args:
        recipe: the recipe to start from.
        assignments: ``place=value`` each. The place is ``target``, ``calibration.samples``,
            ``limits.min-snr-db`` or ``pass.option``; ``-`` and ``_`` mean the same. A pass that the
            recipe has several times is meant every time; ``fold-constants#2.option`` means its
            second time. The value is written as in TOML; a bare word is a string.
        pass_classes: when given, the options are checked against these passes.

    Raises:
        RecipeError: G108, not an assignment; G102, G104, G105, the place is unknown; G103, the
            value has the wrong type.
    """
    draft = overridden(draft_of(recipe, "recipe"), assignments)
    result = recipe_of(draft)
    if pass_classes is not None:
        validate(ResolvedRecipe(result, draft), pass_classes)
    return result


def overridden(draft: Draft, assignments: Iterable[str]) -> Draft:
    """Return a checked draft with each assignment on top, in order."""
    for assignment in assignments:
        draft = _assigned(draft, assignment)
    return draft


def _assigned(draft: Draft, assignment: str) -> Draft:
    place = Place("--set", text=assignment)
    key, equals, text = assignment.partition("=")
    steps = [step.strip() for step in key.split(".")]
    if not equals or not all(steps):
        hint = "write `--set pass.option=value` or `--set calibration.samples=64`"
        message = f"`{assignment}` is not an assignment"
        raise RecipeError(message, code="G108", where=place.excerpt(), hint=hint)
    value = _value(text.strip(), place)
    if kebab(steps[0]) in _SECTIONS:
        return merge(draft, single(tuple(map(kebab, steps)), value, place))
    return _with_option(draft, steps[1:] if steps[0] == "passes" else steps, value, place)


def _value(text: str, place: Place) -> Any:
    """Read a TOML value; what is none, and does not look like one, is a string."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        table = {}
    value = table.get("value")
    if len(table) == 1 and not isinstance(value, dt.date | dt.time):
        return value
    if not text or text[0] in "[{\"'":
        message = f"`{text}` is not a value"
        hint = 'write values as in TOML: 3, 0.5, true, word, "two words", ["a", "b"]'
        raise RecipeError(message, code="G108", where=place.excerpt(), hint=hint)
    return text


def _with_option(draft: Draft, steps: Sequence[str], value: Any, place: Place) -> Draft:
    result = Draft(copy.deepcopy(draft.table), dict(draft.places))
    entries = result.table.get("passes", [])
    indices, length = _entries(entries, steps)
    if not indices:
        raise _unknown(steps, entries, place)
    option = (kebab(steps[length]), *steps[length + 1 :])
    if option == ("use",):
        message = f"pass `{steps[0]}` has no option `use`"
        raise RecipeError(message, code="G104", where=place.excerpt())
    for index in indices:
        table = entries[index]
        for step in option[:-1]:
            inner = table.get(step)
            table[step] = table = inner if isinstance(inner, dict) else {}
        table[option[-1]] = value
        result.places["passes", index, *option] = place
    return result


def _entries(entries: Sequence[Mapping[str, Any]], steps: Sequence[str]) -> tuple[list[int], int]:
    """Return the entries that the first steps name, and how many steps do; names may have dots."""
    for length in range(len(steps) - 1, 0, -1):
        name, _, number = ".".join(steps[:length]).partition("#")
        found = [i for i, entry in enumerate(entries) if kebab(entry["use"]) == kebab(name)]
        if number:
            found = [i for count, i in enumerate(found, 1) if str(count) == number]
        if found:
            return found, length
    return [], 0


def _unknown(
    steps: Sequence[str], entries: Sequence[Mapping[str, Any]], place: Place
) -> RecipeError:
    name, where = kebab(steps[0]) if steps else "passes", place.excerpt()
    if len(steps) < 2:
        hint = suggestion(name, _SECTIONS, "keys")
        return RecipeError(f"unknown key `{name}`", code="G102", where=where, hint=hint)
    known = [*(entry["use"] for entry in entries), "calibration", "limits"]
    hint = suggestion(name, dict.fromkeys(known), "passes and sections of the recipe")
    return RecipeError(f"the recipe has no pass `{name}`", code="G105", where=where, hint=hint)
