"""Units: what can be removed, and only together; and groups: units of the same axes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.cut import Cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.analysis.coupling.links import Consumer, Links, Producer
    from graphopt.ir import Value

    Array = np.ndarray[Any, Any]

UNREAD = "no operator sums over it"


@dataclass(frozen=True, eq=False)
class Group:
    """Units that touch the same axes: the channels of one layer, the heads of one attention.

    Args:
        name: the weight that makes them, or the first tensor; unique in a graph.
        size: number of units.
        units: for each axis, the unit of every index; -1 for indices of others. int64 [size].
        cells: cell of each unit; every cell must lose the same number. int64 [units].
        consumers: who sums over the units.
        producers: whose weights make them.
        inexact: how removing some changes what the rest becomes; empty when it does not.
    """

    name: str
    size: int
    units: Mapping[Axis, Array]
    cells: Array
    consumers: tuple[Consumer, ...]
    producers: tuple[Producer, ...]
    inexact: tuple[str, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that shrink, in order of name."""
        return tuple(self.units)

    @property
    def is_exact(self) -> bool:
        """Whether removing what is zero at every consumer changes nothing."""
        return not self.inexact

    @property
    def step(self) -> int:
        """How many units go at least at once: one of each cell."""
        return len(np.unique(self.cells))

    def indices(self, axis: Axis, keep: Array) -> Array:
        """Return which indices of an axis stay when ``keep``, bool [size], is kept."""
        units = self.units[axis]
        return np.where(units < 0, True, keep[np.maximum(units, 0)])


@dataclass(frozen=True, eq=False)
class Coupling:
    """What can be removed from a graph.

    Args:
        groups: in order of name.
        reasons: why indices of axes stay, [(indices or None for all, reason)]; only axes of tensors
            that something could have been removed from.
    """

    groups: tuple[Group, ...]
    reasons: Mapping[Axis, tuple[tuple[Array, str], ...]] = field(repr=False)

    @cached_property
    def _groups_of(self) -> Mapping[Axis, tuple[Group, ...]]:
        found: dict[Axis, list[Group]] = defaultdict(list)
        for group in self.groups:
            for axis in group.axes:
                found[axis].append(group)
        return {axis: tuple(groups) for axis, groups in found.items()}

    def of(self, value: Value, position: int) -> tuple[Group, ...]:
        """Return the groups whose units an axis consists of; none when it is frozen."""
        return self._groups_of.get(Axis(value, position), ())

    def why(self, value: Value, position: int) -> tuple[tuple[Array, str], ...]:
        """Return (indices, why they stay) for an axis; empty when all of it can be removed."""
        return self.reasons.get(Axis(value, position), ())

    def cut(self, keeps: Mapping[str, Array]) -> Cut:
        """Return what is kept of every axis, for what is kept of some groups.

        Args:
            keeps: bool [size] by name of group; groups that are not named stay whole.

        Raises:
            ValueError: nothing of a group would be left, its cells would lose different numbers,
                or a mask has another size.
            KeyError: there is no such group.
        """
        known = {group.name: group for group in self.groups}
        result: dict[Axis, Array] = {}
        for name, keep in keeps.items():
            group = known[name]
            _check(group, keep)
            for axis in group.axes:
                before = result.get(axis, True)
                result[axis] = np.logical_and(before, group.indices(axis, keep))
        return Cut(result)


def _check(group: Group, keep: Array) -> None:
    if keep.shape != (group.size,) or keep.dtype != np.bool_:
        raise ValueError(f"`{group.name}` has {group.size} units, not {keep.shape} {keep.dtype}")
    if not keep.any():
        raise ValueError(f"nothing of `{group.name}` would be left")
    lost = np.bincount(group.cells, weights=~keep)
    if np.unique(lost).size > 1:
        raise ValueError(f"the {len(lost)} parts of `{group.name}` must lose the same number each")


def group_units(links: Links, labels: Array) -> Coupling:
    """Return the groups of a graph whose components are known.

    Args:
        links: what the rules said.
        labels: component of each atom: its smallest member. int64 [atoms].
    """
    _freeze_unread(links, labels)
    stays = _frozen_roots(links, labels)
    groups = _balanced(links, labels, stays)
    return Coupling(groups, _reasons(links, labels))


def _frozen_roots(links: Links, labels: Array) -> Array:
    stays = np.zeros(labels.size, dtype=bool)
    for atoms, _ in links.frozen:
        stays[labels[atoms]] = True
    return stays


def _freeze_unread(links: Links, labels: Array) -> None:
    read = np.zeros(labels.size, dtype=bool)
    for consumer in links.consumers:
        for axis in (consumer.source, consumer.weight):
            if axis is not None and axis in links.table:
                read[labels[links.table.atoms(axis)]] = True
    unread = np.flatnonzero(~read[labels])
    if unread.size:
        links.frozen.append((unread, UNREAD))


def _balanced(links: Links, labels: Array, stays: Array) -> tuple[Group, ...]:
    """Return the groups; those that cannot be balanced are frozen, until nothing changes."""
    while True:
        groups, faults = _gather(links, labels, stays)
        if not faults:
            return groups
        for atoms, reason in faults:
            links.frozen.append((atoms, reason))
            stays[labels[atoms]] = True


def _gather(
    links: Links, labels: Array, stays: Array
) -> tuple[tuple[Group, ...], list[tuple[Array, str]]]:
    owners = links.table.owners()
    free = np.flatnonzero(~stays[labels])
    roots = labels[free]
    order = np.lexsort((free, roots))
    atoms, roots = free[order], roots[order]
    starts = np.flatnonzero(roots[1:] != roots[:-1]) + 1
    by_axes: dict[tuple[int, ...], list[Array]] = defaultdict(list)
    for unit in np.split(atoms, starts) if atoms.size else []:
        numbers = np.unique(owners[unit])
        by_axes[tuple(numbers[numbers < links.table.visible].tolist())].append(unit)
    by_axes.pop((), None)
    builder = _GroupBuilder(links, labels, owners)
    groups = [builder.build(axes, units) for axes, units in by_axes.items() if len(units) > 1]
    named = sorted(groups, key=lambda group: group.name)
    return tuple(_unique_names(named)), builder.faults


def _unique_names(groups: list[Group]) -> list[Group]:
    seen: dict[str, int] = {}
    result = []
    for group in groups:
        count = seen[group.name] = seen.get(group.name, 0) + 1
        name = group.name if count == 1 else f"{group.name}#{count}"
        result.append(Group(**{**group.__dict__, "name": name}))
    return result


class _GroupBuilder:
    """Makes groups, and notes those that cannot be balanced."""

    def __init__(self, links: Links, labels: Array, owners: Array) -> None:
        self.links = links
        self.labels = labels
        self.owners = owners
        self.faults: list[tuple[Array, str]] = []
        self._consumers: dict[Axis, list[Consumer]] = defaultdict(list)
        self._producers: dict[Axis, list[Producer]] = defaultdict(list)
        for consumer in links.consumers:
            axis = consumer.source or consumer.weight
            if axis is not None:
                self._consumers[axis].append(consumer)
        for producer in links.producers:
            self._producers[producer.weight].append(producer)

    def build(self, numbers: tuple[int, ...], units: list[Array]) -> Group:
        atoms = np.concatenate(units)
        unit_of = np.repeat(np.arange(len(units)), [len(unit) for unit in units])
        owner = self.owners[atoms]
        members: dict[Axis, Array] = {}
        for number in numbers:
            axis = self.links.table.axes[number]
            here = owner == number
            indices = np.full(axis.size or 0, -1)
            indices[atoms[here] - self.links.table.atoms(axis)[0]] = unit_of[here]
            members[axis] = indices
        producers = _distinct(self._producers, members)
        return Group(
            name=producers[0].weight.value.name if producers else next(iter(members)).value.name,
            size=len(units),
            units=members,
            cells=self._cells(members, atoms, len(units)),
            consumers=_distinct(self._consumers, members),
            producers=producers,
            inexact=self._inexact(atoms),
        )

    def _inexact(self, atoms: Array) -> tuple[str, ...]:
        roots = np.zeros(self.labels.size, dtype=bool)
        roots[self.labels[atoms]] = True
        found = {r for some, r in self.links.inexact if roots[self.labels[some]].any()}
        return tuple(sorted(found))

    def _cells(self, members: Mapping[Axis, Array], atoms: Array, count: int) -> Array:
        """Return cells such that losing the same number of each balances every axis."""
        balances = [b for b in self.links.balances if b.axis in members]
        if not balances:
            return np.zeros(count, dtype=np.int64)
        tables = [_counts(members[b.axis], b.blocks, count) for b in balances]
        cells = np.unique(np.hstack(tables), axis=0, return_inverse=True)[1].reshape(-1)
        for candidate in (cells, _split(cells)):
            uneven = [
                b for b, t in zip(balances, tables, strict=True) if not _is_even(t, candidate)
            ]
            if not uneven:
                return np.asarray(candidate)
        node = uneven[0].node
        self.faults.append((atoms, f"{node.op} `{node.label}` groups it unevenly"))
        return cells


def _counts(units: Array, blocks: int, count: int) -> Array:
    """Return how many indices each unit has in each block; int64 [count, blocks]."""
    block = np.arange(units.size) // (units.size // blocks)
    table = np.zeros((count, blocks), dtype=np.int64)
    mine = units >= 0
    np.add.at(table, (units[mine], block[mine]), 1)
    return table


def _is_even(table: Array, cells: Array) -> bool:
    """Whether one unit of each cell, all of a cell being alike, takes as much of every block."""
    one = np.unique(cells, return_index=True)[1]
    return np.unique(table[one].sum(axis=0)).size == 1


def _split(cells: Array) -> Array:
    """Return cells of one size: where blocks of several widths cross, cells are not.

    An axis that is free as a whole is balanced when each part of it loses the same share.
    """
    sizes = np.bincount(cells)
    width = np.gcd.reduce(sizes)
    parts = sizes // width
    order = np.argsort(cells, kind="stable")
    ranks = np.empty_like(cells)
    ranks[order] = np.arange(cells.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray((np.cumsum(parts) - parts)[cells] + ranks // width)


def _distinct(by_axis: Mapping[Axis, list[Any]], members: Mapping[Axis, Array]) -> tuple[Any, ...]:
    found = {item: None for axis in members for item in by_axis.get(axis, ())}
    return tuple(found)


def _reasons(links: Links, labels: Array) -> dict[Axis, tuple[tuple[Array, str], ...]]:
    """Return why indices stay: of several reasons the one that comes first in the alphabet."""
    texts = sorted({reason for _, reason in links.frozen}, key=lambda r: (r == UNREAD, r))
    number = {reason: index for index, reason in enumerate(texts)}
    worst = len(texts)
    first = np.full(labels.size, worst)
    for atoms, reason in links.frozen:
        np.minimum.at(first, labels[atoms], number[reason])
    found: dict[Axis, tuple[tuple[Array, str], ...]] = {}
    for axis in links.table.axes[: links.table.visible]:
        codes = first[labels[links.table.atoms(axis)]]
        parts = tuple(
            (np.flatnonzero(codes == code), texts[code]) for code in np.unique(codes[codes < worst])
        )
        if parts:
            found[axis] = parts
    return found
