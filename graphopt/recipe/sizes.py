"""Sizes that a model leaves open and a recipe fixes or bounds."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - cattrs reads it
from dataclasses import dataclass, field

from graphopt.errors import RecipeError

LONE = ""
"""The key of a shape that names no input: that of the only one."""
ANY = "?"
"""A dimension that stays as the model has it."""

_BETWEEN = ".."


@dataclass(frozen=True)
class ModelSizes:
    """What the inputs of the model are, where the model leaves it open.

    Args:
        shapes: one list a named input: numbers, which fix a dimension, symbols, which name it, and
            "?" for a dimension that stays as it is. The name "" means the only input.
        dims: by symbol, a size of 1 or more, which fixes it, or bounds such as "1..8": the passes
            then take it as at least the first, the result is checked at both ends, and estimates
            are for the last.
    """

    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    dims: Mapping[str, int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: tuple(shape) for name, shape in self.shapes.items()}
        for name, shape in shapes.items():
            for dim in shape:
                _check_dimension(name, dim)
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "dims", dict(self.dims))
        for name, dim in self.dims.items():
            bounds_of(name, dim)

    def __bool__(self) -> bool:
        """Whether anything is fixed or bounded."""
        return bool(self.shapes or self.dims)


def _check_dimension(name: str, dim: int | str) -> None:
    who = f"the shape of `{name}`" if name else "the shape"
    if isinstance(dim, int) and dim < 0:
        raise RecipeError(f"{who} has the negative size {dim}", code="G103")
    if dim == "":
        raise RecipeError(f"{who} has a dimension without a number or name", code="G103")


def bounds_of(name: str, dim: int | str) -> tuple[int, int]:
    """Return the smallest and the largest size of a symbol.

    Raises:
        RecipeError: G103, it is neither a size nor two of them.
    """
    text = str(dim).strip()
    first, between, last = text.partition(_BETWEEN)
    ends = (first, last) if between else (text, text)
    if all(end.strip().isdecimal() for end in ends):
        low, high = (int(end) for end in ends)
        if 1 <= low <= high:
            return low, high
    raise RecipeError(
        f"`{name}` cannot be `{dim}`",
        code="G103",
        hint="write a size of 1 or more, or bounds such as 1..8",
    )
