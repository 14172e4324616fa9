"""Convolutions: plain, grouped, depthwise, transposed and deformable.

A grouped convolution gives every group columns of its own, so each group may lose other inputs, as
long as all lose the same number; the columns are then cut group by group. Where its weight cannot
be rewritten (it is computed, or several nodes read it), the groups lose the same columns instead.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphopt import ir
from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import MICROSOFT, operand, rank, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]


class _Convolution(NamedTuple):
    """The axes of one convolution.

    Args:
        node: the operator.
        entering: channels of the activation it reads.
        made: channels of what it makes.
        weight: the weight.
        rows: axis of the weight that is as long as all channels of one side.
        columns: axis of the weight that is as long as one group's channels of the other side.
        bias: axis of the bias; None without one.
        groups: number of groups.
        transposed: whether the rows of the weight are inputs, not outputs.
    """

    node: Node
    entering: Axis
    made: Axis
    weight: Value
    rows: Axis
    columns: Axis
    bias: Axis | None
    groups: int
    transposed: bool = False

    @property
    def wide(self) -> Axis:
        """The channels that the rows of the weight belong to."""
        return self.entering if self.transposed else self.made

    @property
    def narrow(self) -> Axis:
        """The channels that the columns of the weight belong to, group by group."""
        return self.made if self.transposed else self.entering

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel that enters has a group of its own."""
        side = self.rows if self.transposed else self.columns
        return self.groups > 1 and side.size == (self.groups if self.transposed else 1)

    @property
    def has_free_columns(self) -> bool:
        """Whether each group may lose other columns: the weight is stored, and only read here."""
        weight = self.weight
        stored = weight.tensor is not None and weight.stored is not None
        return stored and len(weight.uses) == 1 and not weight.is_output

    def fault(self) -> str:
        """Return what is wrong with the sizes; empty when they fit each other."""
        rows, columns = self.rows.size, self.columns.size
        if not rows or not columns:
            return f"the weight of {self.node.op} `{self.node.label}` has no known size"
        pairs = [(self.wide.size, rows), (self.narrow.size, columns * self.groups)]
        if self.bias is not None:
            pairs.append((self.bias.size, columns * self.groups if self.transposed else rows))
        fits = self.groups > 0 and rows % self.groups == 0
        if fits and all(found is None or found == wanted for found, wanted in pairs):
            return ""
        return f"the sizes around {self.node.op} `{self.node.label}` contradict each other"


# -- reading nodes -------------------------------------------------------------------------


def _read(
    node: Node, bias: int = 2, *, transposed: bool = False, last: bool = False
) -> _Convolution | str:
    """Return the axes of a convolution, or why they cannot be told.

    Args:
        node: the operator.
        bias: position of the bias among its inputs.
        transposed: whether it is a transposed convolution.
        last: whether channels come last in activations; those of the weight are found by size.
    """
    source, weight, shift = operand(node, 0), operand(node, 1), operand(node, bias)
    made = node.outputs[0]
    ranks = {rank(source), rank(weight), rank(made)}
    if source is None or weight is None or len(ranks) != 1 or min(ranks) < 2:
        return f"the ranks around {node.op} `{node.label}` contradict each other"
    if shift is not None and rank(shift) != 1:
        return f"the bias of {node.op} `{node.label}` is not a vector"
    channel = min(ranks) - 1 if last else 1
    groups = node.attribute("group", 1)
    entering = Axis(source, channel)
    column = _column(weight, entering, groups) if last else 1
    if column is None:
        return f"it is not clear which axis of the weight of `{node.label}` holds the channels"
    found = _Convolution(
        *(node, entering, Axis(made, channel), weight, Axis(weight, 0), Axis(weight, column)),
        *(None if shift is None else Axis(shift, 0), groups, transposed),
    )
    return found.fault() or found


def _column(weight: Value, entering: Axis, groups: int) -> int | None:
    """Return which axis of a weight holds input channels, where that may be the second or last."""
    last = rank(weight) - 1
    fits = [i for i in {1, last} if (Axis(weight, i).size or 0) * groups == entering.size]
    return fits[0] if len(fits) == 1 else None


# -- rules ---------------------------------------------------------------------------------


def _couple(node: Node, links: Links, read: Callable[[Node], _Convolution | str]) -> None:
    found = read(node)
    if isinstance(found, str):
        links.freeze_node(node, found)
        return
    together(links, node, [Axis(found.entering.value, 0), Axis(found.made.value, 0)])
    _couple_pointwise(found, links)
    if found.is_depthwise:
        _couple_depthwise(found, links)
    elif found.groups == 1:
        _couple_plain(found, links)
    else:
        _couple_grouped(found, links)


def _couple_plain(found: _Convolution, links: Links) -> None:
    into, out = (found.rows, found.columns) if found.transposed else (found.columns, found.rows)
    _couple_made(found, out, links)
    if found.weight.is_constant:
        links.consume(found.node, found.entering, into)
    else:
        links.tie(found.entering, into)
        links.consume(found.node, found.entering)
        links.consume(found.node, into)


def _couple_made(found: _Convolution, weight: Axis, links: Links) -> None:
    """Couple what is made with the axis of the weight, and the bias, that it is made of."""
    if found.weight.is_constant:
        links.produce(found.node, found.made, weight, found.bias)
        return
    links.tie(found.made, weight)
    _couple_bias(found, links)


def _couple_bias(found: _Convolution, links: Links) -> None:
    if found.bias is not None:
        links.tie(found.made, found.bias)


def _couple_depthwise(found: _Convolution, links: Links) -> None:
    """Couple each channel with everything that is made of it alone."""
    made = (found.columns.size or 0) * found.groups if found.transposed else found.rows.size or 0
    links.tie(found.made, found.entering, None, np.arange(made) // (made // found.groups))
    if found.transposed:
        links.tie(found.entering, found.rows)
        _couple_bias(found, links)
    else:
        _couple_made(found, found.rows, links)


def _couple_grouped(found: _Convolution, links: Links) -> None:
    node = found.node
    for axis in (found.entering, found.made):
        links.balance(axis, found.groups, node)
    if found.has_free_columns:
        reason = f"{node.op} `{node.label}` cuts it group by group, as its channels are cut"
        links.freeze(found.columns, reason)
    else:
        offsets = np.tile(np.arange(found.columns.size or 0), found.groups)
        links.tie(found.narrow, found.columns, None, offsets)
    if not found.transposed:
        _couple_made(found, found.rows, links)
        links.consume(node, found.entering)
        into = found.columns
    else:
        links.tie(found.entering, found.rows)
        _couple_bias(found, links)
        links.consume(node, found.entering, found.rows if found.weight.is_constant else None)
        into = found.rows
    if not found.weight.is_constant:
        links.consume(node, into)


def _couple_pointwise(found: _Convolution, links: Links) -> None:
    """Tie the spatial axes along which a window is one element, and moves by one."""
    axes = rank(found.weight)
    channel = found.entering.position
    spatial = [i for i in range(1, axes) if i != channel]
    taps = [i for i in range(1, axes) if i != found.columns.position]
    count = len(spatial)
    strides = found.node.attribute("strides") or [1] * count
    pads = found.node.attribute("pads") or [0] * 2 * count
    if found.transposed or len(strides) != count or len(pads) != 2 * count:
        return
    for index, (position, tap) in enumerate(zip(spatial, taps, strict=True)):
        one, other = Axis(found.entering.value, position), Axis(found.made.value, position)
        moves = strides[index] != 1 or pads[index] or pads[index + count]
        if Axis(found.weight, tap).size == 1 and not moves and one.size == other.size:
            links.tie(one, other)


def _couple_fused(node: Node, links: Links, read: Callable[[Node], _Convolution | str]) -> None:
    """Couple a convolution that adds another tensor of its output's shape before it activates."""
    _couple(node, links, read)
    added, made = operand(node, 3), node.outputs[0]
    if added is None:
        return
    if added.shape != made.shape:
        links.freeze_node(node, f"what {node.op} `{node.label}` adds has another shape")
        return
    for position in range(rank(made)):
        links.tie(Axis(added, position), Axis(made, position))


def _couple_deformable(node: Node, links: Links) -> None:
    """Couple a deformable convolution: channels that share offsets must stay balanced."""
    _couple(node, links, _read_deformable)
    found = _read_deformable(node)
    blocks = node.attribute("offset_group", 1)
    if isinstance(found, str):
        return
    size = found.entering.size
    if blocks > 1 and (not size or size % blocks):
        links.freeze_node(node, f"the sizes around {node.op} `{node.label}` contradict each other")
        return
    links.balance(found.entering, blocks, node)
    for index in (2, 4):
        steered = operand(node, index)
        if rank(steered):
            assert steered is not None
            together(links, node, [Axis(found.made.value, 0), Axis(steered, 0)])


def _resize(node: Node, cut: Cut, read: Callable[[Node], _Convolution | str]) -> None:
    """Tell a depthwise convolution its groups, and cut the columns of a grouped one."""
    found = read(node)
    if isinstance(found, str) or found.groups == 1:
        return
    if found.is_depthwise:
        keep = cut.keep(*found.entering)
        if keep is not None:
            node.set_attribute("group", int(keep.sum()))
        return
    keep = cut.keep(*found.narrow)
    # Columns that all groups lose alike are cut with the other constants.
    if keep is not None and cut.keep(*found.columns) is None:
        _cut_columns(found, keep)


def _cut_columns(found: _Convolution, keep: Array) -> None:
    """Keep of every group of rows the columns that its own part of ``keep`` keeps."""
    weight = found.weight
    assert weight.tensor is not None
    array = weight.tensor.array()
    kept = keep.reshape(found.groups, -1)
    blocks = [
        np.compress(mask, block, axis=found.columns.position)
        for mask, block in zip(kept, np.split(array, found.groups), strict=True)
    ]
    smaller = np.ascontiguousarray(np.concatenate(blocks))
    weight.graph.set_tensor(weight, ir.Tensor.from_array(smaller, weight.tensor.dtype))


_read_plain = _read
_read_transposed = partial(_read, transposed=True)
_read_last = partial(_read, last=True)
_read_deformable = partial(_read, bias=3)
_read_padded = partial(_read, bias=3, transposed=True)


def _rule(
    op: str,
    read: Callable[[Node], _Convolution | str],
    couple: Callable[..., None] = _couple,
    domain: str = "",
) -> CouplingRule:
    return CouplingRule(op, partial(couple, read=read), partial(_resize, read=read), domain)


RULES: tuple[CouplingRule, ...] = (
    _rule("Conv", _read_plain),
    _rule("ConvTranspose", _read_transposed),
    CouplingRule("DeformConv", _couple_deformable, partial(_resize, read=_read_deformable)),
    _rule("FusedConv", _read_plain, _couple_fused, MICROSOFT),
    _rule("ConvTransposeWithDynamicPads", _read_padded, domain=MICROSOFT),
    _rule("NhwcConv", _read_last, domain=MICROSOFT),
    _rule("NhwcFusedConv", _read_last, _couple_fused, MICROSOFT),
)
"""Conv and its relatives; those of integers are with the quantized operators."""
