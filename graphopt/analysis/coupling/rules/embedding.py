"""Look-ups: Gather, and what else picks rows by numbers that only the data knows.

An axis that is searched by numbers from the data stays as it is, since any row may be asked for.
Where the numbers are constants, each is tied to the row that it picks, and is renumbered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    contradiction,
    operand,
    position,
    rank,
    result,
    rewrite,
    same_axes,
    together,
    whole_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]


# -- Gather --------------------------------------------------------------------------------


def _gather(node: Node, links: Links) -> None:
    data, indices, made = operand(node, 0), operand(node, 1), result(node)
    place = position(node.attribute("axis", 0), rank(data))
    fits = rank(made) == rank(data) + rank(indices) - 1
    if data is None or indices is None or made is None or place is None or not fits:
        links.freeze_node(node, contradiction(node))
        return
    count = rank(indices)
    _around(node, links, data, made, place, count)
    line = _line(indices)
    if line is None or not Axis(data, place).size:
        _dynamic(node, links, Axis(data, place), indices, made)
        return
    picked = _picked(indices, Axis(data, place))
    if picked is None or (count and Axis(made, place + line).size != picked.size):
        links.freeze_node(node, f"Gather `{node.label}` reads beyond the end of its data")
    elif count == 0:
        reason = f"Gather `{node.label}` reads this index of it"
        links.freeze(Axis(data, place), reason, picked)
    else:
        links.tie(Axis(data, place), Axis(made, place + line), of_one=picked)
        for at in range(count):
            links.ignore(Axis(indices, at))


def _around(node: Node, links: Links, data: Value, made: Value, place: int, count: int) -> None:
    """Tie the axes before and after the one that is searched."""
    for before in range(rank(data)):
        after = before if before < place else before + count - 1
        if before == place:
            continue
        axes = [Axis(made, after), Axis(data, before)]
        if data.is_constant and before == rank(data) - 1 and axes[0].size == axes[1].size:
            links.produce(node, *axes)
        else:
            together(links, node, axes)


def _line(indices: Value) -> int | None:
    """Return along which axis constant indices run; None where it is several, or not known."""
    if whole_numbers(indices) is None:
        return None
    wide = [at for at in range(rank(indices)) if Axis(indices, at).size != 1]
    return None if len(wide) > 1 else (wide[0] if wide else 0)


def _picked(indices: Value, axis: Axis) -> Array | None:
    """Return the numbers of the rows that are picked; None where one does not exist."""
    size = axis.size or 0
    numbers = np.array(whole_numbers(indices), dtype=np.int64)
    return None if ((numbers < -size) | (numbers >= size)).any() else numbers % max(size, 1)


def _dynamic(node: Node, links: Links, axis: Axis, indices: Value, made: Value) -> None:
    links.freeze(axis, f"which of them {node.op} `{node.label}` reads depends on the data")
    for at in range(rank(indices)):
        together(links, node, [Axis(indices, at), Axis(made, axis.position + at)])


def _renumber(node: Node, cut: Cut) -> None:
    """Rewrite constant indices of Gather: those of rows that are left, as they count then."""
    data, indices = node.inputs[:2]
    if data is None or indices is None or _line(indices) is None:
        return
    place = position(node.attribute("axis", 0), rank(data)) or 0
    keep = cut.keep(data, place)
    picked = _picked(indices, Axis(data, place))
    if keep is None or picked is None:
        return
    after = (np.cumsum(keep) - 1)[picked][keep[picked]]
    shape = [-1 if size != 1 else 1 for size in indices.shape or ()]
    rewrite(node, 1, after.reshape(shape).astype(indices.array().dtype))


def _compress(node: Node, links: Links) -> None:
    """Couple Compress: like Gather where the condition is a constant."""
    source, made, condition = operand(node, 0), result(node), operand(node, 1)
    place = position(node.attribute("axis"), rank(source))
    if source is None or made is None or condition is None or place is None:
        links.freeze_node(node, f"Compress `{node.label}` runs all axes together")
        return
    if not same_axes(links, node, (source, made), but=(place,)):
        return
    axes = (Axis(source, place), Axis(made, place))
    chosen = np.flatnonzero(condition.array()) if condition.is_constant else None
    if chosen is None or not axes[0].size or axes[1].size != len(chosen):
        for axis in axes:
            links.freeze(axis, f"which of them Compress `{node.label}` keeps depends on the data")
    else:
        links.tie(*axes, of_one=chosen)
        links.ignore(Axis(condition, 0))


def _fewer_conditions(node: Node, cut: Cut) -> None:
    source, condition = node.inputs[0], node.inputs[1]
    if source is None or condition is None or not condition.is_constant:
        return
    keep = cut.keep(source, position(node.attribute("axis", 0), rank(source)) or 0)
    if keep is not None:
        given = np.zeros(keep.size, dtype=bool)
        given[: condition.array().size] = condition.array().reshape(-1)
        rewrite(node, 1, given[keep])


# -- elements and slices -------------------------------------------------------------------


def _gather_elements(node: Node, links: Links) -> None:
    _elements(node, links, operand(node, 0), [operand(node, 1), result(node)])


def _scatter_elements(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    place = position(node.attribute("axis", 0), rank(source))
    if place is not None and same_axes(links, node, (source, made), but=(place,)):
        links.freeze(Axis(made, place), _writes(node))  # type: ignore[arg-type]
    _elements(node, links, source, [operand(node, 1), operand(node, 2)])


def _elements(node: Node, links: Links, data: Value | None, small: list[Value | None]) -> None:
    """Tie data to the indices, and what belongs to them, on the axes that are not searched."""
    place = position(node.attribute("axis", 0), rank(data))
    if data is None or place is None or any(rank(value) != rank(data) for value in small):
        links.freeze_node(node, contradiction(node))
        return
    given = [value for value in small if value is not None]
    links.freeze(Axis(data, place), f"which of them `{node.label}` picks depends on the data")
    together(links, node, [Axis(value, place) for value in given])
    for at in range(rank(data)):
        if at != place:
            together(links, node, [Axis(data, at), *(Axis(value, at) for value in given)])


def _writes(node: Node) -> str:
    return f"where {node.op} `{node.label}` writes along it depends on the data"


def _depth(indices: Value | None) -> int | None:
    """Return how many axes each row of indices searches; None where that is not known."""
    return Axis(indices, rank(indices) - 1).size if indices is not None and rank(indices) else None


def _gather_nd(node: Node, links: Links) -> None:
    data, indices, made = operand(node, 0), operand(node, 1), result(node)
    depth, shared = _depth(indices), node.attribute("batch_dims", 0)
    if data is None or indices is None or made is None or depth is None:
        links.freeze_node(node, contradiction(node))
        return
    lead = rank(indices) - 1
    searched = range(shared, shared + depth)
    if rank(made) != lead + rank(data) - searched.stop or shared > lead:
        links.freeze_node(node, contradiction(node))
        return
    for at in range(lead):
        also = [Axis(data, at)] if at < shared else []
        together(links, node, [Axis(indices, at), Axis(made, at), *also])
    _rows(node, links, (data,), made, searched, lead)


def _scatter_nd(node: Node, links: Links) -> None:
    data, indices, updates = operand(node, 0), operand(node, 1), operand(node, 2)
    made, depth = result(node), _depth(indices)
    if data is None or indices is None or updates is None or made is None or depth is None:
        links.freeze_node(node, contradiction(node))
        return
    lead = rank(indices) - 1
    if rank(updates) != lead + rank(data) - depth or rank(made) != rank(data):
        links.freeze_node(node, contradiction(node))
        return
    for at in range(lead):
        together(links, node, [Axis(indices, at), Axis(updates, at)])
    _rows(node, links, (data, made), updates, range(depth), lead)


def _rows(
    node: Node,
    links: Links,
    whole: Sequence[Value],
    part: Value,
    searched: range,
    lead: int,
) -> None:
    """Freeze the axes that are searched; tie those after them to the last ones of ``part``."""
    for value in whole:
        for at in searched:
            links.freeze(Axis(value, at), f"where `{node.label}` looks depends on the data")
    for at in range(searched.stop, rank(whole[0])):
        after = Axis(part, at - searched.stop + lead)
        together(links, node, [after, *(Axis(value, at) for value in whole)])


def _tensor_scatter(node: Node, links: Links) -> None:
    """Couple TensorScatter: a cache, and what is written to it along one axis."""
    cache, update, made = operand(node, 0), operand(node, 1), result(node)
    place = position(node.attribute("axis", -2), rank(cache))
    if cache is None or place is None:
        links.freeze_node(node, contradiction(node))
    elif same_axes(links, node, (cache, update, made), but=(place,)):
        for value in (cache, update, made):
            if value is not None:
                links.freeze(Axis(value, place), _writes(node))


def _one_hot(node: Node, links: Links) -> None:
    indices, made = operand(node, 0), result(node)
    place = position(node.attribute("axis", -1), rank(made))
    if indices is None or made is None or place is None or rank(made) != rank(indices) + 1:
        links.freeze_node(node, contradiction(node))
        return
    links.freeze(Axis(made, place), f"OneHot `{node.label}` has a place there for each number")
    for at in range(rank(indices)):
        together(links, node, [Axis(indices, at), Axis(made, at if at < place else at + 1)])


# -- what the size itself decides ----------------------------------------------------------

_FIXED = {
    "Bernoulli": "draws random numbers",
    "EyeLike": "makes a matrix of the same size",
    "Multinomial": "draws random numbers",
    "RandomNormal": "draws random numbers",
    "RandomNormalLike": "draws random numbers",
    "RandomUniform": "draws random numbers",
    "RandomUniformLike": "draws random numbers",
    "Range": "counts along it",
    "Size": "tells how many elements there are",
}


def _fixed(node: Node, links: Links) -> None:
    links.freeze_node(node, f"{node.op} `{node.label}` {_FIXED[node.op]}")


RULES: tuple[CouplingRule, ...] = (
    CouplingRule("Gather", _gather, _renumber),
    CouplingRule("Compress", _compress, _fewer_conditions),
    CouplingRule("GatherElements", _gather_elements),
    CouplingRule("GatherND", _gather_nd),
    CouplingRule("Scatter", _scatter_elements),
    CouplingRule("ScatterElements", _scatter_elements),
    CouplingRule("ScatterND", _scatter_nd),
    CouplingRule("TensorScatter", _tensor_scatter),
    CouplingRule("OneHot", _one_hot),
    *(CouplingRule(op, _fixed) for op in _FIXED),
)
