"""Passes that do not ship with graphopt, by the package that has them: for hints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES: Mapping[str, str] = {
    "distill-weights": "graphopt-torch",
    "prune-while-training": "graphopt-torch",
    "learn-widths": "graphopt-torch",
}


def package_hint(name: str) -> str | None:
    """Return what to install for a pass of this name; None where no package is known for it."""
    package = PACKAGES.get(name)
    return None if package is None else f"the plugin `{package}` has it: pip install {package}"
