"""Check that the plugins which a recipe requires are installed, in a version that fits."""

from __future__ import annotations

import importlib.metadata
import operator
import re
from typing import TYPE_CHECKING

from graphopt.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.recipe.schema import Recipe

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(.*)")
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|<|>)\s*(\d+(?:\.\d+)*)\s*")
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


def check_requirements(recipe: Recipe) -> None:
    """Compare ``recipe.requires`` with the installed distributions.

    A requirement is a name, then any number of ``>=``, ``<=``, ``==``, ``!=``, ``<``, ``>`` with a
    version, separated by commas. Only the numbers of a version are compared: 1.2rc1 counts as 1.2.

    Raises:
        RecipeError: G107, one is missing or of another version; G103, it cannot be understood.
    """
    for requirement in recipe.requires:
        name, clauses = _parse(requirement)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            message = f"the recipe requires `{requirement}`, which is not installed"
            hint = f"pip install '{requirement}'"
            raise RecipeError(message, code="G107", hint=hint) from None
        if not all(_fits(version, compare, wanted) for compare, wanted in clauses):
            raise RecipeError(
                f"the recipe requires `{requirement}`, but version {version} is installed",
                code="G107",
                hint=f"pip install '{requirement}'",
            )


def _parse(requirement: str) -> tuple[str, list[tuple[str, str]]]:
    match = _REQUIREMENT.fullmatch(requirement)
    parts = match[2].split(",") if match and match[2] else []
    clauses = [_CLAUSE.fullmatch(part) for part in parts]
    if match is None or not all(clauses):
        message = f"`requires` holds `{requirement}`, which is not a requirement"
        raise RecipeError(message, hint='write "graphopt-example>=0.1"')
    return match[1], [(clause[1], clause[2]) for clause in clauses if clause]


def _fits(version: str, compare: str, wanted: str) -> bool:
    return _COMPARE[compare](_numbers(version), _numbers(wanted))


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version, without trailing zeros: 1.0 and 1 are equal."""
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in match[1].split(".")] if match else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
