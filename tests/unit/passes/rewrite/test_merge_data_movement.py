"""Data movement: random chains keep their values bit by bit, and states cost few operators."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.passes.rewrite.merge_data_movement import MergeDataMovement
from graphopt.testing import assert_same_outputs, context, graph, random_feeds
from graphopt.types import DType


def _constant(model: ir.Graph, values: list[int]) -> ir.Value:
    return model.add_constant("c", np.array(values, dtype=np.int64))


def _add(model: ir.Graph, op: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
    return model.add_node(op, inputs, 1, attributes).outputs[0]


@st.composite
def chains(draw: st.DrawFn) -> ir.Graph:
    """Return a graph of moving operators on tensors of one to four axes, some values read."""
    model = ir.Graph("chain")
    model.opsets = {"": 17}
    model.ir_version = 8
    shapes: dict[ir.Value, tuple[int, ...]] = {}
    for name in ("x", "y"):
        value = model.new_value(name)
        value.dtype, value.shape = (
            DType.FLOAT,
            tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))),
        )
        model.add_input(value)
        shapes[value] = value.shape
    for _ in range(draw(st.integers(1, 8))):
        source = draw(st.sampled_from(list(shapes)))
        made, shape = _step(draw, model, source, shapes)
        shapes[made] = shape
    leaves = [v for v in shapes if v.producer is not None and not v.uses]
    model.set_outputs(_add(model, "Neg", [v]) for v in leaves)
    for value in model.outputs:
        value.dtype = DType.FLOAT
        value.shape = shapes[value.producer.inputs[0]]  # type: ignore[union-attr,index]
    ir.verify(model)
    return model


def _step(
    draw: st.DrawFn, model: ir.Graph, source: ir.Value, shapes: dict[ir.Value, tuple[int, ...]]
) -> tuple[ir.Value, tuple[int, ...]]:
    shape = shapes[source]
    axis = draw(st.integers(0, len(shape) - 1))
    match draw(st.sampled_from(["Transpose", "Reshape", "Slice", "Concat", "Unsqueeze"])):
        case "Transpose":
            order = draw(st.permutations(range(len(shape))))
            made = _add(model, "Transpose", [source], perm=list(order))
            return made, tuple(shape[a] for a in order)
        case "Reshape":
            flat = (1, math.prod(shape))
            return _add(model, "Reshape", [source, _constant(model, list(flat))]), flat
        case "Slice":
            start = draw(st.integers(0, shape[axis] - 1))
            bounds = [_constant(model, [n]) for n in (start, start + 1, axis)]
            return _add(model, "Slice", [source, *bounds]), (*shape[:axis], 1, *shape[axis + 1 :])
        case "Concat":
            others = [v for v, s in shapes.items() if s == shape]
            other = draw(st.sampled_from(others))
            joined = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
            return _add(model, "Concat", [source, other], axis=axis), joined
    if len(shape) > 4:
        return _add(model, "Identity", [source]), shape
    made = _add(model, "Unsqueeze", [source, _constant(model, [axis])])
    return made, (*shape[:axis], 1, *shape[axis:])


@settings(max_examples=60, deadline=None)
@given(chains())
def test_random_chains_keep_every_value(before: ir.Graph) -> None:
    after = before.copy()
    result = MergeDataMovement().run(after, context())
    ir.verify(after)
    assert len(after.nodes()) <= len(before.nodes()) + 2
    assert_same_outputs(before, after, random_feeds(before), rtol=0, atol=0)
    assert result.modified == (ir.structural_hash(before) != ir.structural_hash(after))
    assert not MergeDataMovement().run(after, context()).modified


def test_parts_of_a_state_are_read_by_one_split() -> None:
    text = """m (float[1, 4, 3] s) => (float[3] a, float[3] b)
    <int64[1] k0 = {0}, int64[1] k1 = {1}, int64[1] k3 = {3}, int64[1] k4 = {4},
     int64[2] both = {0, 1}> {
      p = Slice (s, k1, k3, k1)
      q = Slice (p, k0, k1, k1)
      r = Squeeze (q, both)
      a = Relu (r)
      t = Slice (s, k3, k4, k1)
      u = Squeeze (t, both)
      b = Relu (u)
    }"""
    before = graph(text)
    after = before.copy()
    assert MergeDataMovement().run(after, context()).modified
    found = Counter(n.op for n in after.nodes())
    assert found["Split"] == 1
    assert found["Slice"] == 0
    assert_same_outputs(before, after, random_feeds(before), rtol=0, atol=0)


def test_a_value_that_an_inner_graph_reads_stays_right() -> None:
    text = """m (float[1, 1, 4] x, bool flag) => (float[4, 1, 1] y) {
      a = Relu (x)
      t = Transpose <perm = [2, 1, 0]> (a)
      y = If (flag) <then_branch = yes () => (float[4, 1, 1] p) { p = Neg (t) },
                     else_branch = no () => (float[4, 1, 1] q) { q = Identity (t) }>
    }"""
    before = graph(text)
    after = before.copy()
    MergeDataMovement().run(after, context())
    ir.verify(after)
    assert_same_outputs(before, after, random_feeds(before, count=3), rtol=0, atol=0)


def test_old_opsets_are_left_alone() -> None:
    model = graph(
        "m (float[1, 4] x) => (float[4, 1] y) { y = Transpose <perm = [1, 0]> (x) }", opset=11
    )
    assert not MergeDataMovement().run(model, context()).modified
