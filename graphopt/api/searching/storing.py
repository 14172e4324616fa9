"""Smaller files of what a search has found: weights stored in fewer bits than they run in."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.searching.formats import as_pruned, placed_format
from graphopt.planner.joint import SMALLEST, is_stored, stored, storing_rounds
from graphopt.report.stored import read_report
from graphopt.runtime import census

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.api.searching.asked import Asked
    from graphopt.api.searching.choice import Choice
    from graphopt.api.searching.ground import Ground
    from graphopt.planner.joint import Candidate, Made
    from graphopt.planner.joint.strategy import Rounds

_STORING = "store-weights"
_SIZE, _TOO_LARGE = "max-size", "max_size"


def can_store(ground: Ground) -> bool:
    """Return whether weights may be expanded at load: not where they are run from storage."""
    listed = any(entry.use == _STORING for entry in ground.recipe.passes)
    return listed and ground.target.memory.storage_limit_bytes is None


def wants_small(asked: Asked) -> bool:
    """Return whether size is what was asked for."""
    return asked.pick == SMALLEST or _SIZE in asked.budgets.stated


def small_rounds(choice: Choice) -> Rounds:
    """Yield the rounds that make the smallest models: of float, of integers, of what is pruned."""
    return storing_rounds(_bases(choice), choice.wanted, choice.made())


def lighter(choice: Choice, chosen: Made) -> Made:
    """Return a picked model with its weights stored in 8 bits, where nothing speaks against it.

    It has to run the same kernels, to keep the accuracy, and to be smaller.
    """
    ground = choice.ground
    named = chosen.candidate
    if not can_store(ground) or named.recipe or is_stored(named) or choice.foreman.is_late():
        return chosen
    (made,) = choice.foreman.make([stored(_settled(chosen, ground))])
    if not made.digest or made.figures is None or chosen.figures is None:
        return chosen
    if made.figures.size_bytes >= chosen.figures.size_bytes or not _same_kernels(
        choice, [chosen, made]
    ):
        return chosen
    if chosen.digest in choice.speedups:
        choice.speedups[made.digest] = choice.speedups[chosen.digest]
    known = {m.key: m for m in choice.judged()}
    found = known.get(made.key)
    return found if found is not None and choice.holds(found) else chosen


def _bases(choice: Choice) -> list[Candidate]:
    """Return the smallest accurate model of each kind: float, quantized, pruned.

    Where a size is stated and no more is asked for, models that keep it are small enough.
    """
    usable = [
        m
        for m in choice.judged()
        if choice.wanted.is_accurate(m)
        and m.figures is not None
        and not m.candidate.recipe
        and not is_stored(m.candidate)
        and (choice.rule == SMALLEST or _TOO_LARGE in choice.excesses(m))
    ]
    kinds: dict[tuple[bool, bool], Made] = {}
    for made in sorted(usable, key=_size):
        kinds.setdefault((made.candidate.is_pruned, made.candidate.label == "float"), made)
    return [_settled(made, choice.ground) for made in kinds.values()]


def _size(made: Made) -> tuple[int, str]:
    assert made.figures is not None
    return made.figures.size_bytes, made.candidate.label


def _settled(made: Made, ground: Ground) -> Candidate:
    """Return a candidate that makes the same model again without a clock or a goal."""
    report = read_report(made.report)
    found = as_pruned(made.candidate, report, ground.registry)
    if made.candidate.measured:
        placed = placed_format(report, ground.recipe, ground.registry)
        told = () if placed is None else placed.overrides
        found = dataclasses.replace(found, overrides=(*found.overrides, *told), measured=False)
    return found


def _same_kernels(choice: Choice, made: Sequence[Made]) -> bool:
    """Return whether models run the same operators, once the runtime has expanded constants."""
    target = choice.ground.target if choice.ground.target.is_host else None
    graphs = [ir.load(choice.store.path(m.digest)) for m in made]
    first, second = (census(graph, target=target).kernels for graph in graphs)
    return first == second
