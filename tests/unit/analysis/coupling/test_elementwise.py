"""Element by element, with broadcasting: through the engine, and through the oracle."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.analysis.coupling.rules.elementwise import RULES
from graphopt.testing import graph
from tests.unit.analysis.coupling.pruning import assert_oracle, coupled, reasons

CHAIN = """
g (float[2,3,4] x) => (float[2,2,4] y)
<float[6,3,1] first, float[2,6,1] second, {constants}> {{
  a = Conv(x, first)
  {lines}
  y = Conv(b, second)
}}
"""


def chain(lines: str, constants: str = "float unused") -> str:
    return CHAIN.format(lines=lines, constants=constants)


ANYWHERE = [
    *("Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin"),
    *("Softplus", "Softsign", "Tanh", "ThresholdedRelu", "Celu", "Dropout", "Atan", "Asinh"),
]


@pytest.mark.parametrize("op", ANYWHERE)
def test_a_function_of_one_operand_lets_channels_through(op: str) -> None:
    (group,) = assert_oracle(graph(chain(f"b = {op}(a)"), opset=18)).groups
    assert (group.name, group.size) == ("first", 6)


@pytest.mark.parametrize(
    "lines",
    [
        "b = Clip(a, low, high)",
        "b = Clip(a, , high)",
        "c = Cast<to = 11>(a)\n b = Cast<to = 1>(c)",
        "b = CastLike(a, x)",
        "c = IsNaN(a)\n b = Cast<to = 1>(c)",
        "c = Abs(a)\n d = Sqrt(c)\n e = Log(d)\n f = Reciprocal(e)\n b = Clip(f, low, high)",
        "b = com.microsoft.Gelu(a)",
        "b = com.microsoft.QuickGelu(a)",
        "b = com.microsoft.FastGelu(a)",
        "b, mask = Dropout(a)\n",
        "b = Dropout(a, half, no)",
    ],
)
def test_more_functions_of_one_operand(lines: str) -> None:
    constants = "float low = {-1}, float high = {1}, float half = {0.5}, bool no = {0}"
    (group,) = assert_oracle(graph(chain(lines, constants), opset=18)).groups
    assert group.size == 6


@pytest.mark.parametrize(
    ("lines", "constants"),
    [
        ("b = Add(a, k)", "float[6,1] k"),
        ("b = Add(k, a)", "float[6,4] k"),
        ("b = Sub(a, k)", "float[1,6,1] k"),
        ("b = Mul(a, k)", "float[2,6,4] k"),
        ("b = Mul(a, k)", "float[1,1,1] k"),
        ("b = Mul(a, k)", "float k = {3}"),
        ("b = Mul(a, k)", "float[4] k"),
        ("b = Mul(a, k)", "float[1] k"),
        ("c = Abs(a)\n b = Pow(c, k)", "float k = {0.5}"),
        ("c = Mul(a, a)\n d = Add(c, k)\n b = Div(a, d)", "float[6,1] k = {9,8,7,6,5,4}"),
        ("b = Max(a, k, a)", "float[6,1] k"),
        ("b = Min(a, k, m)", "float[6,1] k, float m = {0}"),
        ("b = Mean(k, a)", "float[6,1] k"),
        ("b = Sum(k, a, m, a)", "float[6,1] k, float[4] m"),
        ("b = PRelu(a, k)", "float[6,1] k"),
        ("c = Less(a, k)\n b = Where(c, a, k)", "float[6,1] k"),
        ("c = Greater(k, a)\n b = Where(c, a, m)", "float[6,1] k, float m = {0}"),
        ("c = GreaterOrEqual(a, k)\n d = Not(c)\n e = And(c, d)\n b = Cast<to=1>(e)", "float[4] k"),
        ("c = Equal(a, k)\n d = Xor(c, m)\n b = Cast<to = 1>(d)", "float[6,1] k, bool[1] m = {1}"),
        ("c = Cast<to = 7>(a)\n d = Mod(c, k)\n b = Cast<to = 1>(d)", "int64 k = {3}"),
        ("b = com.microsoft.BiasGelu(a, k)", "float[4] k"),
        ("b = com.microsoft.FastGelu(a, k)", "float[4] k"),
    ],
)
def test_operands_of_any_shape_lose_what_the_result_loses(lines: str, constants: str) -> None:
    (group,) = assert_oracle(chain(lines, constants)).groups
    assert (group.name, group.size) == ("first", 6)
    labels = {axis.label for axis in group.axes}
    assert {"`a` axis 1", "`first` axis 0", "`second` axis 1"} <= labels
    wide = "6,1] k" in constants or "6,4] k" in constants
    assert any(label.startswith("`k`") for label in labels) == wide


def test_operands_that_are_computed_are_one_group() -> None:
    found = assert_oracle("""
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[6,3,1] one, float[6,3,1] other, float[6,3,4] gate, float[2,6,1] last> {
      a = Conv(x, one)
      b = Conv(x, other)
      c = Conv(x, gate)
      d = Sigmoid(c)
      e = Mul(a, d)
      f = Add(e, b)
      y = Conv(f, last)
    }
    """)
    (group,) = found.groups
    assert {p.weight.value.name for p in group.producers} == {"one", "other", "gate"}


def test_one_channel_for_all_is_left_alone() -> None:
    made, found = coupled("""
    g (float[1,3,4] x) => (float[1,2,4] y)
    <float[6,3,1] many, float[1,3,1] single, float[2,6,1] last> {
      a = Conv(x, many)
      b = Conv(x, single)
      c = Mul(a, b)
      y = Conv(c, last)
    }
    """)
    (group,) = found.groups
    assert made.value("b") not in {axis.value for axis in group.axes}


def test_a_scalar_operand_and_rank_zero_are_no_trouble() -> None:
    _, found = coupled("""
    g (float x) => (float y) <float k = {2}> {
      a = Relu(x)
      b = Add(a, k)
      y = Mul(b, b)
    }
    """)
    assert not found.groups


def test_a_size_that_is_not_known_may_be_one_or_not() -> None:
    made, found = coupled("""
    g (float[1,3,4] x, float[1,C,4] z) => (float[1,2,4] y)
    <float[6,3,1] first, float[2,6,1] last> {
      a = Conv(x, first)
      b = Add(a, z)
      y = Conv(b, last)
    }
    """)
    assert not found.groups
    ((_, why),) = found.why(made.value("first"), 0)
    assert "is not known" in why


def test_dropout_in_training_stays() -> None:
    made, found = coupled(chain("b = Dropout(a, half, yes)", "float half = {0.5}, bool yes = {1}"))
    assert not found.groups
    assert found.why(made.value("a"), 1)[0][1] == "Dropout `b` may draw random numbers"


@pytest.mark.parametrize(
    "line",
    ["b = Add<broadcast = 1, axis = 1>(a, k)", "b = PRelu(a, k)", "b = Mul<broadcast = 1>(a, k)"],
)
def test_old_broadcasting_is_not_guessed_at(line: str) -> None:
    made, found = coupled(f"""
    <ir_version: 3, opset_import: ["": 6]>
    g (float[1,3,6] x, float[6,3,1] first, float[2,6,1] second, float[6] k) => (float[1,2,6] y)
    <float[6,3,1] first, float[2,6,1] second, float[6] k> {{
      a = Conv(x, first)
      {line}
      y = Conv(b, second)
    }}
    """)
    assert not found.groups
    assert any("before operator set 7" in why for _, why in found.why(made.value("a"), 1))


def test_a_gate_of_two_halves_loses_both_at_once() -> None:
    made, found = coupled("""
    g (float[1,4,3] x) => (float[1,4,2] y)
    <float[3,8] first, float[8] bias, float[4,2] second> {
      a = MatMul(x, first)
      b = com.microsoft.BiasSplitGelu(a, bias)
      y = MatMul(b, second)
    }
    """)
    made.value("b").shape = (1, 4, 4)
    made, found = coupled(made)
    (group,) = found.groups
    assert group.size == 4
    units = {axis.label: unit.tolist() for axis, unit in group.units.items()}
    assert units["`a` axis 2"] == units["`bias` axis 0"] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_no_operator_has_two_rules() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)


def test_shapes_that_contradict_each_other_freeze() -> None:
    made = graph(chain("b = Relu(a)"))
    made.value("b").shape = (2, 5, 4)
    made.value("a").shape = (2, 6, 4)
    found = couple(made, {rule.name: rule for rule in RULES})
    assert not found.groups
    assert any("contradict" in why for whys in reasons(found).values() for why in whys)


def test_a_mask_that_nobody_reads_needs_no_shape() -> None:
    made = graph(chain("b, mask = Dropout(a)"), opset=9)
    ir.infer_shapes(made)
    made.value("mask").shape = None
    (group,) = assert_oracle(made).groups
    assert group.size == 6
