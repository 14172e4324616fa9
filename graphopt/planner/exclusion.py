"""Passes that leave operators alone: which can, and how they are told."""

from __future__ import annotations

import dataclasses
import glob
from typing import TYPE_CHECKING

from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.passes.base import Pass


def leaves_out(step: Pass) -> bool:
    """Whether a pass changes results, and can be told which operators to leave alone."""
    return step.effect is not Effect.EXACT and hasattr(step, "exclude")


def without(step: Pass, excluded: frozenset[str] | None) -> Pass:
    """Return a pass that leaves these operators alone; None for all."""
    if not leaves_out(step):
        return step
    if excluded is None:
        return in_float(step)
    # In the order of the alphabet, so that the same decision gives the same recipe.
    added = [glob.escape(name) for name in sorted(excluded)]
    kept = tuple(step.exclude)  # type: ignore[attr-defined]
    patterns = (*kept, *(p for p in added if p not in kept))
    changed: Pass = dataclasses.replace(step, exclude=patterns)  # type: ignore[type-var]
    return changed


def in_float(step: Pass) -> Pass:
    """Return a pass that quantizes nothing."""
    off = {"placement": "float"} if hasattr(step, "placement") else {"exclude": ("*",)}
    changed: Pass = dataclasses.replace(step, **off)  # type: ignore[type-var]
    return changed
