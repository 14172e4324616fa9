"""Check a recipe against the passes that are installed, and build them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from graphopt.errors import PluginError
from graphopt.passes.elsewhere import package_hint
from graphopt.recipe.conversion import (
    Problem,
    UnfitTableError,
    range_problems,
    to_dataclass,
    to_table,
)
from graphopt.recipe.drafts import Draft
from graphopt.recipe.resolved import ResolvedRecipe, first_error
from graphopt.recipe.schema import Calibration, Limits, PassEntry, Recipe, kebab, snake
from graphopt.recipe.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.calibration.base import Observer
    from graphopt.passes.base import Pass


def validate(
    recipe: Recipe | ResolvedRecipe,
    pass_classes: Mapping[str, type[Any]],
    observer_classes: Mapping[str, type[Any]] | None = None,
) -> None:
    """Check that every pass, option and value of a recipe means something.

    Errors of a ``ResolvedRecipe`` point at file and line, those of a plain one at the path.

    Args:
        recipe: the recipe.
        pass_classes: every installed pass by name, as the registry lists them.
        observer_classes: every installed observer by name; None leaves the observer unchecked.

    Raises:
        RecipeError: G105, a pass is not installed; G104, it has no such option; G103, a value has
            the wrong type or range, or the observer is unknown. Stages in this order; one error.
        PluginError: G404, the annotations of a pass cannot be resolved.
    """
    resolved = recipe if isinstance(recipe, ResolvedRecipe) else ResolvedRecipe(recipe)
    plain, draft = resolved.recipe, _draft(resolved)
    if problems := list(range_problems(plain)):
        raise first_error(problems, draft)
    for index, entry in enumerate(plain.passes):
        if entry.use not in pass_classes:
            raise draft.error(
                f"unknown pass `{entry.use}`",
                ("passes", index, "use"),
                code="G105",
                hint=package_hint(entry.use) or suggestion(entry.use, pass_classes, "passes"),
            )
    found: list[Problem] = []
    for index, entry in enumerate(plain.passes):
        found += _pass_problems(entry, pass_classes[entry.use], index)
    if found:
        raise first_error(found, draft)
    if observer_classes is not None:
        _check_observer(plain.calibration, observer_classes, draft)


def instantiate(entry: PassEntry, pass_class: type[Any]) -> Pass:
    """Build the pass of an entry, its options converted to the types of its fields.

    Raises:
        RecipeError: G104, an option is unknown; G103, a value has the wrong type or range.
        PluginError: G404, the annotations of the pass cannot be resolved.
    """
    try:
        return cast("Pass", _build(entry.options, pass_class, f"pass `{entry.use}`"))
    except UnfitTableError as error:
        problems = _of_pass(error.problems, entry, pass_class, 0)
        raise first_error(problems, Draft(to_table(Recipe(passes=(entry,))))) from error


def make_observer(calibration: Calibration, observer_class: type[Any]) -> Observer:
    """Build the observer of a calibration from its options.

    Raises:
        RecipeError: G102, an option is unknown; G103, a value has the wrong type or range.
    """
    try:
        options = calibration.observer_options
        return cast(
            "Observer", _build(options, observer_class, f"observer `{calibration.observer}`")
        )
    except UnfitTableError as error:
        raise first_error(_of_observer(error.problems), Draft()) from error


def with_pass_defaults(
    resolved: ResolvedRecipe, pass_classes: Mapping[str, type[Any]]
) -> ResolvedRecipe:
    """Return a valid recipe with every option of every pass spelt out; None cannot be, in TOML."""
    entries = []
    for entry in resolved.recipe.passes:
        table = to_table(instantiate(entry, pass_classes[entry.use]))
        entries.append(PassEntry(entry.use, {snake(name): item for name, item in table.items()}))
    recipe = dataclasses.replace(resolved.recipe, passes=tuple(entries))
    return dataclasses.replace(resolved, recipe=recipe)


def _draft(resolved: ResolvedRecipe) -> Draft:
    """Return the tables of the recipe itself, since a plain recipe has none to point into."""
    return Draft(to_table(resolved.recipe), resolved.draft.places)


def _build(options: Mapping[str, Any], kind: type[Any], name: str) -> Any:
    if not options and _is_own(kind) and not any(map(_is_required, dataclasses.fields(kind))):
        # Nothing is converted, so nothing that could convert is made; that annotations can be
        # resolved is only in doubt for plugins.
        return kind()
    try:
        return to_dataclass({kebab(key): value for key, value in options.items()}, kind)
    except NameError as error:
        raise PluginError(
            f"the options of {name} cannot be read: {error}",
            code="G404",
            where=f"{kind.__module__}.{kind.__qualname__}",
            hint="import the types of its fields outside `if TYPE_CHECKING:`",
        ) from error


def _is_own(kind: type[Any]) -> bool:
    return kind.__module__.startswith("graphopt.")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.init and field.default is missing and field.default_factory is missing


def _pass_problems(entry: PassEntry, kind: type[Any], index: int) -> list[Problem]:
    try:
        _build(entry.options, kind, f"pass `{entry.use}`")
    except UnfitTableError as error:
        return _of_pass(error.problems, entry, kind, index)
    return []


def _of_pass(
    problems: Sequence[Problem], entry: PassEntry, kind: type[Any], index: int
) -> list[Problem]:
    """Place the problems of a pass into the recipe, and say what its options are."""
    known = [kebab(field.name) for field in dataclasses.fields(kind) if field.init]
    result = []
    for problem in problems:
        path, hint = problem.path, problem.hint
        if problem.unknown and len(path) == 1:
            hint = _section_hint(path[0]) or suggestion(str(path[0]), known, "options")
        result.append(Problem(("passes", index, *path), problem.says, hint, problem.unknown))
    return result


def _section_hint(key: Any) -> str | None:
    """A setting of calibration or limits is easily taken for an option of the pass that uses it."""
    for section, kind in (("calibration", Calibration), ("limits", Limits)):
        if snake(str(key)) in {field.name for field in dataclasses.fields(kind)}:
            return f"did you mean `{section}.{key}`?"
    return None


def _of_observer(problems: Sequence[Problem]) -> list[Problem]:
    path = ("calibration", "observer-options")
    return [Problem((*path, *p.path), p.says, p.hint, p.unknown) for p in problems]


def _check_observer(
    calibration: Calibration, classes: Mapping[str, type[Any]], draft: Draft
) -> None:
    if calibration.observer not in classes:
        message = f"unknown observer `{calibration.observer}`"
        hint = suggestion(calibration.observer, classes, "observers")
        raise draft.error(message, ("calibration", "observer"), hint=hint)
    kind = classes[calibration.observer]
    try:
        _build(calibration.observer_options, kind, f"observer `{calibration.observer}`")
    except UnfitTableError as error:
        raise first_error(_of_observer(error.problems), draft) from error
