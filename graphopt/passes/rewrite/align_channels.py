"""Give tensors the channel counts that the target's fast convolution kernels take.

onnxruntime's integer convolution on x86 (ConvSym) takes dense input channels in blocks of 4 and
makes outputs in blocks of 4 from 16 on, depthwise channels in blocks of 16; the float one works on
blocks of 16. Other counts run through slower, general kernels. Channels of zeros are added to every
tensor of a coupled group, and zeros to the weights that read them, so that nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import CHANNEL_AXIS, ChannelGroups
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import replace_constant
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.analysis import ChannelGroup
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.targets.base import QuantizationRules

    Array = np.ndarray[Any, Any]

_MODES = ("auto", "on", "off")
_LARGEST_GROWTH = 2.0
"""More zeros than channels cost more than the faster kernel saves."""


@dataclass(frozen=True)
class AlignChannels:
    """Pad channels with zeros, across coupled tensors, to the blocks of the target's fast kernels.

    Args:
        mode: "on", "off", or "auto" (the planner times both and writes the winner here).
    """

    name: ClassVar[str] = "align-channels"
    effect: ClassVar[Effect] = Effect.EXACT
    mode: str = "auto"

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise RecipeError(
                f"`{self.mode}` is not a mode of `align-channels`", hint=", ".join(_MODES)
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Pad every group that may be padded and gains a kernel by it."""
        if self.mode != "on":
            return PassResult(False, ("left as they are",))
        ir.infer_shapes(graph)
        groups = ChannelGroups(graph)
        rules = context.target.quantization
        layouts = _Layouts(groups, rules)
        padded = [g for g in groups if layouts.of(g).size != g.channels]
        for node in graph.nodes():
            _rewrite(graph, node, groups, layouts)
        for group in padded:
            for value in group.values:
                _declare(value, layouts.of(group).size)
        if not padded:
            return PassResult(False, ("all channels fit, or cannot be padded",))
        added = sum(layouts.of(g).size - g.channels for g in padded)
        where = counted(len(padded), "group", "of tensors")
        notes = (f"{added} channels added in {where}",)
        return PassResult(True, notes, {"channels": added, "groups": len(padded)})


@dataclass(frozen=True)
class _Layout:
    """Where the channels of a group are put: ``positions`` of the old ones among ``size``."""

    positions: Array
    size: int


class _Layouts:
    """The layout of every group, made on demand: a Concat's follows from those of its parts."""

    def __init__(self, groups: ChannelGroups, rules: QuantizationRules) -> None:
        self._groups = groups
        self._rules = rules
        self._made: dict[int, _Layout] = {}

    def of(self, group: ChannelGroup) -> _Layout:
        """Return where the channels of a group go."""
        found = self._made.get(id(group))
        if found is None:
            found = self._make(group)
            self._made[id(group)] = found
        return found

    def _make(self, group: ChannelGroup) -> _Layout:
        if group.fixed:
            return _Layout(np.arange(group.channels), group.channels)
        if group.concat is not None:
            return self._join(group.concat)
        return _Layout(np.arange(group.channels), _wanted(group, self._rules))

    def _join(self, concat: Node) -> _Layout:
        parts, start = [], 0
        for value in concat.inputs:
            group = self._groups.of(value) if value is not None else None
            assert group is not None
            layout = self.of(group)
            parts.append(layout.positions + start)
            start += layout.size
        return _Layout(np.concatenate(parts), start)


def _wanted(group: ChannelGroup, rules: QuantizationRules) -> int:
    """Return the channel count that the kernels around a group want."""
    uses = {how for _, how in group.convolutions}
    size = group.channels
    if "depthwise" in uses:
        size = _up(size, rules.depthwise_block)
    if "input" in uses:
        size = _up(size, rules.input_block)
    if "output" in uses:
        size = max(_up(size, rules.output_block), rules.output_minimum)
    return size if size <= group.channels * _LARGEST_GROWTH else group.channels


def _up(count: int, block: int) -> int:
    return -(-count // block) * block


def _rewrite(graph: Graph, node: Node, groups: ChannelGroups, layouts: _Layouts) -> None:
    """Put the constants of one operator where its tensors' channels went."""
    made = groups.of(node.outputs[0])
    if node.op == "Conv" and node.domain == "":
        source = node.inputs[0]
        read = groups.of(source) if source is not None else None
        if made is not None and read is not None:
            _rewrite_convolution(graph, node, layouts.of(read), layouts.of(made))
        return
    if made is None or layouts.of(made).size == made.channels or node.op == "Clip":
        return
    rank = len(node.outputs[0].shape or ())
    for index, value in enumerate(node.inputs):
        axis = CHANNEL_AXIS - rank + len(value.shape or ()) if value is not None else -1
        if value is None or not value.is_constant or axis < 0 or node.op == "Resize":
            continue
        array = value.array()
        if array.ndim and array.shape[axis] == made.channels:
            replace_constant(graph, node, index, _spread(array, layouts.of(made), axis), "aligned")


def _rewrite_convolution(graph: Graph, node: Node, read: _Layout, made: _Layout) -> None:
    weight = node.inputs[1]
    if weight is None or not weight.is_constant:
        return
    depthwise = node.attribute("group", 1) != 1
    array = weight.array()
    if made.size == array.shape[0] and (depthwise or read.size == array.shape[1]):
        return
    spread = _spread(array, made, 0)
    if depthwise:
        node.set_attribute("group", made.size)
    else:
        spread = _spread(spread, read, 1)
    replace_constant(graph, node, 1, spread, "aligned")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        replace_constant(graph, node, 2, _spread(bias.array(), made, 0), "aligned")


def _spread(array: Array, layout: _Layout, axis: int) -> Array:
    shape = list(array.shape)
    shape[axis] = layout.size
    wide = np.zeros(shape, dtype=array.dtype)
    np.moveaxis(wide, axis, 0)[layout.positions] = np.moveaxis(array, axis, 0)
    return wide


def _declare(value: Value, channels: int) -> None:
    shape = list(value.shape or ())
    shape[CHANNEL_AXIS] = channels
    value.shape, value.source = tuple(shape), None
