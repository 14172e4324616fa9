"""A recipe that needs a plugin says so before anything runs."""

from __future__ import annotations

import importlib.metadata

import pytest

from graphopt.errors import RecipeError
from graphopt.recipe import Recipe, check_requirements

INSTALLED = {"graphopt-example": "1.2", "other": "2.0.0rc1", "odd": "unknown"}


@pytest.fixture(autouse=True)
def distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in INSTALLED:
            raise importlib.metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize(
    "requirement",
    [
        "graphopt-example",
        "graphopt-example>=1.2",
        "graphopt-example >= 1.2.0, < 2",
        "graphopt-example==1.2.0",
        "graphopt-example!=1.3",
        "graphopt-example<=1.10",
        "graphopt-example>1.1.9",
        "other==2",
    ],
)
def test_what_is_installed_is_accepted(requirement: str) -> None:
    check_requirements(Recipe(requires=(requirement,)))


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("missing>=1", "which is not installed"),
        ("graphopt-example>=1.10", "but version 1.2 is installed"),
        ("graphopt-example>=1,<1.2", "but version 1.2 is installed"),
        ("odd>=1", "but version unknown is installed"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_helps(
    requirement: str, reason: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        check_requirements(Recipe(requires=("other", requirement)))
    assert caught.value.code == "G107"
    assert caught.value.message == f"the recipe requires `{requirement}`, {reason}"
    assert caught.value.hint == f"pip install '{requirement}'"


@pytest.mark.parametrize("requirement", ["", "graphopt-example~1", "a>=x", "a>=1,", "a b", "-e ."])
def test_what_is_not_a_requirement_is_refused(requirement: str) -> None:
    with pytest.raises(RecipeError, match="not a requirement") as caught:
        check_requirements(Recipe(requires=(requirement,)))
    assert caught.value.code == "G103"
