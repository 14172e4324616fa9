"""From a draft to a checked recipe that still knows where each of its values comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.recipe.conversion import Problem, UnfitTableError, to_dataclass, to_table
from graphopt.recipe.drafts import Draft, Place
from graphopt.recipe.schema import Recipe, kebab

if TYPE_CHECKING:
    from graphopt.errors import RecipeError
    from graphopt.recipe.positions import Path


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe together with the origin of every value.

    Args:
        recipe: the recipe itself.
        draft: the tables that it was built from, with their places.
        sources: the layers that took part, lowest first.
        recover: how much training was asked for; empty where nothing was said of it.
    """

    recipe: Recipe
    draft: Draft = field(default_factory=Draft, repr=False, compare=False)
    sources: tuple[str, ...] = ()
    recover: str = ""

    @property
    def origins(self) -> Mapping[str, str]:
        """The origin of every value by dotted path, in the order of the recipe.

        "passes.insert-qdq.placement": "recipe.toml:14", "preset default", "--set" or "default".
        The second entry of the same pass is called "fold-constants#2".
        """
        names = pass_names(self.recipe)
        return {
            dotted(path, names): str(self.draft.places.get(path, "default"))
            for path in _leaves(to_table(self.recipe), ())
        }


def draft_of(recipe: Recipe, origin: str) -> Draft:
    """Return a recipe as a draft; every value has the same origin."""
    table = to_table(recipe)
    return Draft(table, {(): Place(origin)} | {path: Place(origin) for path in _leaves(table, ())})


def recipe_of(draft: Draft) -> Recipe:
    """Check a draft and return the recipe that it spells.

    Raises:
        RecipeError: G103, the version is another one, or a value has the wrong type or range;
            G102, G104, a key is unknown. One error, for the first line that is wrong.
    """
    version = draft.table.get("version", 1)
    if isinstance(version, int) and version != 1:
        message = f"recipe version `{version}` is not known"
        hint = "this graphopt reads version 1; a newer graphopt may know it"
        raise draft.error(message, ("version",), hint=hint)
    try:
        return to_dataclass(draft.table, Recipe)
    except UnfitTableError as error:
        raise first_error(error.problems, draft) from error


def first_error(problems: Sequence[Problem], draft: Draft) -> RecipeError:
    """Return the error to show: unknown keys come before wrong values, then the order of lines."""

    def order(problem: Problem) -> tuple[bool, int]:
        place = draft.place(problem.path)
        return not problem.unknown, place.line or 0 if place else 0

    problem = min(problems, key=order)
    code = "G103"
    if problem.unknown:
        code = "G104" if problem.path[0] == "passes" else "G102"
    return draft.error(_message(problem, draft), problem.path, code=code, hint=problem.hint)


def _message(problem: Problem, draft: Draft) -> str:
    path, says = problem.path, problem.says
    if says.startswith("cannot be used") and path[:1] == ("passes",) and len(path) == 2:
        return f"pass `{draft.table['passes'][path[1]]['use']}` {says}"
    if path[:1] == ("passes",) and len(path) > 2 and path[2] != "use":
        entry = draft.table["passes"][path[1]]
        name, option = entry.get("use"), ".".join(map(str, path[2:]))
        if problem.unknown and says == "is not known":
            return f"pass `{name}` has no option `{option}`"
        return f"option `{option}` of pass `{name}` {says}"
    if problem.unknown:
        return f"unknown key `{dotted(path)}`"
    return f"`{dotted(path)}` {says}" if path else f"the recipe {says}"


def dotted(path: Path, passes: Sequence[str] = ()) -> str:
    """Return a path as the user writes it; with pass names, a name stands for its index."""
    result = ""
    for depth, step in enumerate(path):
        if isinstance(step, str):
            result += f".{step}" if result else step
        elif depth == 1 and passes:
            result += f".{passes[step]}"
        else:
            result += f"[{step}]"
    return result


def pass_names(recipe: Recipe) -> list[str]:
    """Return the name of each entry; a repeated pass is numbered: "fold-constants#2"."""
    names: list[str] = []
    for index, entry in enumerate(recipe.passes):
        before = sum(e.use == entry.use for e in recipe.passes[:index])
        names.append(f"{entry.use}#{before + 1}" if before else entry.use)
    return names


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, kebab(key) if len(path) < 2 else key))
    elif path == ("passes",):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path
