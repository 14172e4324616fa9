"""What `compile` and `search` have in common when the best of many models is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from graphopt.cli.options import sizes
from graphopt.cli.render import Terminal
from graphopt.cli.search_options import budgets_of
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from graphopt.api import Compiled
    from graphopt.cli.compile import Request
    from graphopt.cli.settings import Settings
    from graphopt.recipe import ResolvedRecipe
    from graphopt.report import SearchRecord

    Finish = Callable[[Settings, "Order", Compiled, SearchRecord, Path], None]


@dataclass(frozen=True)
class Order:
    """A search as it was ordered on the command line."""

    model: Path
    target: str | None
    data: Path | None
    validation: Path | None
    recipe: str | None
    overrides: tuple[str, ...]
    max_drop: str | None
    budgets: Mapping[str, str]
    effort: str | None
    time_limit: float | None
    workers: int | None
    executor: str | None
    no_measure: bool
    keep: bool
    html: bool
    shapes: tuple[Any, ...]
    dims: tuple[Any, ...]
    recover: str | None = None
    pick: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Order:
        """Return the order among options of a command that has others as well."""
        known = dict(given)
        budgets = known.pop("budgets", None)
        if budgets is None:
            budgets = budgets_of(known)
        names = {f.name for f in fields(cls)}
        return cls(budgets=budgets, **{k: v for k, v in known.items() if k in names})


def carry_out(
    settings: Settings, order: Order, output: Path, folder: Path | None, finish: Finish
) -> None:
    """Search, and hand over what was found; with ``--keep`` also what does not hold.

    Raises:
        GraphOptError: as ``graphopt.api.search``.
    """
    from graphopt.errors import LimitError

    try:
        found = _found(settings, order, folder)
    except LimitError as error:
        if order.keep and error.compiled is not None and error.search is not None:
            compiled, record = cast("Compiled", error.compiled), cast("SearchRecord", error.search)
            finish(settings, order, compiled, record, output)
        raise
    finish(settings, order, found.compiled, found.record, output)


def compile_by_search(
    settings: Settings, request: Request, resolved: ResolvedRecipe, output: Path
) -> None:
    """Write the best model within the budgets of a compile, and tell how it came about."""
    _demand_one_question(request)

    def finish(
        settings: Settings, order: Order, compiled: Compiled, record: SearchRecord, output: Path
    ) -> None:
        written = compiled.save(output, html=order.html, search=record)
        terminal = Terminal(settings)
        if settings.json:
            from graphopt.cli.encode import to_data

            found = {**to_data(compiled.report), "search": to_data(record), "written": written}
            terminal.data(found)
            return
        from graphopt.cli.render_compile import summary
        from graphopt.cli.render_search import search_lines

        verbose = settings.verbose > 0
        told = summary(compiled.report, resolved.sources, written, verbose=verbose)
        terminal.result([*search_lines(record, verbose=verbose), "", *told])
        terminal.notices(compiled.report.notices)

    asked = {f.name: getattr(request, f.name) for f in fields(request)}
    told = request.bearing_on_recipe()["overrides"]
    # The drop is the search's own: candidates are made without it, and judged.
    asked["overrides"] = tuple(o for o in told if not o.startswith("limits.max-drop="))
    order = Order.of(asked)
    carry_out(settings, order, output, None, finish)


def _demand_one_question(request: Request) -> None:
    """Raise RecipeError G108 for options of one compile beside those that make many models."""
    from graphopt.errors import RecipeError

    of_one = {
        "--prune-to": request.prune_to,
        "--explain": request.explain,
        "--dump-after": request.dump_after,
        "--strict": request.strict,
    }
    stated = [name for name, value in of_one.items() if value]
    if stated:
        budget = next(iter(request.budgets)).replace("_", "-")
        raise RecipeError(
            f"`{stated[0]}` is of one compile, and `--{budget}` makes many models",
            code="G108",
            hint="search first, then compile with the recipe in the report of what was picked",
        )


def _found(settings: Settings, order: Order, folder: Path | None) -> Any:
    from graphopt import api
    from graphopt.cli.progress import observing

    if order.data is None:
        raise DataError(
            "a budget is stated, and there is no data to judge models by",
            code="G216",
            hint="--data FILE, some hundred samples, with labels where accuracy is meant",
        )
    with observing(settings) as observe:
        return api.search(
            order.model,
            data=order.data,
            validation=order.validation,
            target=order.target,
            recipe=order.recipe,
            overrides=order.overrides,
            max_drop=order.max_drop,
            budgets=order.budgets,
            effort=order.effort or "normal",
            seconds=order.time_limit,
            recover=order.recover,
            pick=order.pick,
            workers=order.workers,
            executor=order.executor,
            folder=folder,
            measure=False if order.no_measure else None,
            sensitivity=order.html,
            registry=settings.registry,
            observe=observe,
            **sizes(order.shapes, order.dims),
        )
