"""How many heavy operators run in integer, as `compile` prints it."""

from __future__ import annotations

from graphopt.cli.render_compile import census
from graphopt.cli.render_explain import node_page
from graphopt.report import OperatorRecord

WHY = "float arithmetic on 4-bit weights: accuracy_level is 0"
PACKED = OperatorRecord("b", "MatMulNBits", "weight-only", "MatMulNBits", WHY)
INTEGER = OperatorRecord("a", "DynamicQuantizeMatMul", "integer", "DynamicQuantizeMatMul")
FLOAT = OperatorRecord("c", "Attention", "float", "Attention", "onnxruntime computes it in float")


def test_packed_weights_are_no_integers_and_no_plain_floats() -> None:
    assert census([INTEGER, PACKED, FLOAT]) == [
        "1 of 3 heavy operators run in integer, 1 in float on packed weights, 1 in float",
        "  1 on packed weights: `b`: float arithmetic on 4-bit weights: accuracy_level is",
        "    0",
        "  1 in float: `c`: onnxruntime computes it in float",
    ]


def test_without_packed_weights_nothing_is_said_of_them() -> None:
    assert census([INTEGER]) == ["1 of 1 heavy operator run in integer, 0 in float"]


def test_explain_says_how_packed_weights_are_multiplied() -> None:
    found = {"node": "b", "operators": [vars(PACKED)], "explanations": []}
    text = " ".join(" ".join(node_page(found)).split())
    assert f"runs in float on packed weights as MatMulNBits: {WHY}" in text
