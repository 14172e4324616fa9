"""Every fault that other tools leave behind is found where it is, and nowhere else."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.analysis.quantization import Rules, affine, diagnose, has_quantization
from graphopt.errors import CODES, ModelError
from graphopt.runtime import open_with_census
from graphopt.targets.fusion import fusion_table
from graphopt.testing import graph, named_target, random_feeds
from tests.quantized import ARM, CASES, CONV, X86, Case, pair


def codes(case: Case) -> set[str]:
    made = case.graph()
    ir.infer_shapes(made)
    target = named_target(case.target)
    return {f.code for f in diagnose(made, Rules(fusion_table(target.runtime), target))}


@pytest.mark.parametrize("name", CASES)
def test_the_fault_is_found(name: str) -> None:
    found = codes(CASES[name])
    assert CASES[name].code in found
    assert found <= CODES.keys()


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.opens])
def test_the_runtime_agrees_that_it_is_a_fault(name: str) -> None:
    case = CASES[name]
    made = case.graph()
    _, census = open_with_census(made, named_target(case.target))
    floats = [e for e in census.heavy if not e.integer]
    assert bool(floats) == case.floats
    if case.code in {"D105", "D106", "D111", "D104"}:
        assert "QLinearMul" not in str(census.kernels)
        assert census.kernels["DequantizeLinear"] > 1


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if not c.opens])
def test_the_runtime_refuses_it(name: str) -> None:
    made = CASES[name].graph()

    def start() -> None:
        session, _ = open_with_census(made, named_target(CASES[name].target))
        session.run(random_feeds(made)[0])

    with pytest.raises(ModelError):
        start()


@pytest.mark.parametrize("target", [X86, ARM])
@pytest.mark.parametrize(
    "body",
    [
        CONV + pair("c", "y"),
        CONV + "r = Relu (c) " + pair("r", "y", "s", "z0"),
        CONV + pair("c", "d") + "f = Add (d, a) " + pair("f", "y"),
        CONV + pair("c", "d") + "y = Exp (d)",
    ],
)
def test_what_fuses_has_no_finding(body: str, target: str) -> None:
    case = Case("", body, target=target)
    assert codes(case) == set()
    _, census = open_with_census(case.graph(), named_target(target))
    assert all(e.integer for e in census.heavy)


def test_signs_are_a_matter_of_the_target() -> None:
    case = CASES["signed residual"]
    assert codes(Case("", case.body, target=ARM)) == set()


def test_parameters_that_are_computed_are_left_alone() -> None:
    made = graph(
        "m (float[1, 4] x, float s) => (float[1, 4] y) <uint8 z = {0}> {"
        " q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"
    )
    assert affine(made.nodes("QuantizeLinear")[0]) is None
    assert has_quantization(made)
    target = named_target(X86)
    assert diagnose(made, Rules(fusion_table(target.runtime), target)) == ()


def test_bodies_are_looked_at() -> None:
    made = graph(
        """m (bool c, float[1, 4] x) => (float[1, 4] y) {
        y = If (c) <
          then_branch = t () => (float[1, 4] p) <float s = {0.1}, uint8 z = {0}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) e = Exp (d)
            r = QuantizeLinear (e, s, z) p = DequantizeLinear (r, s, z) },
          else_branch = e () => (float[1, 4] p) { p = Neg (x) } > }"""
    )
    target = named_target(X86)
    found = diagnose(made, Rules(fusion_table(target.runtime), target))
    assert [f.code for f in found] == ["D120"]
