"""Pooling and resizing: channels stay apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.links import axes_of
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    MICROSOFT,
    contradiction,
    operand,
    position,
    rank,
    result,
    same_axes,
    together,
)
from graphopt.analysis.coupling.rules.shape_operands import new_sizes, patch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

_SHIFTED = frozenset({"tf_half_pixel_for_nn"})
"""Ways to place samples that move them although nothing is scaled."""

_CROPPED = "tf_crop_and_resize"
"""The way to place samples that reads a region first."""


# -- windows -------------------------------------------------------------------------------


def _pool(node: Node, links: Links) -> None:
    """Couple a pooling operator: images and channels stay, positions are run together."""
    _windows(node, links, [operand(node, 0), result(node)])


def _windows(node: Node, links: Links, values: Sequence[Value | None], channel: int = 1) -> None:
    inside = [i for i in range(1, rank(values[0])) if i != channel]
    if rank(values[0]) < 2:
        links.freeze_node(node, contradiction(node))
    elif same_axes(links, node, values, but=inside):
        for value in values:
            for axis in axes_of(value):
                if axis.position in inside:
                    links.freeze(axis, f"{node.op} `{node.label}` pools over it")


def _max_pool(node: Node, links: Links) -> None:
    """Couple MaxPool: the places of the largest are numbers that only MaxUnpool may read."""
    places = result(node, 1)
    if places is None:
        _pool(node, links)
    elif node.attribute("storage_order", 0) or not _only_unpooled(places):
        links.freeze_node(node, f"`{places.name}` counts the elements of all channels")
    else:
        _windows(node, links, [operand(node, 0), result(node), places])


def _only_unpooled(places: Value) -> bool:
    readers = all(node.op == "MaxUnpool" and index == 1 for node, index in places.uses)
    return readers and not places.is_output


def _unpool(node: Node, links: Links) -> None:
    """Couple MaxUnpool where it puts things back to where MaxPool found them."""
    places, made = operand(node, 1), result(node)
    pool = places.producer if places is not None else None
    source = operand(pool, 0) if pool is not None and pool.op == "MaxPool" else None
    same = made is not None and source is not None and _inner(source) == _inner(made) is not None
    if not same:
        links.freeze_node(node, f"MaxUnpool `{node.label}` does not undo a MaxPool of that size")
        return
    _windows(node, links, [operand(node, 0), places, made])
    if made is not None and source is not None:
        together(links, node, [Axis(source, 1), Axis(made, 1)])


def _inner(value: Value) -> tuple[int, ...] | None:
    sizes = [axis.size for axis in axes_of(value) if axis.position > 1]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def _resize_unpool(node: Node, cut: Cut) -> None:
    patch(node, 2, new_sizes(node.outputs[0], cut))


def _nhwc_max_pool(node: Node, links: Links) -> None:
    source = operand(node, 0)
    _windows(node, links, [source, result(node)], channel=rank(source) - 1)


def _masked_max_pool(node: Node, links: Links) -> None:
    links.freeze_node(node, f"{node.op} `{node.label}` reads a mask of all elements")


# -- regions -------------------------------------------------------------------------------


def _regions(node: Node, links: Links) -> None:
    """Couple MaxRoiPool and RoiAlign: one result for each region."""
    source, made, regions = operand(node, 0), result(node), operand(node, 1)
    if source is None or made is None or regions is None or rank(source) != 4 or rank(made) != 4:
        links.freeze_node(node, contradiction(node))
        return
    together(links, node, [Axis(source, 1), Axis(made, 1)])
    images = operand(node, 2)
    numbers = [Axis(images, 0)] if images is not None else []
    together(links, node, [Axis(made, 0), Axis(regions, 0), *numbers])
    for value, places in ((source, (0, 2, 3)), (made, (2, 3)), (regions, (1,))):
        for place in places:
            links.freeze(Axis(value, place), f"{node.op} `{node.label}` cuts regions out of it")


def _grid_sample(node: Node, links: Links) -> None:
    source, grid, made = operand(node, 0), operand(node, 1), result(node)
    if source is None or grid is None or made is None or not _is_grid(source, grid, made):
        links.freeze_node(node, contradiction(node))
        return
    together(links, node, [Axis(source, 0), Axis(grid, 0), Axis(made, 0)])
    together(links, node, [Axis(source, 1), Axis(made, 1)])
    for place in range(2, rank(made)):
        together(links, node, [Axis(grid, place - 1), Axis(made, place)])
        links.freeze(Axis(source, place), f"GridSample `{node.label}` samples along it")
    links.freeze(Axis(grid, rank(grid) - 1), f"GridSample `{node.label}` reads coordinates from it")


def _is_grid(source: Value, grid: Value, made: Value) -> bool:
    return rank(source) == rank(grid) == rank(made) > 2


def _affine_grid(node: Node, links: Links) -> None:
    links.freeze_node(node, f"AffineGrid `{node.label}` makes coordinates of that many places")


def _image_scaler(node: Node, links: Links) -> None:
    """Couple ImageScaler, whose bias for each channel is an attribute."""
    source, bias = operand(node, 0), node.attribute("bias") or []
    if rank(source) < 2 or source is None or len(bias) not in {0, Axis(source, 1).size}:
        links.freeze_node(node, contradiction(node))
    else:
        same_axes(links, node, (source, result(node)))


def _resize_image_scaler(node: Node, cut: Cut) -> None:
    source, bias = node.inputs[0], node.attribute("bias")
    kept = cut.kept(source, 1) if source is not None else None
    if bias and kept is not None:
        node.set_attribute("bias", [float(bias[index]) for index in kept])


# -- resizing ------------------------------------------------------------------------------


class _Scaling(NamedTuple):
    """How Resize or Upsample changes the axes that it names.

    Args:
        axes: positions, in the order of the numbers.
        scales: factors; None where sizes are given instead, or they are not known.
        by_size: whether sizes are given.
    """

    axes: list[int]
    scales: list[float] | None
    by_size: bool


def _scaling(node: Node) -> _Scaling | None:
    """Return how a node scales; None where that makes no sense."""
    count = rank(operand(node, 0))
    named = node.attribute("axes")
    given = range(count) if named is None else named
    axes = [place for place in (position(axis, count) for axis in given) if place is not None]
    scales = _scales(node, count)
    if len(set(axes)) != len(given) or (scales is not None and len(scales) != len(axes)):
        return None
    by_size = scales is None and node.op == "Resize" and operand(node, 3) is not None
    return _Scaling(axes, scales, by_size)


def _scales(node: Node, count: int) -> list[float] | None:
    """Return the factors: an input, or in old operator sets an attribute, or two of them."""
    if node.op == "Resize":
        return _numbers(operand(node, 1 if node.graph.opset < 11 else 2))
    if node.graph.opset >= 9:
        return _numbers(operand(node, 1))
    height, width = node.attribute("height_scale"), node.attribute("width_scale")
    if height and width and count == 4:
        return [1.0, 1.0, height, width]
    return node.attribute("scales") or None


def _numbers(value: Value | None) -> list[float] | None:
    """Return the values of a constant; None when there are none."""
    if value is None or value.tensor is None:
        return None
    return [float(number) for number in value.array().reshape(-1)] or None


def _resize(node: Node, links: Links) -> None:
    """Couple Resize and Upsample: what is not scaled goes through."""
    source, made = operand(node, 0), result(node)
    found = _scaling(node)
    if source is None or made is None or rank(source) != rank(made) or found is None:
        links.freeze_node(node, f"how {node.op} `{node.label}` scales is not known")
        return
    for place in range(rank(source)):
        axes = [Axis(source, place), Axis(made, place)]
        if place not in found.axes or _stays(node, found, axes):
            together(links, node, axes)
        else:
            for axis in axes:
                links.freeze(axis, f"{node.op} `{node.label}` scales it")


def _stays(node: Node, found: _Scaling, axes: Sequence[Axis]) -> bool:
    """Whether an axis that the node names is known to come out as it is."""
    index = found.axes.index(axes[0].position)
    mode = node.attribute("coordinate_transformation_mode", "half_pixel")
    if mode in _SHIFTED or (mode == _CROPPED and not _is_whole(node, index, len(found.axes))):
        return False
    if found.scales is not None:
        return found.scales[index] == 1.0
    if not found.by_size or node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        return False
    return axes[0].size is not None and axes[0].size == axes[1].size


def _is_whole(node: Node, index: int, count: int) -> bool:
    """Whether the region that is cut out holds all of an axis."""
    region = _numbers(operand(node, 1))
    if region is None or len(region) != 2 * count:
        return False
    return region[index] == 0.0 and region[count + index] == 1.0


def _resize_sizes(node: Node, cut: Cut) -> None:
    found = _scaling(node)
    if found is not None and found.by_size:
        sizes = new_sizes(node.outputs[0], cut)
        changes = {index: sizes[at] for index, at in enumerate(found.axes) if at in sizes}
        patch(node, 3, changes)


RULES: tuple[CouplingRule, ...] = (
    *(CouplingRule(op, _pool) for op in ("AveragePool", "LpPool")),
    *(CouplingRule(f"Global{kind}Pool", _pool) for kind in ("Average", "Lp", "Max")),
    CouplingRule("MaxPool", _max_pool),
    CouplingRule("MaxUnpool", _unpool, _resize_unpool),
    CouplingRule("NhwcMaxPool", _nhwc_max_pool, domain=MICROSOFT),
    CouplingRule("MaxpoolWithMask", _masked_max_pool, domain=MICROSOFT),
    CouplingRule("MaxRoiPool", _regions),
    CouplingRule("RoiAlign", _regions),
    CouplingRule("GridSample", _grid_sample),
    CouplingRule("GridSample", _grid_sample, domain=MICROSOFT),
    CouplingRule("AffineGrid", _affine_grid),
    CouplingRule("ImageScaler", _image_scaler, _resize_image_scaler),
    CouplingRule("Resize", _resize, _resize_sizes),
    CouplingRule("Upsample", _resize),
)
