"""Fix or bound the sizes that a model leaves open, before anything else is done with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.recipe.sizes import ANY, LONE, ModelSizes, bounds_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.ir import Graph, Value

    Shapes = Mapping[str, Sequence[int | str]] | Sequence[int | str]
    Dims = Mapping[str, int | str | tuple[int, int]]


def sizes_given(shapes: Shapes | None, dims: Dims | None) -> ModelSizes:
    """Return what a call says of sizes, in the form that a recipe holds.

    Args:
        shapes: by input, or that of the only input.
        dims: by symbol: a size, "1..8", or (1, 8).

    Raises:
        RecipeError: G103, a size is negative, or bounds are none.
    """
    by_input = shapes if isinstance(shapes, Mapping) else {} if shapes is None else {LONE: shapes}
    return ModelSizes(
        {name: tuple(shape) for name, shape in by_input.items()},
        {n: f"{d[0]}..{d[1]}" if isinstance(d, tuple) else d for n, d in (dims or {}).items()},
    )


def set_sizes(graph: Graph, sizes: ModelSizes) -> ModelSizes:
    """Fix and bound sizes of a graph in place; return them with every input named.

    Raises:
        ModelError: G218, an input or symbol does not exist, a shape has another rank, sizes
            contradict each other or the model, or the model cannot have that size.
    """
    if not sizes:
        return sizes
    before = ir.find_contradiction(graph)
    named = _named(graph, sizes.shapes)
    bound: dict[str, int | str] = {}
    for name, shape in named.items():
        _shape_input(_input(graph, name), shape, bound)
    _substitute(graph, bound)
    fixed: dict[str, int | str] = {}
    for name, dim in sizes.dims.items():
        low, high = _bounds(graph, name, dim, bound)
        if low == high:
            fixed[name] = low
        elif bound.get(name) is None or isinstance(bound[name], str):
            graph.bounds[name] = (low, high)
    _substitute(graph, fixed)
    if before is None:
        _check_possible(graph)
    return ModelSizes(named, sizes.dims)


def _named(
    graph: Graph, shapes: Mapping[str, tuple[int | str, ...]]
) -> dict[str, tuple[int | str, ...]]:
    """Put the name of the only input in the place of the shape that has none."""
    found = {name: shape for name, shape in shapes.items() if name != LONE}
    if LONE not in shapes:
        return found
    if len(graph.feeds) != 1:
        names = ", ".join(f"`{v.name}`" for v in graph.feeds)
        raise ModelError(
            f"the model has {len(graph.feeds)} inputs, and a shape names none of them",
            code="G218",
            hint=f"write NAME=DIMS; inputs are {names}" if names else None,
        )
    (only,) = graph.feeds
    if found.get(only.name, shapes[LONE]) != shapes[LONE]:
        raise ModelError(f"`{only.name}` is given two shapes", code="G218")
    return {**found, only.name: shapes[LONE]}


def _input(graph: Graph, name: str) -> Value:
    found = next((v for v in graph.feeds if v.name == name), None)
    if found is None:
        raise _unknown("input", name, [v.name for v in graph.feeds])
    return found


def _unknown(kind: str, name: str, known: Iterable[str]) -> ModelError:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(f"`{n}`" for n in names) or "none"
    return ModelError(
        f"the model has no {kind} `{name}`",
        code="G218",
        hint=f"did you mean `{close[0]}`?" if close else f"it has {listed}",
    )


def _shape_input(value: Value, shape: Sequence[int | str], bound: dict[str, int | str]) -> None:
    """Compare a shape with the declared one, and note what its symbols become."""
    declared = value.shape
    if declared is None:
        declared = (None,) * len(shape)
    if len(declared) != len(shape):
        raise ModelError(
            f"`{value.name}` has {len(declared)} dimensions, and {len(shape)} are given",
            code="G218",
            hint=f"its shape is {_text(declared)}",
        )
    made: list[int | str | None] = list(declared)
    for i, (old, new) in enumerate(zip(declared, shape, strict=True)):
        if new in (ANY, old):
            continue
        if isinstance(old, int):
            raise ModelError(
                f"dimension {i} of `{value.name}` is {old}, and {new} is given",
                code="G218",
                hint="what a model fixes cannot be changed: export it again",
            )
        if old is None:
            made[i] = new
        elif bound.setdefault(old, new) != new:
            raise ModelError(
                f"`{old}` is given as {bound[old]} and as {new}",
                code="G218",
                hint="one symbol is one size wherever it occurs",
            )
    value.shape = tuple(made)


def _text(shape: Iterable[int | str | None]) -> str:
    return ",".join(ANY if d is None else str(d) for d in shape)


def _bounds(
    graph: Graph, name: str, dim: int | str, bound: Mapping[str, int | str]
) -> tuple[int, int]:
    low, high = bounds_of(name, dim)
    given = bound.get(name)
    if isinstance(given, int):
        if not low <= given <= high:
            raise ModelError(
                f"`{name}` is given as {given} and as {dim}",
                code="G218",
                hint="one symbol is one size wherever it occurs",
            )
    elif name not in _symbols(graph):
        raise _unknown("open size", name, sorted(_symbols(graph)))
    return low, high


def _symbols(graph: Graph) -> set[str]:
    return {d for v in graph.feeds for d in v.shape or () if isinstance(d, str)}


def _substitute(graph: Graph, bound: Mapping[str, int | str]) -> None:
    """Put sizes, and other names, in the place of symbols wherever the model declares them."""
    if not bound:
        return
    numbers = {name: size for name, size in bound.items() if isinstance(size, int)}
    for value in graph.values():
        if value.shape is not None:
            value.shape = tuple(_replaced(d, bound, numbers) for d in value.shape)


def _replaced(
    dim: int | str | None, bound: Mapping[str, int | str], numbers: Mapping[str, int]
) -> int | str | None:
    if not isinstance(dim, str):
        return dim
    if dim in bound:
        return bound[dim]
    # Exporters write `past + 1` where a size follows from another.
    found = ir.evaluate_text(dim, numbers) if numbers else None
    return dim if found is None else found


def _check_possible(graph: Graph) -> None:
    """Refuse sizes that a node of the model cannot have, where inference can tell."""
    wrong = ir.find_contradiction(graph)
    if wrong is not None:
        raise ModelError(
            f"the model cannot have that size: {wrong}",
            code="G218",
            hint="a node of it was exported for another size",
        )
