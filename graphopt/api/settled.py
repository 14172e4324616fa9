"""Decisions written down: options into the recipe, a race that was lost into the records."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graphopt.planner import FLOAT, settled_options
from graphopt.recipe import PassEntry
from graphopt.report import Notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.passes.base import Pass
    from graphopt.recipe import Recipe
    from graphopt.report import CandidateRecord, PassRecord


def settled(recipe: Recipe, steps: Sequence[Pass]) -> Recipe:
    """Return the recipe with the options of passes that it left open."""
    found = {step.name: settled_options(step) for step in steps}
    entries = (PassEntry(e.use, {**e.options, **found.get(e.use, {})}) for e in recipe.passes)
    return dataclasses.replace(recipe, passes=tuple(entries))


def with_settled(recipe: Recipe, records: Sequence[PassRecord]) -> Recipe:
    """Return the recipe with the options that its passes say repeat what they did.

    Args:
        recipe: what was run.
        records: one for each of its entries, in order; the same pass may be among them twice.
    """
    entries = (
        PassEntry(entry.use, {**entry.options, **record.settled})
        for entry, record in zip(recipe.passes, records, strict=True)
    )
    return dataclasses.replace(recipe, passes=tuple(entries))


def float_chosen(candidates: Sequence[CandidateRecord], why: str) -> tuple[CandidateRecord, ...]:
    """Return the candidates with the float model chosen, and why the other was not."""
    return tuple(
        dataclasses.replace(c, chosen=c.placement == FLOAT, why=why if c.chosen else c.why)
        for c in candidates
    )


def taken_back(records: Sequence[PassRecord], first: int, why: str) -> list[PassRecord]:
    """Return the records with what changed something from the ``first``-th on rolled back."""
    return [
        dataclasses.replace(r, status="rolled back", reason=why)
        if index >= first and r.status == "changed"
        else r
        for index, r in enumerate(records)
    ]


def original_kept(ratio: float) -> Notice:
    """Return what is said where the compiled model lost against the original."""
    return Notice(
        "W501",
        f"the compiled model ran at {ratio:.2f} times the speed of the original; "
        "the original was kept",
        "run again on an idle machine, or compile for a named target",
    )
