"""What a call asks to be shown: whether it is there at all, and the graph as text."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.recipe import Recipe
    from graphopt.report import Report


def demand_option(is_asked_for: bool, option: str, given: Mapping[str, object]) -> None:
    """Raise RecipeError G108 when something is stated that only goes with another option."""
    stated = [name for name, value in given.items() if value is not None]
    if stated and not is_asked_for:
        raise RecipeError(
            f"`{stated[0]}` goes with {option}",
            code="G108",
            hint=f"add {option}, or leave it out",
        )


def check_dumped(name: str | None, recipe: Recipe) -> None:
    """Raise RecipeError G105 when the pass to write the graph after does not run."""
    used = [entry.use for entry in recipe.passes]
    if name is not None and name not in used:
        raise RecipeError(
            f"the recipe has no pass `{name}`",
            code="G105",
            where=f"--dump-after {name}",
            hint=f"passes of the recipe: {', '.join(used)}",
        )


def write_dump(folder: Path, name: str, graph: Graph) -> None:
    """Write a graph as text, named after the pass that it is written after."""
    folder.mkdir(parents=True, exist_ok=True)
    ir.write_whole(folder / f"{name}.txt", ir.to_text(graph).encode())


def check_explained(report: Report, names: Sequence[str], graph: Graph) -> None:
    """Raise ModelError G205 when a node that should be explained does not exist."""
    known = {n.name for n in graph.walk()} | {v.name for n in graph.walk() for v in n.outputs}
    known |= {e.node for e in report.explanations}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ModelError(
                f"the model has no node `{name}`",
                code="G205",
                hint=f"did you mean `{close[0]}`?" if close else "`graphopt inspect` shows it",
            )
