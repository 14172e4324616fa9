"""LSTM, GRU and RNN: what they couple, and that pruning them changes nothing for the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.analysis.coupling import Axis, couple
from graphopt.passes.prune.removal.oracle import disagreement
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.testing import graph, random_feeds, run
from tests.unit.analysis.coupling.pruning import (
    RULES,
    assert_oracle,
    coupled,
    prune_at_random,
    reasons,
)

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

CHAIN = """
g (float[5,2,3] x) => (float[5,2,7] y)
<float[3,10] front, float[D,G*6,10] w1, float[D,G*6,6] r1, float[D,2*G*6] b1,
 float[D,6,4] between, float[D,G*6,4] w2, float[D,G*6,6] r2, float[D,6,7] back> {
  f = MatMul(x, front)
  a = OP<hidden_size = 6, direction = "DIRECTION">(f, w1, r1, b1)
  b = Einsum<equation = "sdbh,dho->sbo">(a, between)
  c = OP<hidden_size = 6, direction = "DIRECTION">(b, w2, r2)
  y = Einsum<equation = "sdbh,dho->sbo">(c, back)
}
"""


def _text(text: str, op: str, direction: str = "forward") -> str:
    directions, gates = 1 + (direction == "bidirectional"), GATES[op]
    text = text.replace("2*G*6", str(2 * gates * 6)).replace("G*6", str(gates * 6))
    text = text.replace("float[D", f"float[{directions}").replace("DIRECTION", direction)
    return text.replace("OP<", f"{op}<")


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_a_chain(op: str, direction: str) -> None:
    for seed in range(2):
        found = assert_oracle(_text(CHAIN, op, direction), 0.3 + 0.3 * seed, seed)
    assert {g.name: g.size for g in found.groups} == {"front": 10, "w1": 6, "between": 4, "w2": 6}
    assert all(group.is_exact and group.step == 1 for group in found.groups)


@pytest.mark.parametrize("op", GATES)
def test_a_unit_is_a_row_of_every_gate_and_a_column_of_the_recurrent_weight(op: str) -> None:
    made, found = coupled(_text(CHAIN, op, "bidirectional"))
    gates = GATES[op]
    group = next(group for group in found.groups if group.name == "w1")
    units = group.units
    column = units[Axis(made.value("r1"), 2)]
    for axis, times in (
        (Axis(made.value("w1"), 1), gates),
        (Axis(made.value("r1"), 1), gates),
        (Axis(made.value("b1"), 1), 2 * gates),
        (Axis(made.value("a"), 3), 1),
    ):
        assert units[axis].tolist() == column.tolist() * times
    inner = [c for c in group.consumers if c.source is None]
    assert [c.weight for c in inner] == [Axis(made.value("r1"), 2)]


def test_what_is_left_is_the_operator_on_the_units_that_stay() -> None:
    made, found = coupled(_text(CHAIN, "GRU"))
    arrays = {name: made.value(name).array() for name in ("w1", "r1", "b1", "between")}
    keep = np.array([True, False, True, True, False, True])
    remove_units(made, found.cut({"w1": keep}), RULES)
    ir.verify(made)
    rows = np.flatnonzero(np.tile(keep, 3))
    assert made.nodes("GRU")[0].attribute("hidden_size") == 4
    assert made.nodes("GRU")[1].attribute("hidden_size") == 6
    np.testing.assert_array_equal(made.value("w1").array(), arrays["w1"][:, rows])
    np.testing.assert_array_equal(made.value("r1").array(), arrays["r1"][:, rows][:, :, keep])
    np.testing.assert_array_equal(made.value("b1").array(), arrays["b1"][:, np.tile(keep, 6)])
    np.testing.assert_array_equal(made.value("between").array(), arrays["between"][:, keep])
    assert made.value("a").shape == (5, 1, 2, 4)


FULL = """
g (float[5,2,3] x) => (float[5,2,7] y, float[2,7] z, float[2,7] w)
<float[2,24,3] w1, float[2,24,6] r1, float[2,48] b1, int32[2] lengths = {5, 3},
 float[2,2,6] h0, float[2,2,6] c0, float[2,18] p1,
 float[2,6,7] out, float[2,6,7] of_h, float[2,6,7] of_c> {
  a, h, c = LSTM<hidden_size = 6, direction = "bidirectional", clip = 3.0,
                 activations = ["Sigmoid", "Tanh", "Softsign", "Sigmoid", "Relu", "Tanh"]>(
    x, w1, r1, b1, lengths, h0, c0, p1)
  y = Einsum<equation = "sdbh,dho->sbo">(a, out)
  z = Einsum<equation = "dbh,dho->bo">(h, of_h)
  w = Einsum<equation = "dbh,dho->bo">(c, of_c)
}
"""


def test_states_peepholes_and_lengths() -> None:
    found = assert_oracle(FULL)
    (group,) = found.groups
    assert group.size == 6
    assert {axis.value.name for axis in group.axes} == {
        *("w1", "r1", "b1", "h0", "c0", "p1", "a", "h", "c", "out", "of_h", "of_c")
    }


def test_the_last_state_alone() -> None:
    text = """
    g (float[5,2,3] x) => (float[2,7] z)
    <float[1,18,3] w1, float[1,18,6] r1, float[1,6,7] of_h> {
      , h = GRU<hidden_size = 6, linear_before_reset = 1>(x, w1, r1)
      z = Einsum<equation = "dbh,dho->bo">(h, of_h)
    }
    """
    found = assert_oracle(text.replace("      , h", "      unread, h"))
    assert [group.size for group in found.groups] == [6]
    model = graph(text.replace("      , h", '      "", h'))
    assert model.nodes("GRU")[0].outputs[0].name == ""
    assert [group.size for group in assert_oracle(model).groups] == [6]


def test_states_that_come_from_another_network_lose_the_same_units() -> None:
    found = assert_oracle(
        """
    g (float[5,2,3] x, float[4,2,3] z) => (float[4,2,7] y)
    <float[1,24,3] w1, float[1,24,6] r1, float[1,24,3] w2, float[1,24,6] r2, float[1,6,7] out> {
      a, h, c = LSTM<hidden_size = 6>(x, w1, r1)
      b = LSTM<hidden_size = 6>(z, w2, r2, , , h, c)
      y = Einsum<equation = "sdbh,dho->sbo">(b, out)
    }
    """.replace("r2, , , h", 'r2, "", "", h')
    )
    (group,) = found.groups
    assert {axis.value.name for axis in group.axes} >= {"w1", "r1", "h", "c", "w2", "r2", "out"}


def test_weights_that_two_nodes_read_lose_the_same_units() -> None:
    found = assert_oracle("""
    g (float[5,2,3] x, float[4,2,3] z) => (float[4,2,7] y)
    <float[1,24,3] w1, float[1,24,6] r1, float[1,6,7] out, float[1,6,7] other> {
      a, h = LSTM<hidden_size = 6>(x, w1, r1)
      b = LSTM<hidden_size = 6>(z, w1, r1)
      c = Einsum<equation = "dbh,dho->bo">(h, other)
      d = Einsum<equation = "sdbh,dho->sbo">(b, out)
      y = Add(c, d)
    }
    """)
    assert [group.size for group in found.groups] == [6]


def test_recurrent_weights_that_are_computed() -> None:
    found = assert_oracle("""
    g (float[5,2,3] x) => (float[5,2,7] y)
    <float[1,6,4] w1, float[1,6,6] stored, float[3,4] front, float[1,6,7] out> {
      f = MatMul(x, front)
      w = Tanh(w1)
      r = Tanh(stored)
      a = RNN<hidden_size = 6>(f, w, r)
      y = Einsum<equation = "sdbh,dho->sbo">(a, out)
    }
    """)
    assert sorted(group.size for group in found.groups) == [4, 6]


EXPORTED = """
g (float[2,5,3] x) => (float[2,5,7] y, float[2,24] z)
<float[2,24,3] w1, float[2,24,6] r1, float[2,48] b1, float[2,24,12] w2, float[2,24,6] r2,
 float[1,18,12] w3, float[1,18,6] r3, float[6,7] out, float[24,24] last, int64[1] axis = {1},
 int64[3] wide = {0, 0, -1}, int64[2] flat = {2, -1}> {
  t = Transpose<perm = [1, 0, 2]>(x)
  a, ah = LSTM<hidden_size = 6, direction = "bidirectional">(t, w1, r1, b1)
  at = Transpose<perm = [0, 2, 1, 3]>(a)
  aj = Reshape(at, wide)
  b, bh = LSTM<hidden_size = 6, direction = "bidirectional">(aj, w2, r2)
  bt = Transpose<perm = [0, 2, 1, 3]>(b)
  bj = Reshape(bt, wide)
  c = GRU<hidden_size = 6>(bj, w3, r3)
  cs = Squeeze(c, axis)
  ct = Transpose<perm = [1, 0, 2]>(cs)
  y = MatMul(ct, out)
  hs = Concat<axis = 0>(ah, bh)
  ht = Transpose<perm = [1, 0, 2]>(hs)
  hf = Reshape(ht, flat)
  z = Gemm(hf, last)
}
"""


def test_layers_the_way_that_exporters_write_them() -> None:
    found = assert_oracle(EXPORTED)
    sizes = {group.name: group.size for group in found.groups}
    assert sizes == {"w1": 6, "w3": 6}, "the states are concatenated along the directions"
    features = found.groups[0].units
    assert "`w2` axis 1" in {axis.label for axis in features}


@st.composite
def stacks(draw: Any) -> str:
    """Return the text of layers of any kind on top of each other."""
    head = "g (float[4,2,3] x) => (float[4,2,2] y)"
    weights, lines, source, size = [], [], "x", 3
    for index in range(draw(st.integers(1, 3))):
        op = draw(st.sampled_from(sorted(GATES)))
        direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
        count, gates, units = 1 + (direction == "bidirectional"), GATES[op], draw(st.integers(1, 5))
        optional = [
            *(f"float[{count},{2 * gates * units}] b", "int32[2] n", f"float[{count},2,{units}] h"),
            *((f"float[{count},2,{units}] c", f"float[{count},{3 * units}] p") * (op == "LSTM")),
        ]
        chosen = [given if draw(st.booleans()) else None for given in optional]
        weights += [f"float[{count},{gates * units},{size}] w{index}"]
        weights += [f"float[{count},{gates * units},{units}] r{index}"]
        weights += [f"{given}{index}{LENGTHS * (given[-1] == 'n')}" for given in chosen if given]
        inputs = [f"{given[-1]}{index}" if given else '""' for given in chosen]
        call = ", ".join([source, f"w{index}", f"r{index}", *inputs])
        attributes = f'hidden_size = {units}, direction = "{direction}"'
        lines.append(f"a{index} = {op}<{attributes}>({call})")
        size = draw(st.integers(1, 5))
        weights.append(f"float[{count},{units},{size}] m{index}")
        lines.append(f'o{index} = Einsum<equation = "sdbh,dho->sbo">(a{index}, m{index})')
        source = f"o{index}"
    weights.append(f"float[{size},2] last")
    body = "\n  ".join([*lines, f"y = MatMul({source}, last)"])
    return f"{head}\n<{', '.join(weights)}> {{\n  {body}\n}}"


LENGTHS = " = {4, 3}"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stacks(), st.floats(0.1, 0.9), st.integers(0, 99))
def test_any_stack_of_layers_satisfies_the_oracle(text: str, fraction: float, seed: int) -> None:
    pruned, silenced, _, found = prune_at_random(text, fraction, seed)
    assert all(group.is_exact for group in found.groups)
    ir.verify(pruned)
    for feed in random_feeds(pruned, seed=seed):
        expected = run(silenced, feed, optimize=False)
        assert disagreement(expected, run(pruned, feed, optimize=False)) <= 1e-5


# -- what is left alone --------------------------------------------------------------------


def test_a_state_that_is_fed_keeps_the_units() -> None:
    made, found = coupled("""
    g (float[5,2,3] x, float[1,2,6] h0) => (float[5,2,7] y)
    <float[1,6,3] w1, float[1,6,6] r1, float[1,6,7] out> {
      a = RNN<hidden_size = 6>(x, w1, r1, "", "", h0)
      y = Einsum<equation = "sdbh,dho->sbo">(a, out)
    }
    """)
    assert not found.groups
    ((_, why),) = found.why(made.value("r1"), 2)
    assert why == "it is an input of the model"


def test_steps_and_directions_stay() -> None:
    made, found = coupled(_text(CHAIN, "LSTM", "bidirectional"))
    assert [why for _, why in found.why(made.value("a"), 0)] == ["LSTM `a` fixes it"]
    assert [why for _, why in found.why(made.value("a"), 1)] == ["LSTM `a` fixes it"]


def test_samples_first() -> None:
    # onnxruntime does not run this layout on a CPU, so there is no oracle to ask.
    made, found = coupled("""
    g (float[2,5,3] x) => (float[2,5,7] y)
    <float[2,18,3] w1, float[2,18,6] r1, float[2,2,6] h0, float[2,6,7] out> {
      a, h = GRU<hidden_size = 6, layout = 1, direction = "bidirectional">(
        x, w1, r1, "", "", h0)
      y = Einsum<equation = "bsdh,dho->bso">(a, out)
    }
    """)
    assert made.value("a").shape == (2, 5, 2, 6)
    (group,) = found.groups
    assert {axis.label for axis in group.axes} == {
        *("`a` axis 3", "`h` axis 2", "`h0` axis 2", "`out` axis 1"),
        *("`r1` axis 1", "`r1` axis 2", "`w1` axis 1"),
    }
    assert [why for _, why in found.why(made.value("a"), 0)] == ["it is an input of the model"]


@pytest.mark.parametrize("op", ["DynamicQuantizeLSTM", "AttnLSTM"])
def test_packed_weights_have_no_rule(op: str) -> None:
    assert f"com.microsoft.{op}" not in RULES


@pytest.mark.parametrize(
    ("name", "shape"),
    [("a", (5, 1, 2, 5)), ("a", (5, 2, 6)), ("f", (5, 2, 9)), ("b1", (1, 24)), ("w1", (1, 6, 10))],
)
def test_sizes_that_contradict_each_other_freeze(name: str, shape: tuple[int, ...]) -> None:
    model = graph(_text(CHAIN, "LSTM"))
    ir.infer_shapes(model)
    value = model.value(name)
    if value.is_constant:
        model.set_tensor(value, ir.Tensor.from_array(np.zeros(shape, dtype=np.float32)))
    value.shape = shape
    model.nodes("MatMul")[0].set_input(1, model.add_constant("other", np.zeros((3, shape[-1]))))
    found = couple(model, RULES)
    why = "the sizes around LSTM `a` contradict each other"
    assert why in reasons(found)["`r1` axis 2"]


def test_sizes_that_are_not_known() -> None:
    found = assert_oracle("""
    g (float[s,b,3] x) => (float[s,b,7] y)
    <float[1,24,3] w1, float[1,24,6] r1, float[1,6,7] out> {
      a = LSTM<hidden_size = 6>(x, w1, r1)
      y = Einsum<equation = "sdbh,dho->sbo">(a, out)
    }
    """)
    assert [group.size for group in found.groups] == [6]
