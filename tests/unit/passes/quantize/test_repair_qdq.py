"""Repairs are exact: what is mended computes what the file meant, in integer, and stays mended."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.quantization import Rules, diagnose
from graphopt.passes.quantize.repair_qdq import RepairQdq
from graphopt.runtime import open_session, open_with_census
from graphopt.targets.fusion import fusion_table
from graphopt.testing import context, graph, named_target, random_feeds
from tests.quantized import ARM, CASES, Case, pair

STEP = 0.1
"""Largest step of the graphs: an integer kernel may round to the next one."""
FIXABLE = [n for n, c in CASES.items() if c.fixable]
LEFT = [n for n, c in CASES.items() if not c.fixable]


def codes(made: ir.Graph, target: str) -> set[str]:
    known = made.copy()
    ir.infer_shapes(known)
    found = named_target(target)
    return {f.code for f in diagnose(known, Rules(fusion_table(found.runtime), found))}


def repaired(case: Case) -> ir.Graph:
    made = case.graph()
    result = RepairQdq().run(made, context(target=case.target))
    assert result.modified
    assert result.notes
    ir.verify(made)
    return made


@pytest.mark.parametrize("name", FIXABLE)
def test_the_fault_is_gone_and_the_runtime_agrees(name: str) -> None:
    case = CASES[name]
    made = repaired(case)
    assert case.code not in codes(made, case.target)
    session, census = open_with_census(made, named_target(case.target))
    session.run(random_feeds(made)[0])
    if case.floats and case.code != "D121":  # stored in float, on purpose
        assert all(e.integer for e in census.heavy)


@pytest.mark.parametrize("name", FIXABLE)
def test_the_numbers_are_those_that_the_file_meant(name: str) -> None:
    case = CASES[name]
    before, after = case.graph(), repaired(case)
    meant = open_session(before, optimize=False)
    mended = open_session(after, target=named_target(case.target))
    for feed in random_feeds(before, count=3):
        wanted, found = meant.run(feed)[0], mended.run(feed)[0]
        # Exp makes more of the rounding that its removed Q and DQ do no more.
        atol = 2 * STEP if case.code == "D120" else 1.01 * STEP
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("name", FIXABLE)
def test_a_second_repair_finds_nothing(name: str) -> None:
    made = repaired(CASES[name])
    digest = ir.structural_hash(made)
    assert not RepairQdq().run(made, context(target=CASES[name].target)).modified
    assert ir.structural_hash(made) == digest


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_repaired_exactly_stays(name: str) -> None:
    case = CASES[name]
    made = case.graph()
    RepairQdq().run(made, context(target=case.target))
    ir.verify(made)
    assert case.code in codes(made, case.target)


def test_an_excluded_operator_keeps_its_weight() -> None:
    """Trap: onnxruntime would quantize it at load; afterwards it is float to the last bit."""
    case = CASES["excluded conv"]
    before, after = case.graph(), repaired(case)
    _, census = open_with_census(before, None)
    assert [e.integer for e in census.heavy] == [True]
    session, census = open_with_census(after, None)
    assert [e.integer for e in census.heavy] == [False]
    feed = random_feeds(before)[0]
    np.testing.assert_allclose(
        session.run(feed)[0], open_session(before, optimize=False).run(feed)[0], rtol=0, atol=1e-6
    )


def test_scales_over_the_inputs_gave_wrong_results() -> None:
    case = CASES["scales over the inputs"]
    before, after = case.graph(), repaired(case)
    feed = random_feeds(before)[0]
    meant = open_session(before, optimize=False).run(feed)[0]
    assert np.abs(open_session(before).run(feed)[0] - meant).max() > 0.01 * np.abs(meant).max()
    np.testing.assert_allclose(open_session(after).run(feed)[0], meant, rtol=1e-5)


def test_without_widening_saturation_stays() -> None:
    made = CASES["symmetric behind relu"].graph()
    assert not RepairQdq(widen=False).run(made, context()).modified
    assert RepairQdq().run(made, context()).modified


def test_data_that_is_moved_is_quantized_for_the_product_that_waits() -> None:
    case = Case(
        "",
        pair("x", "a")
        + "p = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> (a) "
        + "dw = DequantizeLinear (w, ws, i) c = Conv (p, dw) "
        + pair("c", "y"),
    )
    made = repaired(case)
    _, census = open_with_census(made, None)
    assert [e.integer for e in census.heavy] == [True]


def test_float_models_and_bodies_are_left_alone() -> None:
    made = graph("m (float[1, 4] x) => (float[1, 4] y) { y = Relu (x) }")
    result = RepairQdq().run(made, context())
    assert not result.modified
    assert result.notes == ("the model has no Q and DQ",)


@pytest.mark.parametrize("number", [0.5, -3.0, 0.0, 1e-30])
@pytest.mark.parametrize(("zero", "target"), [("z", "x86-avx512-vnni"), ("i", ARM)])
def test_any_number_is_stored_without_loss(number: float, zero: str, target: str) -> None:
    case = Case("", pair("x", "a", "s", zero) + "f = Add (a, half) " + pair("f", "y", "s", zero))
    made = case.graph()
    half = made.value("half")
    made.set_tensor(half, ir.Tensor.from_array(np.array(number, dtype=np.float32)))
    before = made.copy()
    assert RepairQdq().run(made, context(target=target)).modified
    feed = random_feeds(before)[0]
    plain = open_session(before, optimize=False).run(feed)[0]
    np.testing.assert_array_equal(open_session(made, optimize=False).run(feed)[0], plain)
