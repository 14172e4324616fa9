"""What rules share, against brute force; and no rule falls over anything it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.coupling import Axis, Links
from graphopt.analysis.coupling.axes import AtomTable
from graphopt.analysis.coupling.rules import (
    BUILTIN_RULES,
    elementwise,
    embedding,
    normalization,
    pooling,
    quantization,
    reduction,
)
from graphopt.analysis.coupling.rules.alignment import broadcast, position, rewrite
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling import CouplingRule

MINE = (
    *elementwise.RULES,
    *embedding.RULES,
    *normalization.RULES,
    *pooling.RULES,
    *quantization.RULES,
    *reduction.RULES,
)


def built(op: str, shapes: Sequence[Any], made: Sequence[Any], **attributes: Any) -> ir.Node:
    """Return a node on its own, whose tensors have these shapes."""
    graph = ir.Graph("g")
    graph.opsets[""] = 17
    inputs = []
    for index, shape in enumerate(shapes):
        if shape is None:
            inputs.append(None)
            continue
        value = graph.new_value(f"in{index}")
        value.shape, value.dtype = shape, DType.FLOAT
        graph.add_input(value)
        inputs.append(value)
    node = graph.add_node(op, inputs, [f"out{i}" for i in range(len(made))], attributes)
    for value, shape in zip(node.outputs, made, strict=True):
        value.shape, value.dtype = shape, DType.FLOAT
    return node


def tied(links: Links) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for one, other in links.edges for a, b in zip(one, other, strict=True)}


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 3), min_size=0, max_size=4), st.data())
def test_broadcasting_ties_what_numpy_reads(sizes: list[int], data: st.DataObject) -> None:
    shapes = []
    for _ in range(2):
        cut = data.draw(st.integers(0, len(sizes)))
        shapes.append(tuple(data.draw(st.sampled_from([1, s])) for s in sizes[cut:]))
    made = np.broadcast_shapes(*shapes)
    node = built("Add", shapes, [made])
    links = Links(node.graph, AtomTable(node.graph.values()))
    broadcast(links, node, node.inputs, node.outputs[0])
    assert not links.frozen
    found = tied(links) | {(b, a) for a, b in tied(links)}
    for value, shape in zip(node.inputs, shapes, strict=True):
        assert value is not None
        for place in range(len(shape)):
            at = place + len(made) - len(shape)
            grid = np.arange(shape[place]).reshape([-1] + [1] * (len(shape) - place - 1))
            read = np.broadcast_to(grid, made)
            for index in range(made[at]):
                used = set(np.take(read, index, axis=at).reshape(-1).tolist())
                pair = (
                    int(links.table.atoms(Axis(node.outputs[0], at))[index]),
                    int(links.table.atoms(Axis(value, place))[min(used)]),
                )
                wide = shape[place] > 1 or made[at] == 1
                assert (pair in found) == wide


@pytest.mark.parametrize(
    ("axis", "count", "wanted"),
    [(-1, 3, 2), (0, 3, 0), (3, 3, None), (-4, 3, None), (0, 0, None), (None, 2, None)],
)
def test_positions_count_from_both_ends(axis: Any, count: int, wanted: int | None) -> None:
    assert position(axis, count) == wanted


def test_a_constant_that_others_read_is_left_to_them() -> None:
    graph = ir.Graph("g")
    shared = graph.add_constant("k", np.arange(3))
    one = graph.add_node("Relu", [shared], ["a"])
    other = graph.add_node("Relu", [shared], ["b"])
    rewrite(one, 0, np.arange(2))
    assert other.inputs[0] is shared
    assert one.inputs[0] is not None
    assert one.inputs[0].array().tolist() == [0, 1]
    rewrite(other, 0, np.arange(2))
    assert graph.find("k") is None


KNOWN = st.lists(st.sampled_from([0, 1, 2, 3, 6, "N", None]), max_size=5).map(tuple)
SHAPES = st.one_of(KNOWN, KNOWN, KNOWN, st.none())
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "axis": st.integers(-6, 6),
        "axes": st.lists(st.integers(-6, 6), min_size=1, max_size=3),
        "keepdims": st.integers(0, 1),
        "num_groups": st.integers(0, 6),
        "groups": st.integers(0, 6),
        "group": st.integers(0, 6),
        "block_size": st.integers(0, 3),
        "batch_dims": st.integers(0, 3),
        "channels_last": st.integers(0, 1),
        "N": st.integers(0, 6),
        "scales": st.lists(st.floats(0.5, 2.0), min_size=1, max_size=4),
        "bias": st.lists(st.floats(0.5, 2.0), min_size=1, max_size=3),
        "transB": st.integers(0, 1),
    },
)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(MINE),
    st.lists(SHAPES, max_size=9),
    st.lists(KNOWN, min_size=1, max_size=3),
    ATTRIBUTES,
    st.sampled_from([6, 7, 9, 12, 13, 18, 21, 24]),
    st.integers(0, 2**9),
)
def test_no_rule_falls_over_anything(
    rule: CouplingRule,
    shapes: list[Any],
    made: list[Any],
    attributes: dict[str, Any],
    opset: int,
    stored: int,
) -> None:
    node = built(rule.op, shapes, made, **attributes)
    node.domain = rule.domain
    node.graph.opsets[""] = opset
    for index, value in enumerate(node.inputs):
        sizes = [d if isinstance(d, int) else 2 for d in (value.shape or ())] if value else []
        if value is not None and stored >> index & 1:
            node.graph.remove_input(value)
            kind = np.int64 if index else np.float32
            node.graph.set_tensor(value, ir.Tensor.from_array(np.zeros(sizes, kind)))
    links = Links(node.graph, AtomTable(node.graph.values()))
    links.begin()
    rule.couple(node, links)
    links.finish(node)


def test_every_rule_is_registered_once() -> None:
    names = [rule.name for rule in BUILTIN_RULES]
    assert len(set(names)) == len(names)
    assert {rule.name for rule in MINE} <= set(names)
