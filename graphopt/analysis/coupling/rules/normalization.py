"""Normalizations: per channel, over channels, and in groups of channels.

What is normalized over an axis changes when indices of the axis go: the mean and the variance are
those of fewer elements. Such units can be removed, but not exactly, and they say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    MICROSOFT,
    broadcast,
    contradiction,
    freeze_places,
    operand,
    position,
    rank,
    result,
    same_axes,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

SCALES_PER_CHANNEL = 21
"""The operator set from which GroupNormalization has a scale for each channel, not each group."""


# -- per channel ---------------------------------------------------------------------------


def _batch(node: Node, links: Links) -> None:
    """Couple BatchNormalization as it runs: every channel has its own four numbers."""
    source, made = operand(node, 0), result(node)
    channel = min(1, rank(source) - 1)
    more = any(value.name for value in node.outputs[1:])
    old = node.graph.opset < 7 and not node.attribute("is_test", 0)
    if node.attribute("training_mode", 0) or more or old:
        links.freeze_node(node, f"BatchNormalization `{node.label}` is in training")
    elif not node.attribute("spatial", 1):
        links.freeze_node(node, f"BatchNormalization `{node.label}` has a mean for each position")
    elif channel < 0:
        links.freeze_node(node, contradiction(node))
    elif same_axes(links, node, (source, made)):
        _vectors(node, links, Axis(source, channel), range(1, 5))  # type: ignore[arg-type]


def _instance(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    if rank(source) < 2 or source is None:
        links.freeze_node(node, contradiction(node))
        return
    inside = range(2, rank(source))
    if same_axes(links, node, (source, made), but=inside):
        freeze_places(node, links, (source, made), inside, "normalizes over it")
        _vectors(node, links, Axis(source, 1), (1, 2))


def _vectors(node: Node, links: Links, channel: Axis, inputs: Sequence[int]) -> None:
    """Tie vectors that have one number for each channel."""
    for index in inputs:
        vector = operand(node, index)
        if rank(vector) == 1 and vector is not None:
            together(links, node, [channel, Axis(vector, 0)])


def _local_response(node: Node, links: Links) -> None:
    """Couple LRN: a channel is divided by what its neighbours are."""
    values = (operand(node, 0), result(node))
    if same_axes(links, node, values, but=(1,)):
        freeze_places(node, links, values, (1,), "mixes neighbours along it")


# -- over axes -----------------------------------------------------------------------------


def _layer(node: Node, links: Links) -> None:
    """Couple LayerNormalization and its like: ``axis`` and all after it are normalized over."""
    source, made = operand(node, 0), result(node)
    first = position(node.attribute("axis", -1), rank(source))
    if source is None or made is None or first is None or rank(made) != rank(source):
        links.freeze_node(node, contradiction(node))
        return
    inside = range(first, rank(source))
    statistics = [result(node, 1), result(node, 2)]
    broadcast(links, node, [source, *node.inputs[1:3], *statistics], made)
    _approximate(node, links, source, inside)


def _skip_layer(node: Node, links: Links) -> None:
    """Couple SkipLayerNormalization: the sum of two streams, which it also returns."""
    source, made = operand(node, 0), result(node)
    if source is None or made is None or rank(source) != rank(made) or not rank(made):
        links.freeze_node(node, contradiction(node))
        return
    statistics = [result(node, 1), result(node, 2)]
    broadcast(links, node, [*node.inputs, *statistics, result(node, 3)], made)
    _approximate(node, links, source, (rank(source) - 1,))


def _approximate(node: Node, links: Links, source: Value, places: Sequence[int]) -> None:
    for place in places:
        links.approximate(
            Axis(source, place), f"{node.op} `{node.label}` normalizes over fewer elements"
        )


def _lp(node: Node, links: Links) -> None:
    """Couple LpNormalization: a sum of powers, to which what is zero adds nothing."""
    source, made = operand(node, 0), result(node)
    place = position(node.attribute("axis", -1), rank(source))
    if source is None or place is None:
        links.freeze_node(node, contradiction(node))
    elif same_axes(links, node, (source, made)):
        links.consume(node, Axis(source, place))


def _mean_variance(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    given = node.attribute("axes", [0, 2, 3])
    places = [position(axis, rank(source)) for axis in given]
    if source is None or None in places:
        links.freeze_node(node, contradiction(node))
    elif same_axes(links, node, (source, made)):
        _approximate(node, links, source, [place for place in places if place is not None])


# -- in groups -----------------------------------------------------------------------------


def _group(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    groups = node.attribute("num_groups", 0)
    if source is None or rank(source) < 2 or not _divides(groups, Axis(source, 1)):
        links.freeze_node(node, f"the groups of {node.op} `{node.label}` are not known")
        return
    inside = range(2, rank(source))
    if not same_axes(links, node, (source, made), but=inside):
        return
    freeze_places(node, links, (source, made), inside, "normalizes over it")
    channel = Axis(source, 1)
    if node.graph.opset >= SCALES_PER_CHANNEL or groups == channel.size:
        _vectors(node, links, channel, (1, 2))
    else:
        freeze_places(node, links, node.inputs[1:3], (0,), "has one number for each group")
    _balance(node, links, channel, groups)


def _divides(groups: int, channel: Axis) -> bool:
    return isinstance(groups, int) and groups > 0 and not (channel.size or 1) % groups


def _balance(node: Node, links: Links, channel: Axis, groups: int) -> None:
    """Demand that groups stay equal; where each is one channel, there may just be fewer."""
    if groups != channel.size:
        links.balance(channel, groups, node)
        links.approximate(channel, f"{node.op} `{node.label}` normalizes over fewer elements")


def _fewer_groups(node: Node, cut: Cut) -> None:
    source = node.inputs[0]
    assert source is not None
    name = "groups" if node.domain else "num_groups"
    place = _channel_of(node, source)
    if node.attribute(name, 0) == Axis(source, place).size:
        node.set_attribute(name, cut.size(source, place))


def _channel_of(node: Node, source: Value) -> int:
    last = node.domain == MICROSOFT and node.attribute("channels_last", 1)
    return rank(source) - 1 if last else 1


def _microsoft_group(node: Node, links: Links) -> None:
    """Couple GroupNorm and SkipGroupNorm: data, scale, shift, and maybe a second stream, a bias."""
    source, made, total = operand(node, 0), result(node), result(node, 1)
    groups = node.attribute("groups", 0)
    if source is None or rank(source) < 3:
        links.freeze_node(node, contradiction(node))
        return
    channel = Axis(source, _channel_of(node, source))
    if not _divides(groups, channel):
        links.freeze_node(node, f"the groups of {node.op} `{node.label}` are not known")
        return
    inside = [i for i in range(1, rank(source)) if i != channel.position]
    streams = [v for v in (operand(node, 3), total) if rank(v) == rank(source)]
    if not same_axes(links, node, (source, made), but=inside):
        return
    freeze_places(node, links, (source, made, *streams), inside, "normalizes over it")
    for stream in streams:
        if stream is not None and Axis(stream, channel.position).size != 1:
            together(links, node, [channel, Axis(stream, channel.position)])
    _flat_stream(node, links, channel)
    _vectors(node, links, channel, (1, 2, 4))
    _balance(node, links, channel, groups)


def _flat_stream(node: Node, links: Links, channel: Axis) -> None:
    """Tie a second stream that has one number for each image and channel."""
    stream = operand(node, 3)
    if stream is not None and rank(stream) == 2:
        together(links, node, [Axis(channel.value, 0), Axis(stream, 0)])
        together(links, node, [channel, Axis(stream, 1)])


def _embed(node: Node, links: Links) -> None:
    links.freeze_node(node, f"{node.op} `{node.label}` adds several tables before it normalizes")


RULES: tuple[CouplingRule, ...] = (
    CouplingRule("BatchNormalization", _batch),
    CouplingRule("InstanceNormalization", _instance),
    CouplingRule("LRN", _local_response),
    CouplingRule("LayerNormalization", _layer),
    CouplingRule("RMSNormalization", _layer),
    CouplingRule("SimplifiedLayerNormalization", _layer),
    CouplingRule("SimplifiedLayerNormalization", _layer, domain=MICROSOFT),
    CouplingRule("SkipLayerNormalization", _skip_layer, domain=MICROSOFT),
    CouplingRule("SkipSimplifiedLayerNormalization", _skip_layer, domain=MICROSOFT),
    CouplingRule("EmbedLayerNormalization", _embed, domain=MICROSOFT),
    CouplingRule("GroupNormalization", _group, _fewer_groups),
    CouplingRule("GroupNorm", _microsoft_group, _fewer_groups, domain=MICROSOFT),
    CouplingRule("SkipGroupNorm", _microsoft_group, _fewer_groups, domain=MICROSOFT),
    CouplingRule("LpNormalization", _lp),
    CouplingRule("MeanVarianceNormalization", _mean_variance),
)
