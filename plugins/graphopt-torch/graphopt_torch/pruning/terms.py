"""A figure of a model as a sum over its kernels, each by how many channels go in and come out.

What the cost model says of one kernel depends on few widths: of what it reads, and what it makes.
So a few estimates of whole models, in which every group has every width, and every two groups that
meet in a kernel have every pair of widths, tell the table of each kernel. Between the widths of a
table it is interpolated linearly, which is exact for products of widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt_torch.pruning.sites import Site

    Array = np.ndarray[Any, Any]

_RIDGE = 1e-6


@dataclass(frozen=True)
class Side:
    """An axis whose size follows the widths of some groups.

    Args:
        base: indices that always stay.
        per_unit: indices of each unit, by group.
    """

    base: float
    per_unit: tuple[tuple[str, float], ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that it depends on."""
        return tuple(name for name, _ in self.per_unit)

    def size(self, widths: Mapping[str, Any]) -> Any:
        """Return the size for some widths: numbers, or tensors of one element."""
        return self.base + sum(widths[name] * count for name, count in self.per_unit)


@dataclass(frozen=True)
class Term:
    """A part of a figure: a table over the sizes of one or two axes, or of none.

    Args:
        sides: the axes.
        knots: sizes that the table has rows for, ascending, at least two of each side.
        table: the part at these; float64 [knots of the first, ...].
        owner: the constant whose bytes it counts; "" where it counts something else.
    """

    sides: tuple[Side, ...]
    knots: tuple[tuple[float, ...], ...]
    table: Array
    owner: str = ""

    @property
    def groups(self) -> frozenset[str]:
        """The groups that it depends on."""
        return frozenset(name for side in self.sides for name in side.groups)

    def value(self, widths: Mapping[str, float]) -> float:
        """Return the part for some widths."""
        found = self.table
        for side, knots in zip(self.sides, self.knots, strict=True):
            found = np.tensordot(hats(side.size(widths), knots), found, axes=1)
        return float(found)


@dataclass(frozen=True)
class Terms:
    """A figure as a sum.

    Args:
        fixed: what does not depend on any width.
        terms: the rest.
    """

    fixed: float
    terms: tuple[Term, ...]

    def value(self, widths: Mapping[str, float]) -> float:
        """Return the figure for the width of every group."""
        return self.fixed + sum(term.value(widths) for term in self.terms)

    def touching(self, name: str) -> Terms:
        """Return the part of the figure that depends on one group."""
        return Terms(0.0, tuple(term for term in self.terms if name in term.groups))


def hats(size: float, knots: Sequence[float]) -> Array:
    """Return the shares that the two knots next to a size have; float64 [knots], sum 1."""
    found = np.zeros(len(knots))
    place = int(np.clip(np.searchsorted(knots, size, side="right") - 1, 0, len(knots) - 2))
    share = (size - knots[place]) / (knots[place + 1] - knots[place])
    share = float(np.clip(share, 0.0, 1.0))
    found[place], found[place + 1] = 1.0 - share, share
    return found


def fitted_term(sides: Sequence[Side], points: Sequence[tuple[Mapping[str, int], float]]) -> Term:
    """Return the table that some measured parts lie on.

    Where every pair of sizes was measured the table is what was measured. Elsewhere, as on the
    diagonal where both sides are one group, it is the least squares table that is nearest to a
    product of sizes.

    Args:
        sides: one or two.
        points: (widths by group, part).
    """
    sizes = np.array([[side.size(widths) for side in sides] for widths, _ in points], dtype=float)
    knots = tuple(_knots(column) for column in sizes.T)
    rows = [[hats(s, k) for s, k in zip(row, knots, strict=True)] for row in sizes]
    design = np.array([_outer(row).reshape(-1) for row in rows])
    values = np.array([value for _, value in points])
    plain = _products(sizes)
    coefficients = np.linalg.lstsq(plain, values, rcond=None)[0]
    grid = np.stack(np.meshgrid(*knots, indexing="ij"), axis=-1).reshape(-1, len(sides))
    prior = _products(grid) @ coefficients
    normal = design.T @ design + _RIDGE * np.eye(design.shape[1])
    change = np.linalg.solve(normal, design.T @ (values - design @ prior))
    return Term(tuple(sides), knots, (prior + change).reshape([len(k) for k in knots]))


def _knots(sizes: Array) -> tuple[float, ...]:
    found = np.unique(sizes)
    return tuple(found) if len(found) > 1 else (float(found[0]), float(found[0]) + 1.0)


def _outer(rows: Sequence[Array]) -> Array:
    made = rows[0]
    for row in rows[1:]:
        made = np.multiply.outer(made, row)
    return made


def _products(sizes: Array) -> Array:
    """Return 1, the sizes and their product; [points, features]."""
    columns = [np.ones(len(sizes)), *sizes.T]
    if sizes.shape[1] > 1:
        columns.append(sizes.prod(axis=1))
    return np.stack(columns, axis=1)


def full_widths(sites: Sequence[Site]) -> dict[str, int]:
    """Return the widths of the model as it is."""
    return {site.name: site.size for site in sites}
